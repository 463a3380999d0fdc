"""What a teacher gradient of a large student would take: the table of docs/scaling.md, from a calibration here.

``python tests/benchmarks/scaling.py PROBLEM --horizon T [--rate FLOPS] [--bandwidth BYTES]``: the work and the graph of
a step are counted on batches of two sizes, carried on to the problem's own, and set against a rate: what this machine
was found to do, or what is given for another one. See docs/scaling.md for the formula. Nothing but the calibration is
run.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

import l2t_bench as l2t
from l2t_bench.adjoint import phi_leaves
from l2t_bench.backend import Backend
from l2t_bench.errors import Refused
from l2t_bench.names import describe_options, split_spec, write_spec
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.registry import problem_class
from l2t_bench.second_order import StepGraph
from l2t_bench.tensors import ones_like, size_in_bytes
from l2t_bench.training_step import student_gradient
from l2t_bench.units import duration, told

METHODS = (
    "rmd[store=all]",
    "rmd[store=disk]",
    "rmd[store=reversible]",
    "rmd[store=sqrt]",
    "rmd[store=binomial,budget=60GB]",
    "rmd[store=binomial,snapshots=20]",
    "truncated[window=100]",
)
RANKS = (1, 8, 64)


@dataclass(frozen=True)
class Work:
    """Of one step on one batch: floating-point operations, bytes of its graph, seconds here."""

    gradient: float
    back: float  # replayed, and its vector products
    graph: float
    seconds_gradient: float
    seconds_back: float

    def carried_on(self, other: "Work", far: float) -> "Work":
        """On the line from ``self`` through ``other``, ``far`` times as far: every part is a line in the batch."""
        pairs = zip(vars(self).items(), vars(other).values(), strict=True)
        return Work(**{name: small + far * (large - small) for (name, small), large in pairs})


def main() -> None:
    given = arguments()
    problem = l2t.build_problem(given.problem)
    name, options = split_spec(given.problem)
    size = int(options.get("batch", describe_options(problem_class(name))["batch"]))
    work = calibrated(name, options, given.sizes, size)
    params = size_in_bytes([problem.init_student(0).params])
    rate = given.rate or (work.gradient + work.back) / (work.seconds_gradient + work.seconds_back)
    print(f"`{given.problem}`, T={given.horizon:,}, batch {size}: P = {told(params)} ({params // 4:,} numbers),")
    print(f"F = {work.gradient / 1e12:.3g} TFLOP a gradient, B = {work.back / 1e12:.3g} TFLOP back,")
    print(f"G = {told(work.graph)} a graph;", end=" ")
    print(f"rate {rate / 1e9:,.0f} GFLOP/s ({'given' if given.rate else 'found here'})\n")
    print("| method | memory | disk | recomputed | " + " | ".join(f"{ranks} GPU" for ranks in RANKS) + " |")
    print("|---|--:|--:|--:|" + "--:|" * len(RANKS))
    for line in lines(problem, given.horizon, work, params, rate, given.bandwidth):
        print(f"| {' | '.join(line)} |")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problem")
    parser.add_argument("--horizon", type=int, required=True)
    parser.add_argument("--sizes", type=int, nargs=2, default=(2, 4), help="of the batches that are calibrated on")
    parser.add_argument("--rate", type=float, help="floating-point operations a second that a GPU sustains")
    parser.add_argument("--bandwidth", type=float, default=100e9, help="bytes a second of an all-reduce, each way")
    return parser.parse_args()


def calibrated(name: str, options: Mapping[str, str], sizes: tuple[int, int], size: int) -> Work:
    """Of a step on ``size`` examples, by the line through what is measured at ``sizes``."""
    small, large = (measured(l2t.build_problem(write_spec(name, {**options, "batch": str(count)}))) for count in sizes)
    return small.carried_on(large, (size - sizes[0]) / (sizes[1] - sizes[0]))


def measured(problem: TeachingProblem) -> Work:
    """The first step, each part taken once before it is timed, and once more to be counted."""
    state = problem.init_student(0)
    features = problem.step_features(problem.view(state, 0, 1, 0, None))
    step = Step(0, problem.train(0, 0), features, 0.1, 0)
    phi = problem.phi(problem.init_teacher(0), features)

    def gradient() -> None:
        student_gradient(problem, state, step, phi)

    def back() -> None:
        StepGraph(problem, state, step, phi_leaves(phi)).products(ones_like(state.params))

    seconds = [timed(gradient), timed(back)]
    with FlopCounterMode(display=False) as gradient_work:
        gradient()
    graph = Kept(state)
    with FlopCounterMode(display=False) as back_work, graph:
        back()
    flops = gradient_work.get_total_flops(), back_work.get_total_flops()
    return Work(*map(float, flops), float(graph.bytes), *seconds)


def timed(part: Callable[[], None]) -> float:
    """The second of two times, in seconds: the first has memory given to it."""
    part()
    begun = time.perf_counter()
    part()
    return time.perf_counter() - begun


class Kept(saved_tensors_hooks):
    """What autograd keeps for the way back, each storage once; the parameters are there anyway."""

    def __init__(self, state: StudentState) -> None:
        self._held: dict[int, Tensor] = {}
        self._known = {held.untyped_storage().data_ptr() for held in state.params.values()}
        super().__init__(self._pack, lambda kept: kept)

    def _pack(self, tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in self._known:
            self._held[place] = tensor
        return tensor

    @property
    def bytes(self) -> int:
        return sum(held.untyped_storage().nbytes() for held in self._held.values())


def lines(
    problem: TeachingProblem, horizon: int, work: Work, params: int, rate: float, bandwidth: float
) -> Iterator[Sequence[str]]:
    """The unrolled libraries first: T graphs, at the least."""
    forward, reverse = horizon * work.gradient, horizon * work.back
    unrolled = seconds_by_ranks(reverse, 2 * horizon, params, rate, bandwidth)  # back's replay is the run itself
    yield "unrolled: `higher`, `torchopt`, `functorch`", f"> {told(horizon * (work.graph + params))}", "", "", *unrolled
    for name in METHODS:
        backend = l2t.load_backend(name)
        assert isinstance(backend, Backend)
        if isinstance(refusal := backend.supports(problem, horizon), Refused):
            yield f"`{name}`", refusal.reason, "", "", *("" for _ in RANKS)
            continue
        scaling = backend.scaling(problem, horizon)
        disk = getattr(backend, "law", lambda problem, horizon: None)(problem, horizon)
        operations = forward + scaling.recomputed * work.gradient + scaling.steps_back * work.back
        reduces = horizon + scaling.recomputed + 2 * scaling.steps_back
        yield (
            f"`{name}`",
            told((scaling.bytes or 0) + work.graph),
            told(disk.disk_bytes) if disk and disk.disk_bytes else "",
            f"{scaling.recomputed / horizon:.2f} T",
            *seconds_by_ranks(operations, reduces, params, rate, bandwidth),
        )


def seconds_by_ranks(operations: float, reduces: int, params: int, rate: float, bandwidth: float) -> list[str]:
    """operations / (N rate) + reduces 2 (N - 1) / N P / bandwidth: a ring's all-reduce of P bytes."""
    return [
        duration(operations / rate / ranks + reduces * 2 * (ranks - 1) / ranks * params / bandwidth) for ranks in RANKS
    ]


if __name__ == "__main__":
    main()
