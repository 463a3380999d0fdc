"""A store that keeps almost nothing: momentum SGD in exact integer arithmetic, undone step by step."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import torch
from torch.nn.modules.batchnorm import _NormBase

from l2t_bench.adjoint import Visit
from l2t_bench.errors import Refused, UserError
from l2t_bench.gradient import Capabilities, Exactness
from l2t_bench.measure import Meter
from l2t_bench.optimizers import SGD
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.rollout import Rollout
from l2t_bench.steppers.eager import EagerStepper
from l2t_bench.stores.contract import Law, Room, Sizes, Store, Wanted
from l2t_bench.stores.exact import LARGEST_DENOMINATOR, spilled_bits
from l2t_bench.stores.fixed_sgd import FixedPointSGD, ratio_of
from l2t_bench.tensors import TensorDict, Tensors, size_in_bytes

_CONSTANT = 3 * 8  # bytes of a parameter: omega, b, and the buffer of the bit store
_INSTEAD = "take store=sqrt, which keeps states of the plain run"


class Reversible(Store):
    """``reversible``: omega_T and b_T, from which the run is undone, and the bits that mu*b loses at each step.

    Maclaurin, Duvenaud and Adams 2015. The run is a neighbour of the plain one, in fixed point (``FixedPointSGD``);
    backwards omega_t comes first, the gradient is taken there once more by the same function, then b_t. With rounding
    as the identity the derivative of this run is momentum SGD's recursion along its states.

    Memory 24 P bytes and log2(1/mu) bits a parameter and step, and 8 bytes a step: a checksum of the gradient, which
    tells at once where it is another one. Time: one gradient more a step. Buffers that a step changes are kept too, and
    are not in the law, except the running statistics of normalisation layers: no step in train mode reads them, and on
    the way back they stay what they are at the end. A student that writes into its parameters is refused.
    """

    name = "reversible"
    engines = ("eager",)
    stacks = False  # its integers are of one student's parameters in a row
    exact_rollout = False

    def __init__(
        self, rollout: Rollout, meter: Meter, wanted: Wanted, room: Room, stepper: EagerStepper | None = None
    ) -> None:
        super().__init__(rollout, meter, wanted, room, stepper)
        self._steps: list[Step] = []  # those to go back through
        self._kept_buffers: list[TensorDict] = []

    @classmethod
    def capabilities(cls, own: Capabilities) -> Capabilities:
        kind = Exactness.QUANTISED if own.exactness is Exactness.EXACT else own.exactness
        law = "P + log2(1/momentum) bits*P for each step back + G"
        return dataclasses.replace(own, exactness=kind, memory_law=law)

    @classmethod
    def refusal(cls, problem: TeachingProblem) -> Refused | None:
        """Steps that cannot be undone, and a momentum that is no ratio of small integers."""
        optimizer = problem.optimizer
        if not isinstance(optimizer, SGD) or not optimizer.momentum:
            kind = "SGD without momentum" if isinstance(optimizer, SGD) else type(optimizer).__name__
            return Refused(f"store=reversible undoes momentum SGD; a step of {kind} cannot be undone", _INSTEAD)
        if optimizer.nesterov:
            reason = "a Nesterov step goes along the gradient at the very state that undoing it must find"
            return Refused(f"store=reversible: {reason}", f"train without nesterov, or {_INSTEAD}")
        ratio = ratio_of(optimizer.momentum)
        if not 0 < ratio < 1 or not math.isclose(ratio, optimizer.momentum, rel_tol=1e-15):
            near = f"momentum {float(ratio)!r} = {ratio} is one, or " if 0 < ratio < 1 else ""
            reason = f"momentum {optimizer.momentum!r} is not a ratio of integers up to {LARGEST_DENOMINATOR}"
            return Refused(f"store=reversible: {reason}", near + _INSTEAD)
        return None

    @classmethod
    def law(cls, wanted: Wanted, sizes: Sizes, room: Room) -> Law:
        del room
        multiplications = wanted.steps if wanted.first else wanted.steps - 1  # b_1 = g_0 is none
        bits = spilled_bits(ratio_of(sizes.momentum), multiplications)
        kept = sizes.entries * (_CONSTANT + bits // 8) + sizes.buffers + 8 * wanted.horizon
        return Law(kept, recomputed=wanted.steps)

    @property
    def bytes(self) -> int:
        """Held now: at omega_T what ``law`` says, and the buffers that the steps have changed."""
        buffers = [*self._buffers.values(), *(buffer for kept in self._kept_buffers for buffer in kept.values())]
        shared = {id(buffer): buffer for buffer in buffers}
        return self._sgd.bytes + size_in_bytes([self._checksums, shared])

    def begin(self, state: StudentState) -> StudentState:
        optimizer = self.rollout.problem.optimizer
        assert isinstance(optimizer, SGD), "all else is refused"
        self._sgd = FixedPointSGD(optimizer, state.params)
        self._buffers = state.buffers
        self._changing = sorted(set(state.buffers) - _running_statistics(self.rollout.problem))
        self._checksums = torch.zeros(self.wanted.horizon, dtype=torch.int64, device=self.rollout.problem.device)
        return StudentState(self._sgd.params(), state.buffers)

    def advance(self, step: Step, state: StudentState) -> StudentState:
        found = self.stepper.gradient(step, state)
        self.rollout.observe(found.loss)
        if step.index <= self.wanted.first:
            self._sgd.forget()
        self._checksums[step.index] = self._sgd.step(step.index, step.lr, state.params, found.gradients)
        if step.index >= self.wanted.first:
            self._steps.append(step)
            self._kept_buffers.append({name: state.buffers[name] for name in self._changing})
        self._buffers = _shared(found.buffers, state.buffers, self._changing)
        return StudentState(self._sgd.params(), self._buffers, {"momentum": self._sgd.momentum()})

    def backwards(self) -> Iterator[Visit]:
        while self._steps:
            step = self._steps.pop()
            yield Visit(step, self._undone(step, {**self._buffers, **self._kept_buffers.pop()}))

    def _undone(self, step: Step, buffers: TensorDict) -> StudentState:
        """The state before ``step``. Raises ``UserError`` where its gradient is not bit for bit what it was."""
        state = StudentState(self._sgd.retreat(step.lr), buffers)
        # By the function of the way forward: with a graph for second derivatives torch may round otherwise.
        found = self.stepper.gradient(step, state)
        self.meter.count(recomputed_steps=1)
        checksum = self._sgd.undo(step.index, state.params, found.gradients)
        if not torch.equal(checksum, self._checksums[step.index]):
            raise UserError(
                f"step {step.index} cannot be undone: its gradient, taken once more, is not bit for bit what it was. "
                "Its batch changes when it is read again, the student keeps something between calls, or torch's "
                f"kernels are not deterministic (torch.use_deterministic_algorithms); {_INSTEAD}"
            )
        slots = {"momentum": self._sgd.momentum()} if self.wanted.slots and step.index else {}
        return dataclasses.replace(state, slots=slots)


def _running_statistics(problem: TeachingProblem) -> set[str]:
    """The buffers of torch's own normalisation layers: no step in train mode reads them."""
    return {
        f"{path}.{name}" if path else name
        for path, layer in problem.student.named_modules()
        if isinstance(layer, _NormBase) and type(layer).__module__.startswith("torch.nn.")
        for name, _ in layer.named_buffers(recurse=False)
    }


def _shared(buffers: TensorDict, before: Tensors, names: Sequence[str]) -> TensorDict:
    """``buffers``, with the very tensors of the step before where a step has not changed them."""
    unchanged = {name: before[name] for name in names if torch.equal(buffers[name], before[name])}
    return {**buffers, **unchanged}
