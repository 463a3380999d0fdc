"""``backend.toml``: what is written is read back, and what is wrong with one is said."""

import pytest

from l2t_bench.choice import Choice, choice_for, from_toml
from l2t_bench.errors import UserError

CHOICE = choice_for(
    "truncated[window=10,store=sqrt]",
    problem="digits/mlp",
    horizon=100,
    why='Fastest: "0.53" × the time\nof higher',
    machine={"cpu": "Example CPU", "cores": 2},
    versions={"python": "3.11.7", "torch": "2.15.0"},
)


def test_a_choice_is_read_back_as_it_was_written() -> None:
    assert from_toml(CHOICE.to_toml()) == CHOICE
    assert CHOICE.name == "truncated" and CHOICE.method == "truncated[store=sqrt,window=10]"


def test_a_choice_is_loaded_by_its_method() -> None:
    from l2t_bench.registry import load_backend

    assert str(load_backend(choice_like(CHOICE, "rmd[store=sqrt]").method)) == "rmd[store=sqrt]"


def choice_like(choice: Choice, method: str) -> Choice:
    return choice_for(
        method,
        problem=choice.problem,
        horizon=choice.horizon,
        why=choice.why,
        machine=choice.machine,
        versions=choice.versions,
    )


def test_options_may_be_written_as_numbers_and_truth_values() -> None:
    written = CHOICE.to_toml().replace('window = "10"', "window = 10").replace('store = "sqrt"', "hyper = true")
    assert from_toml(written).options == {"window": "10", "hyper": "true"}


def test_a_choice_without_options_is_one() -> None:
    bare = choice_like(CHOICE, "higher")
    assert from_toml(bare.to_toml()) == bare and bare.method == "higher"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("schema = 1", "schema = 2"), "must say schema = 1"),
        (("schema = 1\n", ""), "must say schema = 1"),
        (("horizon = 100", "horizon = 0"), "horizon must be a whole number of steps, 1 or more, not 0"),
        (("horizon = 100", "horizon = true"), "horizon must be"),
        (("horizon = 100", "horizont = 100"), "no key 'horizont': did you mean 'horizon'"),
        (('name = "truncated"\n', ""), "lacks 'name'"),
        (('name = "truncated"', 'name = ""'), "name must be the backend's name"),
        (("cores = 2", "cores = [2]"), "machine must be a table of texts and whole numbers"),
        (('python = "3.11.7"', "python = 3.11"), "versions must be a table of texts"),
        (("[options]", "[options"), "is no TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(change: tuple[str, str], told: str) -> None:
    written = CHOICE.to_toml().replace(*change)
    assert written != CHOICE.to_toml()
    with pytest.raises(UserError) as error:
        from_toml(written)
    assert told in str(error.value)
