"""Compiled steps of a problem: made once for a form of step, and held to the plain ones before they are used."""

import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from l2t_bench.adjoint import Visit
from l2t_bench.errors import said_first
from l2t_bench.modules import seeded
from l2t_bench.optimizers import Adjoint
from l2t_bench.precision import float32_settings
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.resident import held_size
from l2t_bench.second_order import Maker
from l2t_bench.steppers.comparing import BothWays, plain_both_ways, random_adjoint
from l2t_bench.steppers.sharing import Activations, shared
from l2t_bench.steppers.traced import Traced
from l2t_bench.steppers.tracing import Given, Held, Tracer, held
from l2t_bench.tensors import TensorDict, Tensors, relative_difference, size_in_bytes


@dataclass(frozen=True)
class Kept:
    """What stays of a step for the step back: ``None`` of its activations, where that takes the step again."""

    activations: Activations | None
    slots: bool
    hyper: bool


@dataclass(frozen=True, eq=False)
class Functions:
    """A step forward and a step back for all steps that look like ``given``; a key to what is made of them."""

    problem: TeachingProblem
    given: Given
    forward: Callable[..., list[Tensor]]  # see ``Tracer`` for what they take and return
    back: Callable[..., list[Tensor]]
    hyper: tuple[str, ...]  # the names of the hyper-gradients of a step back
    unread: frozenset[str]  # the parameters that a step back does not read of the state that it goes back to
    kept: Kept
    kept_bytes: int  # of each step whose state and activations are kept
    random: bool  # whether they draw from torch's generators, which must then be seeded before each call
    numbers_on: torch.device  # where they want lr and index

    def take(
        self, step: Step, state: StudentState, theta: Tensors, leaves: list[Tensor], after: Adjoint
    ) -> list[Tensor]:
        """Write the next parameters and slots into ``after``; the loss, the next buffers, what the step keeps."""
        return self._call(self.forward, step, state, theta, leaves, _flat(after))

    def go_back(
        self,
        step: Step,
        state: StudentState,
        theta: Tensors,
        leaves: list[Tensor],
        bars: Adjoint,
        d_theta: Tensors,
        kept: Sequence[Tensor],
    ) -> list[Tensor]:
        """Replace ``bars`` by the adjoint before the step, add to ``d_theta``; loss, norm and hyper-gradients."""
        return self._call(self.back, step, state, theta, leaves, [*_flat(bars), *d_theta.values(), *kept])

    def _call(
        self,
        function: Callable[..., list[Tensor]],
        step: Step,
        state: StudentState,
        theta: Tensors,
        leaves: list[Tensor],
        written: list[Tensor],
    ) -> list[Tensor]:
        numbers = [
            torch.full((), float(number), dtype=torch.float64, device=self.numbers_on)
            for number in (step.lr, step.index)
        ]
        with torch.no_grad(), seeded(step.seed, self.problem.device) if self.random else nullcontext():
            return function(*inputs(held(state), theta, leaves, numbers, written))


def inputs(
    state: Held, theta: Tensors, leaves: list[Tensor], numbers: list[Tensor], written: list[Tensor]
) -> list[Tensor]:
    """What both functions take, in their order; ``written`` is what they write into, and what was kept."""
    params, slots, buffers = state
    own = (*params.values(), *(t for all_held in slots.values() for t in all_held.values()), *buffers.values())
    return [*(t.contiguous() for t in own), *theta.values(), *leaves, *numbers, *written]


@dataclass(frozen=True)
class Wish:
    """What is to be compiled: the steps of a problem like ``step``, which is not its run's first, at ``state``."""

    problem: TeachingProblem
    theta: TensorDict
    state: StudentState  # with its slots
    step: Step
    given: Given
    second_order: Maker
    slots: bool  # whether the states gone back through have theirs
    activations: Activations | None  # what a step keeps for the step back; nothing where that takes it again
    hyper: bool
    numbers_on: torch.device


class NotFinite(str):
    """Why nothing is made of steps whose numbers are not finite: a reason in this run and no other."""


def compiled_steps(wish: Wish) -> Functions | str:
    """The functions, or why there are none.

    Whatever goes wrong is a reason to take the steps in plain torch, and no error: a student that looks at values of
    its tensors, no compiler, a cache that cannot be written, compiled steps that differ from the plain ones.
    """
    tracer = Tracer(wish.problem, wish.theta, wish.state, wish.given, wish.numbers_on)
    failed = "traced"
    try:
        forward, back = tracer.forward(), tracer.back(wish.second_order, slots=wish.slots, hyper=wish.hyper)
        if wish.activations is not None:
            forward, back = shared(forward, back, wish.activations)
        failed, random = "compiled", forward.random or back.random
        functions = Functions(
            wish.problem,
            wish.given,
            _compiled(forward, random=random),
            _compiled(back, random=random),
            back.hyper,
            unread := _unread(back, wish.state.params),
            Kept(wish.activations, wish.slots, wish.hyper),
            _kept_bytes(wish, unread, back),
            random,
            wish.numbers_on,
        )
        failed = "compared with plain ones"
        bars = random_adjoint(wish.state.params, wish.problem.optimizer.slot_names)
        plain = _plain(wish, bars)
        difference = max(_differences(wish, functions, bars, plain))
    except Exception as error:  # a tracer and two compilers, each of which has its own ways to fail
        return f"its steps cannot be {failed}: {said_first(error)}"
    if not all(bool(torch.isfinite(tensor).all()) for part in plain.parts for tensor in part.values()):
        return NotFinite("a plain step gives numbers that are not finite")
    bound = torch.finfo(wish.problem.dtype).eps ** 0.5
    if not difference <= bound:
        return f"its compiled steps differ from the plain ones by {difference:.1g}"
    return functions


def settings_of_torch(device: torch.device) -> Hashable:
    """What torch was set to when a step was compiled is in it for ever: under other settings it is another step."""
    autocast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    float32 = float32_settings()  # a recorded graph goes on with these kernels
    return autocast, torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled(), float32


def _compiled(traced: Traced, *, random: bool) -> Callable[..., list[Tensor]]:
    """Inductor's code for a graph; what an earlier process has compiled comes from its cache on disk.

    ``torch.compile`` would trace the graph once more, and look at every input before each call.
    """
    from torch._inductor import standalone_compile  # a second's import, and one that may fail: it makes its cache

    options: dict[str, Any] = {"compile_threads": 1}  # no pool of processes, which would outlive a cell
    if random:
        options["fallback_random"] = True  # torch's own generators: plain training draws from them
    examples: list[Any] = list(traced.inputs)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own, of its own code
        return standalone_compile(
            traced.graph, examples, dynamic_shapes="from_example_inputs", options={"config_patches": options}
        )


def _plain(wish: Wish, bars: Adjoint) -> BothWays:
    """The step, and back from ``bars``, by the reference."""
    visit = Visit(wish.step, _visited(wish))
    return plain_both_ways(wish.problem, wish.theta, visit, wish.state, bars, wish.second_order, hyper=wish.hyper)


def _unread(back: Traced, params: Tensors) -> frozenset[str]:
    """A first layer's weights, for instance: what they give is kept, and nothing before them has a gradient."""
    places = (node for node in back.graph.graph.nodes if node.op == "placeholder")  # parameters come first
    return frozenset(name for name, place in zip(params, places, strict=False) if not place.users)


def _kept_bytes(wish: Wish, unread: frozenset[str], back: Traced) -> int:
    params = {name: param for name, param in wish.state.params.items() if name not in unread}
    slots = list(wish.state.slots.values()) if wish.slots else []
    between = back.inputs[len(back.roles) :]
    apart = [*wish.state.buffers.values(), *between]
    return size_in_bytes([params, *slots]) + sum(held_size(t.numel() * t.element_size()) for t in apart)


def bytes_kept(problem: TeachingProblem, kept: Kept) -> int | None:
    """What a compiled step of the problem keeps for the way back, with its state; ``None`` until one is compiled."""
    made = (held for held in problem.derived.values() if isinstance(held, Functions))
    return next((each.kept_bytes for each in made if each.kept == kept), None)


def _visited(wish: Wish) -> StudentState:
    return wish.state if wish.slots else wish.state.without_slots()


def _differences(wish: Wish, functions: Functions, bars: Adjoint, plain: BothWays) -> Iterator[float]:
    """How far a compiled step, and a compiled step back from ``bars``, are from the plain ones."""
    step, state, theta, visited = wish.step, wish.state, wish.theta, _visited(wish)
    after = Adjoint(*_zeros(state.params, state.slots))
    found = functions.take(step, state, theta, wish.given.leaves, after)
    buffers, kept = found[1 : 1 + len(state.buffers)], found[1 + len(state.buffers) :]
    ours, d_theta = Adjoint(dict(bars.params), dict(bars.slots)), {n: torch.zeros_like(t) for n, t in theta.items()}
    told = functions.go_back(step, visited, theta, wish.given.leaves, ours, d_theta, kept)

    taken = StudentState(after.params, dict(zip(state.buffers, buffers, strict=True)), after.slots)
    own = BothWays(found[0], taken, ours, d_theta, dict(zip(plain.hyper, told[2:], strict=True)))
    yield from map(relative_difference, own.parts, plain.parts)
    yield relative_difference(own.hyper, plain.hyper)
    yield relative_difference({"loss": told[0]}, {"loss": plain.loss})


def _zeros(params: Tensors, slots: Mapping[str, Tensors]) -> tuple[TensorDict, dict[str, TensorDict]]:
    def like(held: Tensors) -> TensorDict:
        return {name: torch.zeros_like(t, memory_format=torch.contiguous_format) for name, t in held.items()}

    return like(params), {slot: like(held) for slot, held in slots.items()}


def _flat(places: Adjoint) -> list[Tensor]:
    return [*places.params.values(), *(t for held in places.slots.values() for t in held.values())]
