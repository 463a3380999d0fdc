"""Whether the ranks of a training are of one training: the same code, versions, data and settings."""

import json
import socket
from typing import Any

from l2t_bench.distributed.ranks import Ranks
from l2t_bench.errors import UserError
from l2t_bench.rollout import Rollout
from l2t_bench.trainer.course import Course, Plan
from l2t_bench.trainer.identity import first_difference, identity_of, surroundings


def check_alike(course: Course, ranks: Ranks, parts: int) -> None:
    """Raises ``UserError`` on every rank, naming the one that differs from the first, and in what.

    What no name tells, such as the code of a loss or a start of the student, is seen by the first step's loss. Where
    ranks share students out, their machines may differ.
    """
    if ranks.count == 1:
        return
    plan = course.plan

    def own() -> tuple[dict[str, Any], float, tuple[str, str]]:
        told = {**identity_of(course), **surroundings(plan.problem.device, parts)}
        if parts == 1:
            told = {name: value for name, value in told.items() if name not in ("threads", "device")}
        loss = first_loss(plan)
        return json.loads(json.dumps(told)), loss, (socket.gethostname(), str(plan.problem.device))

    found = ranks.all_of(own, "what training the others are of")
    first, other, _ = found[0]
    for rank, (theirs, loss, _) in enumerate(found):
        if difference := first_difference(first, theirs):
            raise UserError(f"rank {rank} (there) and rank 0 (here) are not of one training: {difference}")
        if not close(loss, other):
            raise UserError(
                f"rank {rank} and rank 0 are not of one training: the first step's loss is {loss:.6g} there and "
                f"{other:.6g} here; the code of the loss, the student, its start or the features differs"
            )
    _check_cards([place for _, _, place in found])


def first_loss(plan: Plan) -> float:
    """Of student 0, under the theta that the training begins with."""
    problem, rollout = plan.problem, Rollout(plan.problem, plan.theta, horizon=plan.horizon)
    state = rollout.initial()
    step = rollout.step(0, state)
    loss, _ = problem.train_loss(state.params, state.buffers, rollout.phi(step), step)
    return float(loss.detach())


def close(left: float, right: float) -> bool:
    """As near as two machines may come in float32; no numbers are alike."""
    return left == right or abs(left - right) <= 1e-4 * abs(right) or (left != left and right != right)  # noqa: PLR0124


def _check_cards(places: list[tuple[str, str]]) -> None:
    """Raises ``UserError`` for two ranks on one GPU: NCCL wants one each."""
    for rank, place in enumerate(places):
        if place[1].startswith("cuda") and place in places[:rank]:
            raise UserError(
                f"ranks {places.index(place)} and {rank} both work on {place[1]} of one machine: each needs a GPU of "
                "its own, cuda:LOCAL_RANK (--device cuda gives it)"
            )
