"""A backend is chosen that can do the problem, fits, is as exact as it says, and takes least; others are explained."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

import l2t_bench as l2t
from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.choice import from_toml
from l2t_bench.errors import Refused, UserError
from l2t_bench.gradient import Capabilities, Exactness, Prediction, Supported, TeacherGradient
from l2t_bench.problem import TeachingProblem
from l2t_bench.selection.elsewhere import choice_of, differences, load_choice
from l2t_bench.selection.proving import Referee
from l2t_bench.selection.records import Accepted, Asked, Candidate, Decision, Quality, least
from l2t_bench.tensors import scaled
from l2t_bench.verification.samples import random_problem

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Stub:
    """A method that predicts what it is told to, with a gradient that is ``factor`` times the exact one."""

    name: str
    seconds: float = 1.0
    bytes: int = MIB
    factor: float = 1.0
    exactness: Exactness = Exactness.EXACT
    refused: str = ""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(self.exactness, ("any",), "")

    def supports(self, problem: TeachingProblem, horizon: int) -> Supported | Refused:
        del problem, horizon
        return Refused(self.refused) if self.refused else Supported()

    def predict(self, problem: TeachingProblem, horizon: int) -> Prediction:
        del problem, horizon
        return Prediction(self.bytes, self.seconds)

    def teacher_gradient(self, *arguments: Any, **options: Any) -> TeacherGradient:
        found = l2t.load_backend("rmd").teacher_gradient(*arguments, **options)
        return dataclasses.replace(found, d_theta=scaled(self.factor, found.d_theta), exactness=self.exactness)


def chosen_among(*stubs: Stub, **asked: Any) -> Decision:
    return l2t.select_backend(random_problem(), horizon=8, backends=list(stubs), **{"memory_limit": "64GB"} | asked)


def why_not(decision: Decision, method: str) -> str:
    return next(each.rejected for each in decision.candidates if each.method == method)


def test_the_fastest_exact_method_is_taken() -> None:
    found = chosen_among(Stub("slow", seconds=2.0), Stub("fast", seconds=1.0))
    assert found.taken().method == "fast"
    assert why_not(found, "slow") == ""  # it could have been taken too


def test_and_where_memory_is_preferred_the_smallest() -> None:
    found = chosen_among(Stub("fast", bytes=2 * MIB), Stub("small", seconds=9.0, bytes=MIB), prefer="memory")
    assert found.taken().method == "small"


def test_what_does_not_fit_is_rejected_with_its_size_and_what_is_left() -> None:
    found = chosen_among(Stub("large", seconds=0.1, bytes=500 * 10**9), Stub("small", seconds=9.0))
    assert found.taken().method == "small"
    assert why_not(found, "large").startswith("would take 500 GB, and ")


def test_a_limit_that_nothing_fits_is_an_error_that_says_the_least_that_would() -> None:
    found = chosen_among(Stub("large", bytes=500 * 10**9), Stub("larger", bytes=900 * 10**9))
    assert found.chosen is None
    with pytest.raises(
        UserError, match=r"the least is 500 GB, by large, above the .* that the process holds, and .* are left"
    ):
        found.taken()


def test_a_method_whose_gradient_is_wrong_on_the_real_student_is_not_taken() -> None:
    found = chosen_among(Stub("right"), Stub("wrong", seconds=0.1, factor=1.001))
    assert found.taken().method == "right"
    assert why_not(found, "wrong") == "its gradient is off by 0.001 from right's in float64 at T=4"


def test_and_where_the_first_is_wrong_differences_tell_it() -> None:
    found = chosen_among(Stub("wrong", factor=1.001), Stub("right"))
    assert found.chosen is None
    assert why_not(found, "wrong").startswith("exact gradients are off by 0.001 from central differences")


def test_a_gradient_that_is_no_number_proves_nothing() -> None:
    decision = chosen_among(Stub("none", factor=math.nan))
    assert "off by nan from central differences" in why_not(decision, "none")


def test_what_refuses_the_problem_says_why() -> None:
    found = chosen_among(Stub("picky", refused="no dropout"), Stub("rmd-like"))
    assert why_not(found, "picky") == "no dropout"


NEAR = Stub("near", seconds=0.1, factor=0.95, exactness=Exactness.TRUNCATED)


def test_approximate_gradients_are_not_taken_unless_asked_for() -> None:
    found = chosen_among(Stub("exact"), NEAR)
    assert found.taken().method == "exact"
    assert why_not(found, "near").startswith("its gradient is truncated, and exact ones are asked for")


def test_and_then_within_cosine_and_norm_ratio_alone() -> None:
    taken = chosen_among(Stub("exact"), NEAR, accepted=Accepted(min_cosine=0.99)).taken()
    assert (taken.method, taken.proof) == ("near", "cosine 1.0000, norm ratio 0.950 at T=8")
    short = dataclasses.replace(NEAR, factor=0.5)  # the right direction, half as long
    found = chosen_among(Stub("exact"), short, accepted=Accepted(min_cosine=0.99))
    assert found.taken().method == "exact"
    assert "norm ratio 0.500 at T=8" in why_not(found, "near")


def test_they_are_held_to_the_longest_affordable_run_and_it_is_said_that_this_is_carried_over() -> None:
    slow = Stub("exact", seconds=35.0)
    found = l2t.select_backend(random_problem(), horizon=40, backends=[slow, NEAR], accepted=Accepted(0.9))
    assert found.taken().proof == "cosine 1.0000, norm ratio 0.950 at T=20, carried over to T=40"


def test_when_the_time_is_up_what_was_not_looked_at_says_so() -> None:
    found = chosen_among(Stub("one"), Stub("two"), seconds=0.0)
    assert found.chosen is None
    assert why_not(found, "two") == "not looked at: the time for the choice was up"


def test_every_registered_method_is_a_candidate_and_each_is_explained() -> None:
    found = l2t.select_backend(random_problem(), horizon=6, memory_limit="64GB", seconds=2.0)
    assert {each.method.partition("[")[0] for each in found.candidates} == set(l2t.list_backends())
    assert all(each.rejected or each.seconds is not None for each in found.candidates)


def test_of_one_methods_ways_those_that_save_memory_which_is_there_are_not_timed() -> None:
    ways = [l2t.load_backend(f"rmd[store={store}]") for store in ("all", "sqrt", "binomial", "graph")]
    found = l2t.select_backend(random_problem(), horizon=30, backends=ways)
    assert found.taken().method in {"rmd", "rmd[store=graph]"}
    assert why_not(found, "rmd[store=binomial]").startswith("slower than rmd")


@dataclasses.dataclass(frozen=True)
class Broken(Backend):
    """Predicts nothing: its differentiation is a mistake of the user's."""

    name = "broken"
    capabilities = Capabilities(Exactness.EXACT, ("any",), "")

    def differentiate(self, run: Run) -> Derivative:
        raise Refused(f"{self.name} cannot do {type(run.problem.student).__name__}")


def test_a_method_that_refuses_when_it_is_run_is_rejected_and_the_others_are_weighed() -> None:
    found = chosen_among(Broken(), Stub("right"))  # type: ignore[arg-type]
    assert found.taken().method == "right"
    assert why_not(found, str(Broken())).startswith("broken cannot do")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"prefer": "beauty"}, "prefer must be time or memory, not 'beauty'"),
        ({"memory_limit": "much"}, "much"),
        ({"horizon": 0}, "horizon must be a positive number of steps, not 0"),
        ({"seconds": math.nan}, "the seconds of the choice must be 0 or more, not nan"),
        ({"seconds": -1.0}, "the seconds of the choice must be 0 or more, not -1"),
    ],
)
def test_what_cannot_be_asked_is_an_error(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        l2t.select_backend(random_problem(), **{"horizon": 5, "backends": [Stub("one")]} | asked)


def test_bounds_that_are_none_are_an_error() -> None:
    with pytest.raises(UserError, match="the least cosine must be from -1 to 1, not 2"):
        Accepted(min_cosine=2.0)
    with pytest.raises(UserError, match=r"the largest norm ratio must be at least 1, not 0\.5"):
        Accepted(max_norm_ratio=0.5)
    assert not Accepted(0.5).takes(Quality(5, 0.9, 0.0))


def test_the_referee_notices_a_derivative_that_is_right_in_direction_alone() -> None:
    assert Referee(random_problem(), Stub("right")).difference < 1e-8
    assert Referee(random_problem(), Stub("short", factor=0.9)).difference == pytest.approx(1 / 9, rel=1e-3)


def test_of_equal_times_the_smaller_is_taken() -> None:
    alike = [Candidate("large", Exactness.EXACT, 2, 1.0), Candidate("small", Exactness.EXACT, 1, 1.0)]
    assert least(alike, "time") == alike[1]


def decided() -> Decision:
    taken = Candidate("rmd[store=sqrt]", Exactness.EXACT, MIB, 0.5, "off by 1e-10 from central differences")
    return Decision(Asked(100, 1 << 30), [taken], taken)


def test_a_decision_is_a_file_and_the_file_a_backend(tmp_path: Path) -> None:
    choice = choice_of(decided(), "digits/mlp", "cpu", 1)
    assert from_toml(choice.to_toml()) == choice
    (file := tmp_path / "backend.toml").write_text(choice.to_toml())
    assert load_choice(file) == l2t.load_backend("rmd[store=sqrt]")


def test_on_another_machine_or_with_other_versions_it_warns(tmp_path: Path) -> None:
    choice = choice_of(decided(), "digits/mlp", "cpu", 1)
    elsewhere = dataclasses.replace(
        choice, machine={**choice.machine, "cpu": "a slide rule"}, versions={**choice.versions, "torch": "0.1"}
    )
    machine, versions = differences(elsewhere, "cpu", 1)
    assert "chosen with other machine (cpu a slide rule, here " in machine
    assert "chosen with other versions (torch 0.1, here " in versions
    (file := tmp_path / "backend.toml").write_text(elsewhere.to_toml())
    with pytest.warns(UserWarning, match="a slide rule"), pytest.warns(UserWarning, match="other versions"):
        load_choice(file)


def test_a_file_that_names_a_missing_backend_is_an_error(tmp_path: Path) -> None:
    choice = dataclasses.replace(choice_of(decided(), "digits/mlp", "cpu", 1), name="rdm", options={})
    (file := tmp_path / "backend.toml").write_text(choice.to_toml())
    with pytest.raises(UserError, match="rdm"):
        load_choice(file)


def test_a_file_that_is_not_there_or_is_none_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.toml cannot be read"):
        load_choice(tmp_path / "nowhere.toml")
    (file := tmp_path / "backend.toml").write_text("name = ")
    with pytest.raises(UserError, match=r"backend\.toml: .* no TOML"):
        load_choice(file)


def test_a_choice_by_results_rests_on_the_machine_that_measured_them() -> None:
    measured = dataclasses.replace(decided(), measured_on={"cpu": "a slide rule", "torch": "0.1", "libraries": {}})
    choice = choice_of(measured, "digits/mlp", "cpu", 1)
    assert choice.machine == {"cpu": "a slide rule"} and choice.versions == {"torch": "0.1"}
    assert "measured at T=100" in choice.why
