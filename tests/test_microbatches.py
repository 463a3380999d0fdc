"""``microbatches``: a step's batch is taken part by part, for the same derivative in memory for a part's graph."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.adam import Adam
from l2t_bench.losses.dynamic import bilinear_sigmoid
from l2t_bench.optimizers import SGD, Optimizer
from l2t_bench.problem import TeachingProblem
from l2t_bench.tensors import relative_difference
from l2t_bench.verification.samples import random_problem

BATCH = 8  # of the random problem
HORIZON = 5
SAME = 1e-12  # in float64: the parts' sums are taken in another order


def of_problem(method: str, problem: TeachingProblem) -> l2t.TeacherGradient:
    return l2t.load_backend(method).teacher_gradient(problem, problem.init_teacher(3), horizon=HORIZON)


@pytest.mark.parametrize("parts", [2, 3, 8, 11])
@pytest.mark.parametrize("options", ["", ",store=sqrt", ",store=binomial", ",hvp=for", ",hyper=true"])
def test_the_derivative_is_that_of_whole_batches(parts: int, options: str) -> None:
    """Three and eleven parts of eight examples are not equally large, or empty."""
    problem = random_problem()
    whole, found = of_problem("rmd[hyper=true]", problem), of_problem(f"rmd[microbatches={parts}{options}]", problem)
    assert found.exactness is l2t.Exactness.EXACT
    assert relative_difference(found.d_theta, whole.d_theta) < SAME
    assert relative_difference(found.d_omega0 or {}, whole.d_omega0 or {}) < SAME
    assert found.value == pytest.approx(whole.value, rel=SAME)
    if "hyper" in options:
        assert relative_difference(found.hyper, whole.hyper) < SAME


@pytest.mark.parametrize(
    "optimizer",
    [Adam(lr=0.05, weight_decay=0.1), SGD(lr=0.3, momentum=0.9, clip=0.05), SGD(lr=0.2, momentum=0.9, nesterov=True)],
    ids=["Adam", "clipped gradients", "Nesterov"],
)
def test_an_optimiser_that_reads_the_gradient_is_given_that_of_the_whole_batch(optimizer: Optimizer) -> None:
    problem = random_problem(optimizer=optimizer)
    found, whole = of_problem("rmd[microbatches=3]", problem), of_problem("rmd", problem)
    assert relative_difference(found.d_theta, whole.d_theta) < SAME


def test_truncated_gradients_are_those_of_whole_batches() -> None:
    problem = random_problem()
    found, whole = of_problem("truncated[window=2,microbatches=4]", problem), of_problem("truncated[window=2]", problem)
    assert relative_difference(found.d_theta, whole.d_theta) < SAME


def test_a_reversible_run_is_undone_to_its_first_bit() -> None:
    found = of_problem("rmd[store=reversible,microbatches=2]", random_problem())
    whole = of_problem("rmd[store=reversible]", random_problem())
    assert relative_difference(found.d_theta, whole.d_theta) < 1e-6  # of two runs in fixed point, rounded apart


def test_no_more_than_a_part_is_taken_at_once_but_for_the_two_forward_passes_of_the_first_look() -> None:
    sizes: list[int] = []

    def seen(output: Tensor, target: Tensor, phi: Any) -> Tensor:
        sizes.append(len(target))
        return bilinear_sigmoid(output, target, phi)

    problem = replace(random_problem(), loss=seen)
    of_problem("rmd[microbatches=4]", problem)
    sizes.clear()  # what is looked at once for a problem
    of_problem("rmd[microbatches=4]", problem)
    # There and back, and the gradient of the last step twice more, which the way back is held to: no pass but the two.
    assert sizes == [BATCH] * 2 + [BATCH // 4] * (2 * 4 * HORIZON + 2 * 4)


def of_pairs(output: Tensor, target: Tensor, phi: Any) -> Tensor:
    return bilinear_sigmoid(output, target, phi) + torch.cdist(output, output).mean()


def of_a_sum(output: Tensor, target: Tensor, phi: Any) -> Tensor:
    return len(target) * bilinear_sigmoid(output, target, phi)


def of_all_but_the_last(output: Tensor, target: Tensor, phi: Any) -> Tensor:
    """As a mean over words that are no padding, where the first examples have as many as each other."""
    return bilinear_sigmoid(output[: BATCH - 1], target[: BATCH - 1], phi)


def with_layer(layer: nn.Module) -> TeachingProblem:
    return random_problem(student=nn.Sequential(nn.Linear(6, 7), layer, nn.Tanh(), nn.Linear(7, 4)))


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        pytest.param(lambda: with_layer(nn.BatchNorm1d(7)), "moves the student's buffer", id="batch normalisation"),
        pytest.param(lambda: with_layer(nn.Dropout(0.5)), "dropout draws its mask", id="dropout"),
        pytest.param(lambda: replace(random_problem(), loss=of_pairs), "no mean over the examples", id="pairs"),
        pytest.param(lambda: replace(random_problem(), loss=of_a_sum), "no mean over the examples", id="a sum"),
    ],
)
def test_a_step_that_is_no_mean_over_its_examples_is_refused(problem: Callable[[], TeachingProblem], said: str) -> None:
    with pytest.raises(l2t.Refused, match=said) as raised:
        of_problem("rmd[microbatches=4]", problem())
    assert "microbatches=4" in str(raised.value) and "shard" not in str(raised.value)


def test_the_last_example_of_a_batch_is_looked_at_too() -> None:
    with pytest.raises(l2t.Refused, match="no mean over the examples"):
        of_problem("rmd[microbatches=2]", replace(random_problem(), loss=of_all_but_the_last))


def test_each_example_normalised_by_itself_is_not_refused() -> None:
    problem = with_layer(nn.LayerNorm(7))
    found, whole = of_problem("rmd[microbatches=4]", problem), of_problem("rmd", problem)
    assert relative_difference(found.d_theta, whole.d_theta) < SAME


@pytest.mark.parametrize("options", ["engine=compiled", "engine=graphed", "store=graph", "students=2"])
def test_options_that_take_batches_whole_are_a_mistake_beside_it(options: str) -> None:
    with pytest.raises(l2t.UserError, match=r"microbatches=2: .*; take "):
        l2t.load_backend(f"rmd[microbatches=2,{options}]")


@pytest.mark.parametrize("given", ["0", "-1", "1.5"])
def test_a_number_of_parts_that_is_none_is_a_mistake(given: str) -> None:
    with pytest.raises(l2t.UserError, match="microbatches"):
        l2t.load_backend(f"rmd[microbatches={given}]")


def test_its_variants_and_choices_can_all_be_made() -> None:
    backend = l2t.load_backend("rmd[microbatches=2]")
    stores = {variant.store for variant in backend.variants()}  # type: ignore[attr-defined]
    assert stores == {"all", "sqrt", "binomial", "disk", "host", "reversible"}
    assert {choice.engine for choice in backend.choices(10)} == {"eager"}  # type: ignore[attr-defined]


def test_auto_never_compiles_a_batch_that_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l2t_bench.steppers.catalogue.PAYS_FROM", 0)
    problem = random_problem()
    found, whole = of_problem("rmd[engine=auto,microbatches=2]", problem), of_problem("rmd", problem)
    assert relative_difference(found.d_theta, whole.d_theta) < SAME
    assert found.cost.seconds_compile == 0
