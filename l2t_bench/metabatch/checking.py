"""Stacked steps held to each student's own, before a run is built on them."""

import torch

from l2t_bench.adjoint import Visit
from l2t_bench.metabatch.problem import StackedProblem
from l2t_bench.metabatch.stacking import Apart, stacked, states_apart, taken_apart
from l2t_bench.optimizers import Adjoint
from l2t_bench.problem import Step, StudentState
from l2t_bench.second_order import Maker
from l2t_bench.steppers.comparing import plain_both_ways, random_adjoint
from l2t_bench.tensors import Tensors, relative_difference


def check_stacked(
    problem: StackedProblem, theta: Tensors, maker: Maker, state: StudentState, step: Step, own: list[Step]
) -> None:
    """Take the first step, and a step back from adjoints at random, stacked and student by student; once for a problem.

    Raises ``Apart`` where they differ by more than half of the digits: a batching rule of torch's may be wrong.
    """
    if problem.derived.get(key := ("stacked steps", maker)):
        return
    states, thetas = states_apart(state, problem.count), taken_apart(theta, problem.count)
    names, bound = problem.optimizer.slot_names, torch.finfo(problem.dtype).eps ** 0.5
    bars = [random_adjoint(one.params, names, seed=at) for at, one in enumerate(states)]
    together = plain_both_ways(problem, theta, Visit(step, state), state, _stacked(bars), maker)
    for at, one in enumerate(states):
        alone = plain_both_ways(problem.alone, thetas[at], Visit(own[at], one), one, bars[at], maker)
        difference = max(
            relative_difference({name: tensor[at] for name, tensor in ours.items()}, theirs, bound)
            for ours, theirs in zip(together.parts, alone.parts, strict=True)
        )
        if not difference <= bound:
            raise Apart(f"a stacked step differs from the plain one by {difference:.1g}")
    problem.derived[key] = True


def _stacked(bars: list[Adjoint]) -> Adjoint:
    slots = {name: stacked([each.slots[name] for each in bars]) for name in bars[0].slots}
    return Adjoint(stacked([each.params for each in bars]), slots)
