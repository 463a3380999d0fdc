"""Outer steps on a GPU: the engines of ``rmd`` and the unrolling libraries in turn, in one process.

``python tests/benchmarks/gpu.py [--seconds S] [--rounds N] [--json FILE] [PROBLEM:T ...]`` prints a table as Markdown,
and writes a line of JSON for each outer step. Each method is warmed up at the horizon itself, and its d_theta is held
to that of ``rmd`` in plain torch before its time counts. A method that takes longer than ``--seconds`` for an outer
step gets one round. Times are the host's with the device waited for, and in shuffled order.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

import l2t_bench as l2t
from l2t_bench.errors import said_first
from l2t_bench.problem import TeachingProblem
from l2t_bench.tensors import TensorDict, relative_difference
from l2t_bench.units import told

MLP, LENET = (f"mnist/{student}[batch=20,dev=1000,features=none]" for student in ("mlp", "lenet"))
WORKS = (f"{MLP}:500", f"{LENET}:500")
OURS = ("rmd", "rmd[engine=compiled]", "rmd[engine=graphed]")
PEERS = ("higher", "torchopt", "functorch")


def timed(method: str, problem: TeachingProblem, theta: TensorDict, horizon: int) -> dict[str, Any]:
    """One outer step: its seconds by the host's clock, its phases' by the device's, and its peak on the device."""
    torch.cuda.synchronize(problem.device)
    begun = time.perf_counter()
    found = l2t.load_backend(method).teacher_gradient(problem, theta, horizon=horizon)
    torch.cuda.synchronize(problem.device)
    cost = found.cost
    return {
        "method": method,
        "problem": problem.name,
        "horizon": horizon,
        "seconds": time.perf_counter() - begun,
        "forward": cost.seconds_forward,
        "reverse": cost.seconds_reverse,
        "compile": cost.seconds_compile,
        "device_bytes": cost.device_bytes,
        "warnings": list(found.warnings),
        "d_theta": found.d_theta,
    }


def rounds(problem: TeachingProblem, horizon: int, methods: Sequence[str], given: Any) -> Iterator[dict[str, Any]]:
    """A warm-up of each method, then rounds in shuffled order; methods that fail say why, and drop out."""
    theta = problem.init_teacher(0)
    exact: TensorDict | None = None
    standing, first = [], {}
    for method in methods:
        try:
            told_first = timed(method, problem, theta, horizon)
        except Exception as error:  # a benchmark goes on with the others
            yield {"method": method, "failed": said_first(error)}
            continue
        exact = exact or told_first["d_theta"]
        yield {**told_first, "round": -1, "apart": relative_difference(told_first["d_theta"], exact)}
        standing.append(method)
        first[method] = told_first["seconds"] - told_first["compile"]
    order = random.Random(0)
    for number in range(given.rounds):
        turn = [method for method in standing if number == 0 or first[method] <= given.seconds]
        order.shuffle(turn)
        for method in turn:
            yield {**timed(method, problem, theta, horizon), "round": number}


def table(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A row a method: medians, and the ratio to the fastest peer's median."""
    counted = [each for each in found if each.get("round", -1) >= 0]
    names = list(dict.fromkeys(each["method"] for each in counted))
    own = {name: [each for each in counted if each["method"] == name] for name in names}
    medians = {name: statistics.median(each["seconds"] for each in rows) for name, rows in own.items()}
    peers = [medians[name] for name in PEERS if name in medians]
    apart = {each["method"]: each["apart"] for each in found if "apart" in each}
    compile_ = {each["method"]: each["compile"] for each in found if "apart" in each}
    yield "| method | s an outer step | forward, reverse | over fastest peer | peak on device | compile, s | apart |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name, rows in own.items():
        seconds = [each["seconds"] for each in rows]
        phases = ", ".join(f"{statistics.median(each[phase] for each in rows):.3f}" for phase in ("forward", "reverse"))
        ratio = f"{medians[name] / min(peers):.3f}" if peers else ""
        spread = f"{medians[name]:.3f} [{min(seconds):.3f}, {max(seconds):.3f}] of {len(seconds)}"
        size = told(rows[0]["device_bytes"] or 0)
        yield f"| `{name}` | {spread} | {phases} | {ratio} | {size} | {compile_[name]:.1f} | {apart[name]:.0e} |"
    for each in found:
        if "failed" in each:
            yield f"\n`{each['method']}` failed: {each['failed']}"
        if each.get("round") == -1 and each["warnings"]:
            yield f"\n`{each['method']}`: {' '.join(each['warnings'])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("works", nargs="*", default=WORKS, help="PROBLEM:T")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--methods", nargs="*", default=[*OURS, *PEERS])
    parser.add_argument("--json", help="a file to which each outer step is written as a line")
    given = parser.parse_args()
    for work in given.works:
        name, _, horizon = work.rpartition(":")
        problem, found = l2t.build_problem(name, device=given.device), []
        for each in rounds(problem, int(horizon), given.methods, given):
            told_of = {key: value for key, value in each.items() if key != "d_theta"}
            found.append(told_of)
            if given.json:
                with open(given.json, "a") as file:
                    file.write(json.dumps(told_of) + "\n")
        where = torch.cuda.get_device_name(problem.device)
        print(f"\n{name}, T={horizon}, {where}, torch {torch.__version__}\n", *table(found), sep="\n", flush=True)


if __name__ == "__main__":
    main()
