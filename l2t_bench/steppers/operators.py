"""How many operators a step takes: what compiling it costs by."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.rollout import Rollout

_COUNTED = "operators of a run's first step"


def operators_of(problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> int:
    """Operators of the student's forward pass and its loss that have a derivative: the nodes of their graph."""
    params = {name: param.detach().requires_grad_() for name, param in state.params.items()}
    with torch.enable_grad():
        return _nodes_behind(problem.train_loss(params, state.buffers, phi, step)[0])


def operators_at_first(problem: TeachingProblem) -> int:
    """``operators_of`` the step that a run begins with, counted once for a problem. Raises what a run's begin does.

    Of students taken at once it is each one's: their steps are the same operators with a dimension more.
    """
    problem = getattr(problem, "alone", problem)
    if _COUNTED not in problem.derived:
        rollout, state = Rollout(problem, problem.init_teacher(0), horizon=1), problem.init_student(0)
        step = rollout.step(0, state)
        problem.derived[_COUNTED] = operators_of(problem, state, step, rollout.phi(step))
    count: int = problem.derived[_COUNTED]
    return count


def _nodes_behind(loss: Tensor) -> int:
    waiting: list[Node | None] = [loss.grad_fn]
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return len(seen)
