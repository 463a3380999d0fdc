"""One method in a process of its own: its peak memory, its outer steps, and in turn with them plain student training.

``python tests/benchmarks/alone.py PROBLEM HORIZON METHOD ROUNDS`` writes one line of JSON: ``peak_above_start_bytes``
of some outer steps, ``outer step`` and ``student training`` (seconds, a number per round), ``seconds_compile``.
``bounds.py`` takes the peaks alone.
"""

import json
import sys
from typing import Any

import l2t_bench as l2t
from l2t_bench.backend import Run
from l2t_bench.measure import Meter
from l2t_bench.problem import TeachingProblem
from l2t_bench.resident import release_free_memory, whole_pages
from l2t_bench.rollout import Rollout
from l2t_bench.steppers.eager import EagerStepper
from l2t_bench.stored import StoredRMD
from l2t_bench.tensors import Tensors

WARM_UP, PEAKS = 10, 3


def student_training(method: Any, problem: TeachingProblem, theta: Tensors, horizon: int) -> float:
    """Seconds of one student's training by the steps that the method takes, of which nothing is kept."""
    meter = Meter(problem.device)
    rollout = Rollout(problem, theta, horizon=horizon)
    stepper = method.stepper(Run(rollout, meter)) if isinstance(method, StoredRMD) else EagerStepper(rollout, meter)
    stepper.reserve(0, 0, slots=False)  # of no state, and of no slots
    with meter.phase("forward"):
        state = rollout.initial()
        for index in range(horizon):
            state = stepper.advance(rollout.step(index, state), state)
    return meter.seconds["forward"]


def peaks_above_start(
    method: l2t.TeacherGradientBackend, problem: TeachingProblem, theta: Tensors, horizon: int, runs: int = PEAKS
) -> tuple[list[int], float]:
    """Bytes of each run, counted as a gradient cell counts them, and the seconds that these and a short one compiled.

    The first long run of compiled steps holds each of them to plain torch.
    """
    with whole_pages():
        costs = [method.teacher_gradient(problem, theta, horizon=WARM_UP).cost]
        for _ in range(runs):
            release_free_memory()
            costs.append(method.teacher_gradient(problem, theta, horizon=horizon).cost)
    peaks = [cost.host_bytes for cost in costs[1:]]
    return [peak for peak in peaks if peak is not None], sum(cost.seconds_compile for cost in costs)


def measure(problem_name: str, horizon: int, method_name: str, rounds: int) -> dict[str, Any]:
    """What the module's first lines say. Memory first: later, the heap holds what earlier runs have left."""
    problem, method = l2t.build_problem(problem_name), l2t.load_backend(method_name)
    theta = problem.init_teacher(0)
    peaks, seconds_compile = peaks_above_start(method, problem, theta, horizon)
    student_training(method, problem, theta, WARM_UP)
    outer, training = [], []
    for _ in range(rounds):
        outer.append(method.teacher_gradient(problem, theta, horizon=horizon).cost.seconds)
        training.append(student_training(method, problem, theta, horizon))
    return {
        "peak_above_start_bytes": peaks,
        "outer step": outer,
        "student training": training,
        "seconds_compile": seconds_compile,
    }


if __name__ == "__main__":
    problem_name, horizon, method_name, rounds = sys.argv[1:]
    print(json.dumps(measure(problem_name, int(horizon), method_name, int(rounds))))
