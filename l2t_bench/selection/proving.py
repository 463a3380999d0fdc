"""What a candidate's gradient is worth on the real student: of exact ones whether they are, of others how near."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from l2t_bench.errors import Diverged, Refused
from l2t_bench.gradient import Exactness, TeacherGradient, TeacherGradientBackend
from l2t_bench.problem import TeachingProblem
from l2t_bench.selection.records import Quality
from l2t_bench.tensors import TensorDict, global_norm, relative_difference, scaled
from l2t_bench.verification.numeric import RecordedRun, directional_difference
from l2t_bench.verification.peers import label
from l2t_bench.verification.samples import general_theta
from l2t_bench.verification.vectors import cosine, inner, norm_ratio

GLANCE = 4  # steps in float64 that an exact method is held to
_STEP = 1e-3  # of theta along the gradient, for central differences
_AGREE: Mapping[Exactness, float] = {Exactness.EXACT: 1e-8, Exactness.QUANTISED: 1e-5}
_DIFFERENCE = 1e-4  # to the central difference along the gradient


@dataclass(frozen=True)
class Referee:
    """Holds exact methods to the first of them on a short run in float64, and that one to central differences.

    ``theta`` is in general position: at a teacher whose keys are all alike, derivatives vanish that should be compared.
    """

    problem: TeachingProblem
    first: TeacherGradientBackend
    horizon: int = GLANCE

    @cached_property
    def _in_float64(self) -> TeachingProblem:
        return self.problem if self.problem.dtype is torch.float64 else self.problem.to(dtype=torch.float64)

    @cached_property
    def _theta(self) -> TensorDict:
        return general_theta(self._in_float64)

    @cached_property
    def _reference(self) -> TeacherGradient:
        return self.first.teacher_gradient(self._in_float64, self._theta, horizon=self.horizon)

    @cached_property
    def difference(self) -> float:
        """How far the reference is off along its own direction, relative, from a central difference of the run."""
        d_theta = self._reference.d_theta
        length = global_norm(d_theta)
        if length == 0:
            return 0.0
        direction = scaled(1 / length, d_theta)
        run = RecordedRun(self._in_float64, self._theta, self._reference.steps, 0)
        return abs(inner(d_theta, direction) - directional_difference(run, direction, _STEP)) / length

    def verdict(self, backend: TeacherGradientBackend) -> tuple[str, str]:
        """What was found, and why the method cannot be taken: the latter is empty where it is as exact as it says.

        Raises ``Refused`` and ``UserError`` as ``teacher_gradient`` does.
        """
        if not self.difference <= _DIFFERENCE:  # no number is no proof
            return "", f"exact gradients are off by {self.difference:.1g} from central differences on this problem"
        if backend is self.first:
            return f"off by {self.difference:.0e} from central differences in float64 at T={self.horizon}", ""
        found = backend.teacher_gradient(self._in_float64, self._theta, steps=self._reference.steps)
        off = relative_difference(found.d_theta, self._reference.d_theta)
        bound = _AGREE[backend.capabilities.exactness]
        if not off <= bound:
            return "", f"its gradient is off by {off:.1g} from {label(self.first)}'s in float64 at T={self.horizon}"
        return f"within {off:.0e} of {label(self.first)} in float64 at T={self.horizon}", ""


@dataclass(frozen=True)
class Measured:
    """The exact gradient of a run that is still affordable: what approximate ones are held to."""

    problem: TeachingProblem
    exact: TeacherGradientBackend
    horizon: int

    @cached_property
    def _theta(self) -> TensorDict:
        return self.problem.init_teacher(0)

    @cached_property
    def _reference(self) -> TeacherGradient:
        return self.exact.teacher_gradient(self.problem, self._theta, horizon=self.horizon)

    def quality(self, backend: TeacherGradientBackend) -> Quality:
        """Cosine and norm ratio. Raises ``Refused`` for a run too short to tell them, and as a run does."""
        found = backend.teacher_gradient(self.problem, self._theta, steps=self._reference.steps)
        if found.exactness is Exactness.EXACT:
            raise Refused(f"it is exact at T={self.horizon}, the longest run that was affordable: not to be told")
        if not global_norm(self._reference.d_theta) > 0:
            raise Diverged("the exact gradient vanishes")
        return Quality(
            self.horizon,
            cosine(found.d_theta, self._reference.d_theta),
            norm_ratio(found.d_theta, self._reference.d_theta),
        )
