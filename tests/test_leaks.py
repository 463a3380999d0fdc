"""Fifty calls in a row leave nothing behind, whatever the method and its options. A process for each backend."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

import l2t_bench as l2t
from l2t_bench.names import describe_options
from l2t_bench.registry import backend_class, missing_library

PROBLEM = "digits/mlp[hidden=500,features=none,dev=50]"
STATE_BYTES = 4 * (500 * (64 + 1) + 10 * (500 + 1))
CALLS, WARM = 50, 10
COUNTS = {"students": 3, "microbatches": 2, "every": 2, "directions": 2}  # by option: a number is not told by its type
GOES_WITH = {"activations": "engine=compiled"}  # by option: another's choice, without which it is refused
CHEAP = {  # by backend: what keeps it from taking long
    "evolution": "population=4",
    "implicit": "batches=2",
    "torchopt-implicit": "batches=2,iterations=2",
    "truncated": "window=2",
}

_SCRIPT = """
import gc, json, sys
import torch
import l2t_bench as l2t
from l2t_bench.metabatch.contract import students_at_once, teacher_gradients
from l2t_bench.resident import release_free_memory, resident_bytes, whole_pages
torch.set_num_threads(1)
problem, warm, calls = l2t.build_problem(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
theta = problem.init_teacher(0)

def level(backend, times):
    for at in range(times):
        if at == times - 1:
            gc.collect()  # cycles that wait for their collection are no leak, and lie in the last call's peak
        found = teacher_gradients(backend, problem, theta, horizon=4, seeds=range(students_at_once(backend)))
    cost, warnings = found[0].cost, found[0].warnings
    del found
    release_free_memory()
    return {"resident": resident_bytes(), "peak": cost.host_peak_bytes, "objects": len(gc.get_objects()),
            "warnings": warnings}

told = {}
with whole_pages():
    for name in sys.argv[4:]:
        backend = l2t.load_backend(name)
        refused = backend.supports(problem, 4)
        told[name] = str(refused) if not refused else [level(backend, warm), level(backend, calls - warm)]
print(json.dumps(told))
"""

_LEAKING = """
from dataclasses import dataclass
from typing import Literal
from l2t_bench.backends.rmd import ManualRMD

KEPT = []

@dataclass(frozen=True)
class Leaking(ManualRMD):
    kind: Literal["state", "object"] = "state"
    name = "leaking"

    def differentiate(self, run):
        found = super().differentiate(run)
        KEPT.append(found.final.params if self.kind == "state" else [run.horizon])
        return found
"""


def ways(name: str) -> Iterator[str]:
    """The backend, and it with each other choice of each of its options: a new one is among them by itself."""
    hints, cheap = get_type_hints(backend_class(name)), CHEAP.get(name)
    yield f"{name}[{cheap}]" if cheap else name
    for option, default in describe_options(backend_class(name)).items():
        for choice in _others(option, hints[option], default):
            yield f"{name}[{','.join(filter(None, (cheap, GOES_WITH.get(option), f'{option}={choice}')))}]"


def _others(option: str, hint: Any, default: object) -> list[object]:
    if get_origin(hint) is Literal:
        return [choice for choice in get_args(hint) if choice != default]
    if hint is bool:
        return [str(not default).lower()]
    return [COUNTS[option]] if option in COUNTS else []


def compiles(way: str) -> bool:
    return "engine=compiled" in way


def check_is_installed(name: str) -> None:
    if (missing := missing_library("backends", name)) is not None:
        pytest.skip(f"{missing} is not installed")


def assert_nothing_is_left_behind(ways: list[str]) -> None:
    command = [sys.executable, "-c", _SCRIPT, PROBLEM, str(WARM), str(CALLS), *ways]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert list(told) == ways and isinstance(told[ways[0]], list), told
    for way, levels in told.items():
        if isinstance(levels, str):
            continue  # refused, for this problem
        early, late = levels
        assert not (late["warnings"] and ("students=" in way or compiles(way))), f"{way} went another way: {late}"
        known = [key for key in ("resident", "peak") if early[key] is not None]  # a platform may not tell
        states = {key: (late[key] - early[key]) / STATE_BYTES for key in known}
        assert all(count < 10 for count in states.values()), f"{way}: {states}; {CALLS - WARM} would be one a call"
        assert late["objects"] - early["objects"] < CALLS - WARM, f"{way}: an object is left behind by each call"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "rmd" else pytest.mark.slow) for name in l2t.list_backends()]
)
def test_fifty_calls_in_a_row_leave_nothing_behind(name: str) -> None:
    check_is_installed(name)
    assert_nothing_is_left_behind([next(ways(name))])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in l2t.list_backends() if describe_options(backend_class(name))])
def test_nor_do_they_with_any_option(name: str) -> None:
    check_is_installed(name)
    assert_nothing_is_left_behind([way for way in ways(name) if not compiles(way)])


@pytest.mark.slow
@pytest.mark.parametrize("way", [way for name in l2t.list_backends() for way in ways(name) if compiles(way)])
def test_nor_do_compiled_steps(way: str) -> None:
    others = ["students=3"] if "activations" in way else ["students=3", "store=sqrt"]  # activations: store=all only
    assert_nothing_is_left_behind([way, *(f"{way[:-1]},{other}]" for other in others)])


@pytest.mark.slow
def test_a_method_that_leaves_something_behind_is_found_out(tmp_path: Path) -> None:
    file = tmp_path / "leaking.py"
    file.write_text(_LEAKING)
    for kind, told in (("state", "40 would be one a call"), ("object", "an object is left behind")):
        with pytest.raises(AssertionError, match=told):
            assert_nothing_is_left_behind([f"{file}:Leaking[kind={kind}]"])


def test_every_option_that_changes_the_way_is_taken() -> None:
    assert {f"rmd[store={store}]" for store in ("sqrt", "binomial", "disk", "host", "graph", "reversible")} < {
        *ways("rmd")
    }
    assert {"rmd[engine=compiled]", "rmd[students=3]", "rmd[hvp=for]", "rmd[hyper=true]"} < {*ways("rmd")}
    assert "torchopt[api=meta]" in ways("torchopt")
    assert any("solver=normal-cg" in way for way in ways("torchopt-implicit"))
