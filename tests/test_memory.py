"""Check 10: memory follows its law in T, and calls in a row peak alike. Each measurement is a process of its own."""

import json
import subprocess
import sys

import pytest

UNROLLED = ("higher", "torchopt", "functorch")
WIDE = "digits/mlp[hidden=2000,features=none,dev=50]"  # P = 150,010 parameters, 0.6 MB in float32: far above the noise

_SCRIPT = """
import json, sys
import torch
import l2t_bench as l2t
from l2t_bench.resident import release_free_memory, whole_pages
torch.set_num_threads(1)
backend, problem = l2t.load_backend(sys.argv[1]), l2t.build_problem(sys.argv[2])
theta = problem.init_teacher(0)
with whole_pages():
    backend.teacher_gradient(problem, theta, horizon=5)
peaks = []
for horizon in map(int, sys.argv[3:]):
    release_free_memory()
    with whole_pages():
        cost = backend.teacher_gradient(problem, theta, horizon=horizon).cost
    peaks.append((cost.host_start_bytes, cost.host_peak_bytes))
print(json.dumps(peaks))
"""


def levels(backend: str, *horizons: int) -> list[tuple[float, float]]:
    """Start and peak of one teacher gradient at each horizon, in one process, in units of the student's parameters."""
    command = [sys.executable, "-c", _SCRIPT, backend, WIDE, *map(str, horizons)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    if any(None in pair for pair in found):
        pytest.skip("this platform does not tell a process's peak memory")
    return [(start / STATE_BYTES, peak / STATE_BYTES) for start, peak in found]


def growth_per_step(backend: str, horizon: int = 250) -> float:
    """How many sets of parameters the peak above the start grows by with each step from 50 to ``horizon``."""
    (start, peak), (later_start, later_peak) = levels(backend, 50, horizon)
    return ((later_peak - later_start) - (peak - start)) / (horizon - 50)


PARAMETERS = 2000 * (64 + 1) + 10 * (2000 + 1)
STATE_BYTES = 4 * PARAMETERS
BATCH_BYTES = 20 * (64 * 4 + 8)  # of a step's record, which every method keeps


def test_rmd_keeps_one_set_of_parameters_per_step() -> None:
    assert growth_per_step("rmd") == pytest.approx(1.0, abs=0.05), "T*P + G"


@pytest.mark.slow
def test_the_store_on_the_host_keeps_one_per_step_there() -> None:
    assert growth_per_step("rmd[store=host]") == pytest.approx(1.0, abs=0.05), "T*P of the host's memory"


@pytest.mark.slow
def test_the_reversible_store_keeps_at_most_a_quarter_of_a_bit_per_parameter_and_step() -> None:
    grown = growth_per_step("rmd[store=reversible]", 1000)  # bits are spilled by 32: one spill takes 210 steps
    assert 0 < grown < 0.25 / 32 + BATCH_BYTES / STATE_BYTES, "log2(1/0.9) = 0.152 bits, and the record of the step"


@pytest.mark.slow
@pytest.mark.parametrize("store", ["disk", "sqrt", "binomial"])
def test_the_stores_that_save_memory_do(store: str) -> None:
    assert growth_per_step(f"rmd[store={store}]") < {"disk": 0.05, "sqrt": 0.2, "binomial": 0.1}[store]


def test_a_budget_of_graphs_is_kept() -> None:
    budget = 150  # states; all the 100 graphs would take some 240
    ((_, _), (start, peak)) = levels(f"rmd[store=graph,budget={budget * STATE_BYTES}]", 20, 100)
    assert 0.9 * budget < peak - start < 1.1 * budget


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend",
    [
        *("truncated[window=20]", "torchopt-implicit[batches=5,iterations=5]", "implicit[batches=5,iterations=5]"),
        *("one-step", "evolution[estimator=es,population=2]", "forward"),
    ],
)
def test_memory_of_the_approximate_methods_does_not_grow_with_the_horizon(backend: str) -> None:
    assert growth_per_step(backend) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("backend", UNROLLED)
def test_unrolled_memory_grows_with_the_horizon(backend: str) -> None:
    assert growth_per_step(backend) > 0.3, "the graph of each step is kept"


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", ["rmd", "truncated[window=20]", "torchopt-implicit[batches=5,iterations=5]", *UNROLLED]
)
def test_calls_in_a_row_start_and_peak_alike(backend: str) -> None:
    starts, peaks = zip(*levels(backend, 60, 60, 60), strict=True)
    assert max(starts) - min(starts) < 5, "a trajectory left behind would be 60 at least"
    assert max(peaks) - min(peaks) < 5
