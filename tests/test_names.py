"""One grammar for names with options: what is written is read back, and what is wrong is named."""

from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import l2t_bench as l2t
from l2t_bench.errors import UnknownNameError
from l2t_bench.modules import mix_seeds
from l2t_bench.names import describe_options, did_you_mean, make, split_list, split_spec, unknown

words = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-./", min_size=1, max_size=12)
option_sets = st.dictionaries(words, words, max_size=4)


def write(name: str, options: dict[str, str]) -> str:
    return f"{name}[{','.join(f'{key}={value}' for key, value in options.items())}]" if options else name


@given(words, option_sets)
def test_a_written_spec_is_read_back(name: str, options: dict[str, str]) -> None:
    assert split_spec(write(name, options)) == (name, options)


@given(words, option_sets, st.sampled_from(["", " ", "  "]))
def test_spaces_around_the_parts_do_not_matter(name: str, options: dict[str, str], space: str) -> None:
    inside = f"{space},{space}".join(f"{key}{space}={space}{value}" for key, value in options.items())
    assert split_spec(f"{space}{name}{space}[{space}{inside}{space}]{space}") == (name, options)


@given(st.lists(st.tuples(words, option_sets), max_size=4))
def test_a_list_of_specs_is_split_between_them_and_not_inside(specs: list[tuple[str, dict[str, str]]]) -> None:
    written = [write(name, options) for name, options in specs]
    assert split_list(",".join(written)) == written


@pytest.mark.parametrize(
    "spec",
    ["", "  ", "rmd[", "rmd]", "rmd[store=all", "[store=all]", "rmd[a=1][b=2]", "rmd[a=[1]]", "rmd[store=all]x"],
)
def test_a_spec_of_another_form_is_answered_with_the_form(spec: str) -> None:
    with pytest.raises(l2t.UserError, match=r"not of the form name\[option=value,option=value\]"):
        split_spec(spec)


@pytest.mark.parametrize("inside", ["store", "store=", "=all", "="])
def test_an_option_without_name_or_value_is_named(inside: str) -> None:
    with pytest.raises(l2t.UserError, match="is not of the form option=value"):
        split_spec(f"rmd[{inside}]")


def test_an_option_that_stands_twice_is_named() -> None:
    with pytest.raises(l2t.UserError, match="option 'store' stands twice"):
        split_spec("rmd[store=all,store=sqrt]")


@dataclass(frozen=True)
class Options:
    """One option of each kind."""

    whole: int = 3
    real: float = 0.5
    flag: bool = False
    word: str = "x"
    choice: Literal["all", "sqrt"] = "all"
    number: Literal[1, 2] = 1
    maybe: int | None = None


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("whole", "-7", -7),
        ("real", "1e-3", 0.001),
        ("real", "2", 2.0),
        ("flag", "true", True),
        ("flag", "False", False),
        ("word", "7", "7"),
        ("choice", "sqrt", "sqrt"),
        ("number", "2", 2),
        ("maybe", "none", None),
        ("maybe", "5", 5),
    ],
)
def test_an_option_takes_the_type_of_its_field(key: str, text: str, value: object) -> None:
    made = getattr(make(Options, "thing", {key: text}), key)
    assert made == value and type(made) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "answer"),
    [
        ("whole", "2.5", "thing: whole must be a whole number, not '2.5'"),
        ("real", "fast", "thing: real must be a finite number, not 'fast'"),
        ("real", "nan", "thing: real must be a finite number, not 'nan'"),
        ("real", "inf", "thing: real must be a finite number, not 'inf'"),
        ("flag", "yes", "thing: flag must be true or false, not 'yes'"),
        ("choice", "sqr", "thing: choice must be one of all, sqrt, not 'sqr': did you mean 'sqrt'?"),
        ("number", "3", "thing: number must be one of 1, 2, not '3'"),
        ("maybe", "x", "thing: maybe must be a whole number, not 'x'"),
    ],
)
def test_a_wrong_value_is_answered_with_what_is_right(key: str, text: str, answer: str) -> None:
    with pytest.raises(l2t.UserError) as caught:
        make(Options, "thing", {key: text})
    assert str(caught.value) == answer


def test_an_unknown_option_is_answered_with_the_nearest_and_the_list() -> None:
    with pytest.raises(l2t.UserError) as caught:
        make(Options, "thing", {"chioce": "all"})
    assert str(caught.value) == (
        "thing has no option 'chioce': did you mean 'choice'?; "
        "its options are whole, real, flag, word, choice, number, maybe"
    )


def test_a_thing_without_options_says_so() -> None:
    @dataclass(frozen=True)
    class Plain:
        pass

    with pytest.raises(l2t.UserError, match="plain has no option 'a'; it has no options"):
        make(Plain, "plain", {"a": "1"})


def test_options_are_listed_with_their_defaults_in_order() -> None:
    listed = describe_options(Options)
    assert list(listed) == ["whole", "real", "flag", "word", "choice", "number", "maybe"]
    assert listed["real"] == 0.5 and listed["maybe"] is None


@given(words)
def test_a_name_one_letter_off_is_recognised(name: str) -> None:
    assume(len(name) >= 4)
    assert did_you_mean(name[:-1], [name]) == f": did you mean {name!r}?"


def test_a_name_like_nothing_known_is_answered_with_all_that_is() -> None:
    error = unknown("backend", "zzz", ["rmd", "higher"])
    assert isinstance(error, UnknownNameError) and isinstance(error, l2t.UserError)
    assert str(error) == "no backend 'zzz'; there are higher, rmd"


@given(st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=4))
def test_a_mixed_seed_is_a_pure_function_into_63_bits(parts: list[int]) -> None:
    assert mix_seeds(*parts) == mix_seeds(*parts)
    assert 0 <= mix_seeds(*parts) < 2**63


@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_mixed_seeds_tell_the_order_and_the_number_of_their_parts(left: int, right: int) -> None:
    assume(left != right)
    assert mix_seeds(left, right) != mix_seeds(right, left)
    assert mix_seeds(left) != mix_seeds(left, 0)
    assert mix_seeds(left) != mix_seeds(right)


def test_mixed_seeds_of_a_grid_are_all_different() -> None:
    grid = {mix_seeds(seed, index) for seed in range(100) for index in range(200)}
    assert len(grid) == 100 * 200
