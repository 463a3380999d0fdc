"""Stacked steps held to each student's own, before a run is built on them."""

import torch

from l2t_bench.adjoint import PhiAdjoint, Visit
from l2t_bench.metabatch.problem import StackedProblem
from l2t_bench.metabatch.stacking import Apart, stacked, states_apart, taken_apart
from l2t_bench.optimizers import Adjoint
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.rollout import student_step
from l2t_bench.sampling import standard_normal
from l2t_bench.second_order import Maker
from l2t_bench.steppers.eager import passed_back
from l2t_bench.tensors import TensorDict, Tensors, global_norm


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
    bars = [
        [standard_normal(one.params, at, 90 + part) for part in range(1 + len(names))] for at, one in enumerate(states)
    ]
    columns = [stacked(column) for column in zip(*bars, strict=True)]
    together = _both_ways(
        problem, theta, maker, state, step, Adjoint(columns[0], dict(zip(names, columns[1:], strict=True)))
    )
    for at, one in enumerate(states):
        adjoint = Adjoint(bars[at][0], dict(zip(names, bars[at][1:], strict=True)))
        alone = _both_ways(problem.alone, thetas[at], maker, one, own[at], adjoint)
        difference = max(
            _away({name: tensor[at] for name, tensor in ours.items()}, theirs, bound)
            for ours, theirs in zip(together, alone, strict=True)
        )
        if not difference <= bound:
            raise Apart(f"a stacked step differs from the plain one by {difference:.1g}")
    problem.derived[key] = True


def _both_ways(
    problem: TeachingProblem, theta: Tensors, maker: Maker, state: StudentState, step: Step, adjoint: Adjoint
) -> list[TensorDict]:
    """What comes of a step and of the step back, of a student or of all of them."""
    with torch.no_grad():
        phi = problem.phi(theta, step.features)
    after, loss = student_step(problem, state, step, phi)
    own = {name: tensor.detach().requires_grad_() for name, tensor in theta.items()}
    phi_adjoint = PhiAdjoint(problem, own)
    with torch.enable_grad():
        passed = passed_back(problem, phi_adjoint, Visit(step, state), adjoint, maker, hyper=False)
        phi_adjoint.flush()
    before = passed.adjoint
    slots = [*after.slots.values(), *before.slots.values()]
    return [{"loss": loss}, after.params, after.buffers, before.params, phi_adjoint.d_theta, *slots]


def _away(ours: Tensors, theirs: Tensors, least: float) -> float:
    """|ours - theirs| / |theirs| over all entries together; |theirs| is taken to be ``least`` where it is rounding."""
    if not theirs:
        return 0.0
    apart = {name: (ours[name] - tensor).double() for name, tensor in theirs.items()}
    length = global_norm({name: tensor.double() for name, tensor in theirs.items()})
    return global_norm(apart) / max(length, least)
