"""The meter: what a computation holds for a moment is seen, what it takes is not less than it took."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import l2t_bench as l2t
from l2t_bench import resident
from l2t_bench.gradient import Cost
from l2t_bench.measure import Meter
from l2t_bench.resident import peak_resident_bytes, release_free_memory, reset_peak_resident, resident_bytes
from l2t_bench.verification.samples import general_theta, random_problem

MB = 10**6
LAG = 2 * MB  # the kernel adds up resident pages per thread, and tells them some dozens late
CPU = torch.device("cpu")

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux: /proc tells resident sizes"
)


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    release_free_memory()
    yield
    release_free_memory()


def touch(megabytes: int) -> None:
    """Hold so many megabytes for a moment, every page of them written to."""
    block = torch.ones(megabytes * MB, dtype=torch.uint8)
    assert int(block[-1]) == 1


@needs_proc
def test_a_meter_sees_memory_that_was_held_for_a_moment_only() -> None:
    meter = Meter(CPU)
    touch(300)
    host = meter.host()
    assert host.start is not None and host.peak is not None
    assert 300 * MB - LAG <= host.peak - host.start < 330 * MB
    resident = resident_bytes()
    assert resident is not None and resident < host.start + 30 * MB, "the block must be gone"


@needs_proc
def test_a_meter_does_not_see_what_was_held_before_it_began() -> None:
    touch(300)
    meter = Meter(CPU)
    touch(40)
    host = meter.host()
    assert host.start is not None and host.peak is not None
    assert 40 * MB - LAG <= host.peak - host.start < 70 * MB


@needs_proc
def test_resetting_the_peak_makes_it_the_size_of_now() -> None:
    touch(200)
    before = peak_resident_bytes()
    reset_peak_resident()
    after, now = peak_resident_bytes(), resident_bytes()
    assert before is not None and after is not None and now is not None
    assert after < before - 150 * MB
    assert abs(after - now) < 20 * MB


@needs_proc
def test_a_teacher_gradients_peak_counts_what_its_batches_hold() -> None:
    def large(index: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(index)
        inputs = torch.randn(500_000, 6, generator=generator, dtype=torch.float64)  # 24 MB
        return inputs, torch.zeros(500_000, dtype=torch.int64)

    small = random_problem()
    problem = l2t.TeachingProblem(
        student=small.student,
        teacher=small.teacher,
        loss=small.loss,
        objective=small.objective,
        optimizer=small.optimizer,
        train=large,
        dev=small.dev,
    )
    theta = general_theta(small)
    backend = l2t.load_backend("rmd")
    backend.teacher_gradient(small, theta, horizon=2)  # what torch loads when it is first used is no batch's memory
    modest = backend.teacher_gradient(small, theta, horizon=2).cost.host_bytes
    release_free_memory()
    much = backend.teacher_gradient(problem, theta, horizon=2).cost.host_bytes
    assert modest is not None and much is not None
    assert much >= 48 * MB - LAG and modest < 40 * MB  # the record keeps two batches


_CUT_UP = """
import torch
from l2t_bench.resident import resident_bytes, trimmed_level

def touch(size):
    return torch.ones(size << 20, dtype=torch.uint8)

del_me = touch(30)  # glibc takes blocks up to the largest that was freed from its heap from then on
del del_me
level, pins = resident_bytes(), []
for width in range(60):
    block = touch(5)
    pins.append(torch.ones(200_000, dtype=torch.uint8))  # small, and stays, as a step's batch does
    pins.append(block)
blocks = pins[1::2]
del pins[1::2], block, blocks
before, told = resident_bytes(), trimmed_level(level)
print(level >> 20, before >> 20, told >> 20, trimmed_level(told) >> 20)
"""


@needs_proc
def test_what_a_cut_up_heap_holds_free_is_given_back_where_a_process_has_grown_by_it() -> None:
    found = subprocess.run([sys.executable, "-c", _CUT_UP], check=True, capture_output=True, text=True)
    level, before, after, again = map(int, found.stdout.split())
    assert before > level + 250, "the heap keeps what was freed between blocks that are held"
    assert after < level + 30
    assert again == after


def test_a_phase_takes_no_less_than_it_took() -> None:
    meter = Meter(CPU)
    with meter.phase("sleep"):
        time.sleep(0.2)
    assert list(meter.seconds) == ["sleep"] and meter.seconds["sleep"] >= 0.2


def test_the_seconds_of_a_phase_add_up_also_when_it_fails() -> None:
    meter = Meter(CPU)
    for _ in range(2):
        with meter.phase("work"):
            time.sleep(0.02)
    with contextlib.suppress(KeyError), meter.phase("work"):
        time.sleep(0.02)
        raise KeyError
    assert meter.seconds["work"] >= 0.06


def test_counts_add_up_by_kind() -> None:
    meter = Meter(CPU)
    meter.count(gradients=3)
    meter.count(gradients=2, vector_products=1)
    assert meter.counts == {"gradients": 5, "vector_products": 1}


def test_a_cpu_has_no_device_memory_to_tell() -> None:
    device = Meter(CPU).device()
    assert (device.start, device.peak) == (None, None)


def test_where_the_platform_does_not_tell_memory_is_unknown_and_not_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "_STATUS", tmp_path / "missing")
    monkeypatch.setattr(resident, "_CLEAR_REFS", tmp_path / "no folder" / "missing")
    problem = random_problem()
    cost = l2t.load_backend("rmd").teacher_gradient(problem, general_theta(problem), horizon=2).cost
    assert cost.host_bytes is None and cost.host_peak_bytes is None and cost.device_bytes is None


def test_a_cost_is_the_sum_of_its_phases_and_the_peak_above_its_start() -> None:
    cost = Cost(
        seconds_forward=1.0,
        seconds_reverse=2.0,
        seconds_dev=0.5,
        host_start_bytes=100,
        host_peak_bytes=160,
        device_start_bytes=30,
        device_peak_bytes=20,
        gradients=1,
        vector_products=2,
        recomputed_steps=3,
    )
    assert cost.seconds == 3.5 and cost.host_bytes == 60
    assert cost.device_bytes == 0, "never below zero"


@pytest.mark.parametrize(
    ("backend", "products", "recomputed"), [("rmd", 7, 7), ("truncated[window=3]", 3, 3), ("higher", 0, 0)]
)
def test_a_backend_reports_what_it_did(backend: str, products: int, recomputed: int) -> None:
    problem = random_problem()
    cost = l2t.load_backend(backend).teacher_gradient(problem, general_theta(problem), horizon=7).cost
    assert (cost.gradients, cost.vector_products, cost.recomputed_steps) == (7, products, recomputed)
    assert min(cost.seconds_forward, cost.seconds_reverse, cost.seconds_dev) > 0
