"""Where the time of a compiled teacher gradient goes, operator by operator, beside what arithmetic and traffic take.

``python tests/benchmarks/operators.py PROBLEM HORIZON``. The latter is an estimate without cache or overlap: the
floating-point operations of a step and the step back (products and convolutions, as plain torch takes them) at the rate
of a large matrix product, and the bytes that are moved between parameters, slots, adjoint and trajectory at the rate
of a large copy, both measured here first.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import l2t_bench as l2t

_MATRIX, _COPY = 2048, 1 << 26


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problem", nargs="?", default="mnist/mlp[batch=20,dev=1000,features=none]")
    parser.add_argument("horizon", nargs="?", type=int, default=200)
    given = parser.parse_args()
    torch._inductor.config.cpp.enable_kernel_profile = True  # else its kernels have no names in a profile

    problem = l2t.build_problem(given.problem)
    theta, backend = problem.init_teacher(0), l2t.load_backend("rmd[engine=compiled]")
    for _ in range(3):
        cost = backend.teacher_gradient(problem, theta, horizon=given.horizon).cost
    per_step = (cost.seconds_forward + cost.seconds_reverse) / given.horizon
    print(
        f"{given.problem}, T={given.horizon}: {1e6 * per_step:.0f} us a step, dev pass {1e3 * cost.seconds_dev:.1f} ms"
    )
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        backend.teacher_gradient(problem, theta, horizon=given.horizon)
    for line in operators(seen, given.horizon):
        print(line)
    print(estimate(problem))


def operators(seen: profile, horizon: int) -> Iterator[str]:
    """The operators that take the most time of their own, per step."""
    events = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
    yield f"{'operator':70s} {'calls':>6s} {'us a step':>9s}"
    for event in events[:24]:
        yield f"{event.key[:70]:70s} {event.count / horizon:6.2f} {event.self_cpu_time_total / horizon:9.1f}"


def work_of_a_step(problem: l2t.TeachingProblem) -> int:
    """Floating-point operations of a step, its replay and its vector product: what a third step adds to two."""
    theta, backend = problem.init_teacher(0), l2t.load_backend("rmd")
    counted = []
    for horizon in (2, 3):
        backend.teacher_gradient(problem, theta, horizon=horizon)  # looks that are taken once
        with FlopCounterMode(display=False) as counter:
            backend.teacher_gradient(problem, theta, horizon=horizon)
        counted.append(counter.get_total_flops())
    return counted[1] - counted[0]


def estimate(problem: l2t.TeachingProblem) -> str:
    """Of the bytes: w, m read and written forward; w_bar, m_bar read and written back (SGD with momentum)."""
    work = work_of_a_step(problem)
    size = sum(param.numel() * param.element_size() for param in problem.init_student(0).params.values())
    left, right = torch.randn(_MATRIX, _MATRIX), torch.randn(_MATRIX, _MATRIX)
    product = torch.empty(_MATRIX, _MATRIX)
    flops = 2 * _MATRIX**3 / _fastest(lambda: torch.mm(left, right, out=product))
    source, target = torch.zeros(_COPY), torch.zeros(_COPY)
    bandwidth = 2 * 4 * _COPY / _fastest(lambda: target.copy_(source))
    return "\n".join(
        (
            f"a product of {_MATRIX}x{_MATRIX}: {flops / 1e9:.0f} GFLOP/s",
            f"a step and the step back: {work / 1e6:.0f} MFLOP, {1e6 * work / flops:.0f} us at that rate",
            f"a copy of {4 * _COPY >> 20} MiB: {bandwidth / 1e9:.1f} GB/s",
            f"parameters: {size / 1e6:.2f} MB; eight passes over them: {8e6 * size / bandwidth:.0f} us",
        )
    )


def _fastest(call: Callable[[], object]) -> float:
    def seconds() -> float:
        begun = time.perf_counter()
        call()
        return time.perf_counter() - begun

    return min(seconds() for _ in range(10))


if __name__ == "__main__":
    main()
