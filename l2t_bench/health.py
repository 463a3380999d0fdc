"""The health of an adjoint: how |w_bar_t| goes from omega_T back to omega_0, and where it explodes or dies.

A teacher gradient whose adjoint has grown by orders of magnitude on its way back is the derivative of a chaotic run: it
is right, and of no use to a teacher.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from l2t_bench.errors import Diverged
from l2t_bench.tensors import Tensors, norm, wide

REMEDY = "let the student's lr decay to zero (l2t.linear_decay), lower it, or shorten the horizon"
"""What helps against an adjoint that explodes."""
EXPLOSION_SPAN = 10
"""Steps over which growth is judged: a single step may kick without harm."""
EXPLOSION = 2.0**EXPLOSION_SPAN
"""Growth within ten steps, or within a whole run that is shorter, that counts as an explosion: a thousandfold."""
WHOLE_EXPLOSION = 1e7
"""Growth since T that counts as one however slow it was: beside it, float32 has no digit of what the last steps add."""
DEATH = 1e-7
"""Share of |w_bar_T| below which nothing more reaches theta in float32."""
NONE_TO_WATCH = "no adjoint is walked back: none to watch"
"""What is said of a method that takes no gradient of the objective."""
END_ALONE = "no adjoint is walked back: its length at the last step is all that is known"
"""What is said of a method that has the objective's gradient at omega_T, and does not go back step by step."""
_FLAT = "the adjoint is zero at step {}: the objective is flat there"
SOUND = "usable: the adjoint neither explodes nor dies"
"""What is said of an adjoint that nothing is wrong with."""


@dataclass(frozen=True)
class AdjointHealth:
    """|w_bar_t| for t = ``first`` ... T: how far a small change of omega_t moves M~.

    At T alone of a method that does not go back step by step: it shows a flat objective, no explosion and no death.
    """

    first: int
    norms: tuple[float, ...]

    @property
    def walked(self) -> bool:
        """Whether the adjoint was followed back from T at all."""
        return len(self.norms) > 1

    @property
    def exploded_at(self) -> int | None:
        """The latest step t, met first on the way back, where the norm has grown by ``EXPLOSION``, or much in all.

        A run shorter than ten steps is held to the same thousandfold: twice a step means nothing over one or two. Slow
        growth is one too, by ``WHOLE_EXPLOSION`` since T.
        """
        found = (self._fast_at, self._slow_at)
        return max((step for step in found if step is not None), default=None)

    @property
    def _fast_at(self) -> int | None:
        for index in range(len(self.norms) - 1 - self._span, -1, -1):
            after, before = self.norms[index + self._span], self.norms[index]
            if after > 0 and before > after * EXPLOSION:
                return self.first + index
        return None

    @property
    def _slow_at(self) -> int | None:
        bound = WHOLE_EXPLOSION * self.norms[-1]
        if bound == 0:
            return None
        return next((self.first + at for at in range(len(self.norms) - 1, -1, -1) if self.norms[at] > bound), None)

    @property
    def died_at(self) -> int | None:
        """The latest step t from which back every norm is below ``DEATH`` of that at T.

        Where a norm before t is larger again, what theta did before t does reach the objective. ``None`` also for a
        death at step 0: theta does nothing before it.
        """
        dead = takewhile(lambda norm: norm < DEATH * self.norms[-1], self.norms)
        step = self.first + sum(1 for _ in dead) - 1
        return step if step >= max(1, self.first) else None

    @property
    def _span(self) -> int:
        return min(EXPLOSION_SPAN, len(self.norms) - 1)

    @property
    def growth(self) -> float:
        """The norm at the earliest step over that at T; not a number where the latter is zero, or there is no other."""
        return self.norms[0] / self.norms[-1] if self.walked and self.norms[-1] > 0 else math.nan

    @property
    def warning(self) -> str:
        """What is wrong with the adjoint, in a sentence; empty where nothing is."""
        if self.norms[-1] == 0:
            return _FLAT.format(self.first + len(self.norms) - 1)
        if (step := self.exploded_at) is not None:
            steps = f"{self._span} step{'s' * (self._span != 1)}"
            fast = f"more than {EXPLOSION:,.0f} times over {steps}"
            grown = fast if step == self._fast_at else f"more than {WHOLE_EXPLOSION:,.0f} times since the last step"
            return (
                f"the adjoint explodes at step {step} ({grown}): let "
                "the student's lr decay to zero (l2t.linear_decay), lower it, or clip the teacher gradient"
            )
        if (step := self.died_at) is not None:
            return f"the adjoint dies at step {step}: what theta does before it no longer reaches the objective"
        return ""

    def sampled(self, points: int = 64) -> list[tuple[int, float]]:
        """(t, norm) at about so many steps, the first and the last among them."""
        last = len(self.norms) - 1
        at = sorted({round(index * last / max(1, points - 1)) for index in range(points)})
        return [(self.first + index, self.norms[index]) for index in at]


class AdjointWatch:
    """Collects |w_bar_t| on the way back without a wait for the device at each step.

    A hand-written recursion calls ``see``; an unrolled graph has ``hook`` put on the parameters of each step.
    """

    def __init__(self) -> None:
        self._on_the_way_back = False
        self._known: dict[int, float] = {}
        self._norms: dict[int, Tensor] = {}
        self._parts: dict[int, list[Tensor]] = {}

    def start(self) -> None:
        """The way back begins."""
        self._on_the_way_back = True

    def restore(self, norms: Mapping[int, float]) -> None:
        """What was seen of the same way back by another process."""
        self._known |= norms

    def see(self, index: int, w_bar: Tensors) -> None:
        """w_bar is the adjoint of omega_``index``; a second look at the same step changes nothing."""
        if index not in self._known and index not in self._norms:
            self.see_norm(index, length_of(w_bar))

    def see_norm(self, index: int, length: Tensor, of: Tensors | None = None) -> None:
        """The same, where |w_bar| is known already: a 0-dimensional tensor. ``of``: w_bar, where it is at hand."""
        self._norms.setdefault(index, in_range(length, norm, of))

    def hook(self, index: int, params: Tensors) -> None:
        """Take the norm of the derivative by ``params`` when autograd comes by after ``start``; nothing else is kept.

        Before that it is the student's own gradient that comes by.
        """
        lengths = self._parts.setdefault(index, [])

        def note(gradient: Tensor) -> None:
            if self._on_the_way_back:
                lengths.append(length_of({"": gradient.detach()}))

        for param in params.values():
            if param.requires_grad:
                param.register_hook(note)  # type: ignore[no-untyped-call]

    def check(self) -> None:
        """Raises ``Diverged`` with the step from which the adjoint is not finite; waits for the device.

        Looks at what has come since the last look: else a run's looks would take the square of its length.
        """
        if not all(map(math.isfinite, self._taken_in().values())):
            check_finite(self.norms())

    def norms(self) -> Mapping[int, float]:
        """Step -> norm of what has been seen so far, in the order of the steps; waits for the device."""
        self._taken_in()
        return dict(sorted(self._known.items()))

    def _taken_in(self) -> Mapping[int, float]:
        """What has been seen since this was last called, as numbers, which are kept."""
        found = {
            index: torch.linalg.vector_norm(torch.stack([part.double() for part in parts]))
            for index, parts in self._parts.items()
            if parts
        }
        found |= self._norms
        if not found:
            return {}
        new = dict(zip(found, torch.stack([length.double() for length in found.values()]).tolist(), strict=True))
        self._known |= new
        self._norms, self._parts = {}, {}
        return new


def length_of(adjoint: Tensors, norm: Callable[..., Tensor] = norm) -> Tensor:
    """|adjoint|, however long or short it is; by ``norm`` of one, or of several students at once."""
    device = next(iter(adjoint.values())).device
    return in_range(norm(adjoint, wide(device)), norm, adjoint)


def in_range(length: Tensor, norm: Callable[..., Tensor], of: Tensors | None) -> Tensor:
    """``length``, of one adjoint or of several; by float64's squares where those of its own dtype were none.

    An adjoint that explodes is longer than float32 has squares for well before it is not finite. Only on a CPU, where
    nothing has to be waited for: on a GPU the squares are float64's (``tensors.wide``).
    """
    if of is None or length.device.type != "cpu" or all(0 < own < math.inf for own in length.reshape(-1).tolist()):
        return length
    return norm(of, torch.float64)


def health_of(norms: Mapping[int, float]) -> AdjointHealth | None:
    """Of the norms by step, in the order of the steps; ``None`` where there are none."""
    return AdjointHealth(min(norms), tuple(norms.values())) if norms else None


def said(*healths: AdjointHealth | None) -> str:
    """Whether teacher gradients are usable as far as their adjoints tell, in words: the one place that says it.

    Of several the first warning; ``END_ALONE`` or ``NONE_TO_WATCH`` where no method here has walked an adjoint back.
    """
    watched = [health for health in healths if health is not None]
    warned = next((health.warning for health in watched if health.warning), "")
    unwarned = SOUND if any(health.walked for health in watched) else END_ALONE if watched else NONE_TO_WATCH
    return warned or unwarned


def check_finite(norms: Mapping[int, float]) -> None:
    """Raises ``Diverged`` with the latest step whose adjoint is not finite, by the norms of the adjoint by step."""
    if (index := first_not_finite(norms)) is not None:
        raise Diverged(
            f"the student trained, but its adjoint is not finite from step {index} back: {REMEDY}",
            index,
            history({step: norm for step, norm in norms.items() if step >= index}),
        )


def first_not_finite(norms: Mapping[int, float]) -> int | None:
    """The latest step, met first on the way back, whose norm is not finite."""
    return max((index for index, value in norms.items() if not math.isfinite(value)), default=None)


def history(norms: Mapping[int, float], limit: int = 50) -> Sequence[float]:
    """The norms on the way back, the last ``limit`` of them."""
    return [value for _, value in sorted(norms.items(), reverse=True)][-limit:]
