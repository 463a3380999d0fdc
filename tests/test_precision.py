"""float32 is float32, on a GPU too."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch

import l2t_bench as l2t
from l2t_bench import rollout
from l2t_bench.effective_lr import effective_lrs
from l2t_bench.engine.environment import torch_settings
from l2t_bench.precision import full_float32
from l2t_bench.steppers.compiling import settings_of_torch
from l2t_bench.verification.samples import random_problem

CARD, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture(autouse=True)
def torchs_defaults() -> Iterator[None]:
    yield
    torch.backends.fp32_precision = torch.backends.cudnn.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cudnn.rnn.fp32_precision = "tf32"
    torch.backends.cudnn.allow_tf32 = True


def test_convolutions_are_as_precise_as_matrix_products_inside_and_what_they_were_outside() -> None:
    assert torch.backends.cudnn.allow_tf32  # torch's default
    with full_float32(CARD):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    with pytest.raises(KeyError), full_float32(CARD):
        raise KeyError
    assert torch.backends.cudnn.allow_tf32


def test_who_asks_for_less_has_it() -> None:
    torch.set_float32_matmul_precision("high")
    with full_float32(CARD):
        assert torch.backends.cudnn.allow_tf32


def test_what_was_set_for_convolutions_alone_stays() -> None:
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    with full_float32(CARD):
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"


@pytest.mark.parametrize("precision", ["tf32", "ieee"])
def test_a_precision_that_was_set_for_everything_at_once_is_left_and_told(precision: str) -> None:
    """By the way that torch recommends, after which its older questions raise."""
    torch.backends.fp32_precision = precision
    with full_float32(CARD):
        assert torch.backends.cudnn.conv.fp32_precision == precision
    told, less = torch_settings(), precision == "tf32"
    assert (told["tf32_cudnn"], told["tf32_matmul"]) == (less, less)


def test_steps_compiled_under_other_settings_are_other_steps() -> None:
    """A recorded graph goes on with the kernels that were chosen when it was recorded."""
    seen = [settings_of_torch(CARD)]
    for convolutions, recurrence in (("ieee", "tf32"), ("tf32", "ieee"), ("ieee", "ieee")):
        torch.backends.cudnn.conv.fp32_precision = convolutions
        torch.backends.cudnn.rnn.fp32_precision = recurrence
        seen.append(settings_of_torch(CARD))
    torch.backends.fp32_precision = "tf32"
    seen.append(settings_of_torch(CARD))
    assert len(set(seen)) == len(seen)


def test_students_that_are_judged_or_recorded_are_taught_in_float32_too(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = []

    def noted(device: torch.device) -> AbstractContextManager[None]:
        devices.append(device.type)
        return nullcontext()

    monkeypatch.setattr(rollout, "full_float32", noted)
    problem = random_problem()
    theta = problem.init_teacher(0)
    l2t.teach(problem, theta, horizon=1, seed=0)
    rollout.record(problem, theta, horizon=1)
    effective_lrs(problem, theta, horizon=1, seed=0)
    assert devices == ["cpu"] * 3


def test_nothing_is_set_for_a_cpu() -> None:
    with full_float32(CPU):
        assert torch.backends.cudnn.allow_tf32
