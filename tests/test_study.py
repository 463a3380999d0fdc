"""A study as a TOML file: what it can say, what it refuses and how, and that a run's own can be run again."""

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import pytest

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.planning import cells_of
from l2t_bench.engine.study import Study, read_study, write_study
from l2t_bench.engine.suite import Suite
from l2t_bench.errors import UserError
from l2t_bench.units import seconds, size

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
        ({"gradient": {"horizons": [datetime.date(2020, 1, 1)]}}, "must be of numbers, text, lists and tables"),
        ({"teaching": {"lr": float("nan")}}, "must be of numbers, text, lists and tables"),
    ],
)
def test_an_override_of_what_no_cell_has_is_a_mistake(overrides: dict[str, dict[str, object]], said: str) -> None:
    with pytest.raises(UserError) as caught:
        cells_of(Study(("quick",), overrides=overrides))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "a/b"}, "kind must be a name without /"),
        ({"suite": "../../escape"}, "suite must be a name without /"),
        ({"profile": "a:b"}, "profile must be a name without /"),
        ({"seed": 2**70}, "seed must be a whole number below 2^63"),
        ({"problem": "/etc/passwd"}, "problem must be a name that is no absolute path"),
        ({"method": "../mine.py:Mine"}, "method must be a name that is no absolute path and does not climb"),
        ({"settings": {"begun": datetime.date(2020, 1, 1)}}, "not of numbers, text, lists and tables"),
        ({"settings": {"rate": float("inf")}}, "not of numbers, text, lists and tables"),
        ({"settings": {10: 1, 9: 2}}, "keys that are not text"),
    ],
)
def test_a_cell_that_could_not_be_read_back_is_not_planned(
    changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = dataclasses.replace(Cell("own", 1, "p", "kind", "none", "stub", 0, "a:b"), **changes)
    suite = Suite("own", 1, "", {"p": lambda request: [cell]}, "p")
    monkeypatch.setattr("l2t_bench.registry.load_suite", lambda name: suite)
    with pytest.raises(UserError, match="a cell cannot be kept") as caught:
        cells_of(Study(("own",)))
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


@pytest.mark.parametrize("timeout", [90.0, 0.1 + 0.2, 1080000.0, 1234567.0, 1e-7, 1e16, 1e22])
@pytest.mark.parametrize("memory", [2**53 + 1, 10**23 + 1])
def test_limits_are_written_as_they_were_given_and_read_again(tmp_path: Path, timeout: float, memory: int) -> None:
    original = Study(("quick",), timeout=timeout, memory_limit=memory)
    assert study(tmp_path, write_study(original, tmp_path)) == original
    assert study(tmp_path, f'suites = ["quick"]\ntimeout = {timeout!r}').timeout == timeout


def test_a_limit_that_is_no_length_of_time_is_a_mistake(tmp_path: Path) -> None:
    for text in ("inf", "nan", '"1e3s"', "-1.0"):
        with pytest.raises(UserError, match="a duration is written"):
            study(tmp_path, f'suites = ["quick"]\ntimeout = {text}')
    with pytest.raises(UserError, match="timeout must be a positive number of seconds"):
        Study(("quick",), timeout=float("inf"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"repeats": [3, 3]}, "repeats must have a number for each of the horizons [20], not [3, 3]"),
        ({"horizons": []}, "horizons must be a list of positive whole numbers, not []"),
        ({"repeats": []}, "repeats must be a list of positive whole numbers, not []"),
        ({"horizons": [0]}, "horizons must be a list of positive whole numbers, not [0]"),
        ({"horizons": [5, 5], "repeats": [1, 1]}, "a horizon stands twice in [5, 5]"),
    ],
)
def test_settings_that_no_gradient_cell_can_have_are_a_mistake_of_the_plan(
    settings: dict[str, list[int]], said: str
) -> None:
    with pytest.raises(UserError, match="gradient digits/mlp") as caught:
        cells_of(Study(("quick",), profile="smoke", overrides={"gradient": settings}))
    assert said in str(caught.value)


def test_durations_and_sizes() -> None:
    assert (seconds("90s"), seconds("10m"), seconds("2h"), seconds("5")) == (90, 600, 7200, 5)
    assert (size("8GB"), size("8GiB"), size("500 mb"), size("123B"), size("7")) == (8e9, 8 * 2**30, 5e8, 123, 7)
