"""How many operators a step takes: what compiling it costs by."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from l2t_bench.problem import Step, StudentState, TeachingProblem


def operators_of(problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> int:
    """Operators of the student's forward pass and its loss that have a derivative: the nodes of their graph."""
    params = {name: param.detach().requires_grad_() for name, param in state.params.items()}
    with torch.enable_grad():
        return _nodes_behind(problem.train_loss(params, state.buffers, phi, step)[0])


def _nodes_behind(loss: Tensor) -> int:
    waiting: list[Node | None] = [loss.grad_fn]
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return len(seen)
