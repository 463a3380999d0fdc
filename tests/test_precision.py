"""float32 is float32, on a GPU too."""

from collections.abc import Iterator

import pytest
import torch

from l2t_bench.precision import full_float32

CARD, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture(autouse=True)
def torchs_defaults() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")
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


def test_nothing_is_set_for_a_cpu() -> None:
    with full_float32(CPU):
        assert torch.backends.cudnn.allow_tf32
