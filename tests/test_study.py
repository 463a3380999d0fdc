"""A study as a TOML file: what it can say, what it refuses and how, and that a run's own can be run again."""

from pathlib import Path

import pytest

from l2t_bench.engine.planning import cells_of
from l2t_bench.engine.study import Study, read_study, seconds, size, write_study
from l2t_bench.errors import UserError

FULL = """
suites = ["quick"]
profile = "smoke"
backends = ["rmd", {name = "truncated", window = 5}]
problems = ["digits/mlp[hidden=8]"]
seeds = [3, 4]
rounds = 2
timeout = "90s"
memory_limit = "8GB"

[overrides.gradient]
horizons = [5]
repeats = [1]
"""


def study(folder: Path, text: str) -> Study:
    file = folder / "study.toml"
    file.write_text(text)
    return read_study(file)


def test_a_file_says_all_that_the_command_line_can(tmp_path: Path) -> None:
    found = study(tmp_path, FULL)
    assert found.backends == ("rmd", "truncated[window=5]")
    assert (found.timeout, found.memory_limit, found.seeds) == (90.0, 8 * 10**9, (3, 4))
    cells = cells_of(found)
    assert len(cells) == 2 * 2 * 2 and {cell.round for cell in cells} == {0, 1}
    assert all(cell.settings == {"horizons": [5], "repeats": [1]} for cell in cells)
    assert len({cell.cell_id for cell in cells}) == 8


def test_what_a_run_writes_of_its_study_is_the_same_study(tmp_path: Path) -> None:
    plugin = tmp_path / "elsewhere" / "mine.py"
    found = Study(("quick",), seeds=(0, 2), memory_limit=10**9, overrides={"gradient": {"horizons": [5]}})
    for original in (found, Study(("quick",), plugins=(str(plugin),))):
        assert study(tmp_path, write_study(original, tmp_path)) == original


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('suites = ["quick"]\nseds = 3', "unknown key 'seds': did you mean 'seeds'"),
        ("seeds = 3", "'suites' is missing"),
        ('suites = "quick"', "suites must be a list"),
        ('suites = ["quick"]\nseeds = "three"', "a number of seeds, or a list"),
        ('suites = ["quick"]\nseeds = true', "a number of seeds, or a list"),
        ('suites = ["quick"]\nseeds = 0', "at least 1"),
        ('suites = ["quick"]\nseeds = [1, 1]', "1 stands twice"),
        ('suites = ["quick"]\nrounds = 1.5', "rounds must be a whole number"),
        ('suites = ["quick"]\nbackends = ["rmd", "rmd"]', "rmd stands twice"),
        ('suites = ["quick"]\nbackends = [{window = 5}]', "an entry is a name"),
        ('suites = ["quick"]\ntimeout = "soon"', "90s, 10m or 2h"),
        ('suites = ["quick"]\nmemory_limit = "8 apples"', "8GB"),
        ('suites = ["quick"]\nschema = 9', "schema 9"),
        ("suites = [", "is not TOML"),
    ],
)
def test_a_mistake_in_a_file_names_the_file_and_the_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=r"study\.toml") as caught:
        study(tmp_path, text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"gradients": {"horizons": [5]}}, "did you mean 'gradient'"),
        ({"gradient": {"horizon": [5]}}, "did you mean 'horizons'"),
        ({"gradient": {"horizons": 5}}, "where the suite has"),
        ({"gradient": {"horizons": ["5"]}}, "where the suite has"),
    ],
)
def test_an_override_of_what_no_cell_has_is_a_mistake(overrides: dict[str, dict[str, object]], said: str) -> None:
    with pytest.raises(UserError) as caught:
        cells_of(Study(("quick",), overrides=overrides))
    assert said in str(caught.value)


def test_backends_in_other_blanks_and_orders_are_the_same_cells(tmp_path: Path) -> None:
    one = cells_of(Study(("quick",), profile="smoke", backends=("truncated[window=5]",)))
    other = cells_of(Study(("quick",), profile="smoke", backends=(" truncated [ window = 5 ]",)))
    assert [cell.cell_id for cell in one] == [cell.cell_id for cell in other]


def test_a_round_interleaves_what_is_compared() -> None:
    cells = [cell for cell in cells_of(Study(("quick",), seeds=(0, 1), rounds=3)) if cell.timed]
    blocks = [(cell.round, cell.seed) for cell in cells]
    assert blocks == sorted(blocks), "a seed of a round is done before the next begins"
    orders = {tuple((cell.problem, cell.method) for cell in cells[at : at + 12]) for at in range(0, len(cells), 12)}
    assert len(orders) == 6, "in another order each time"


def test_durations_and_sizes() -> None:
    assert (seconds("90s"), seconds("10m"), seconds("2h"), seconds("5")) == (90, 600, 7200, 5)
    assert (size("8GB"), size("8GiB"), size("500 mb"), size("123B"), size("7")) == (8e9, 8 * 2**30, 5e8, 123, 7)
