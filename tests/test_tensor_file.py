"""Tensors in a file: what is read lies in memory as what was written, or the next sum is rounded in another way."""

from pathlib import Path

import pytest
import torch

from l2t_bench.engine.records import DamagedError
from l2t_bench.tensor_file import Kind, read_tensors, write_tensors
from l2t_bench.tensors import Tensors

KIND = Kind("test", 1)
AS_TORCH_ALLOCATES = 64  # bytes


def through_a_file(folder: Path, tensors: Tensors) -> Tensors:
    write_tensors(folder / "file", KIND, tensors, {"said": "of them"})
    found, record = read_tensors(folder / "file", KIND)
    assert record["said"] == "of them"
    return found


def test_every_tensor_begins_where_torch_lets_one_begin(tmp_path: Path) -> None:
    """A safetensors file sets one behind the other; MKL takes a product from an odd address on by another path."""
    found = through_a_file(tmp_path, {str(size): torch.randn(size) for size in (3, 7, 1, 50, 5)})
    assert [tensor.data_ptr() % AS_TORCH_ALLOCATES for tensor in found.values()] == [0] * 5


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(torch.arange(12.0).reshape(3, 4).t(), id="a transposed matrix"),
        pytest.param(torch.arange(48.0).reshape(1, 3, 4, 4).to(memory_format=torch.channels_last), id="channels last"),
        pytest.param(torch.arange(12.0).reshape(3, 4), id="a matrix"),
        pytest.param(torch.tensor(2.5), id="a number"),
        pytest.param(torch.empty(0, 3), id="nothing"),
    ],
)
def test_a_tensor_keeps_its_order_in_memory(tmp_path: Path, tensor: torch.Tensor) -> None:
    found = through_a_file(tmp_path, {"tensor": tensor})["tensor"]
    assert found.equal(tensor) and found.stride() == tensor.stride()


def test_a_view_with_gaps_comes_back_without_them(tmp_path: Path) -> None:
    view = torch.arange(12.0).reshape(3, 4)[:, ::2]
    found = through_a_file(tmp_path, {"view": view})["view"]
    assert found.equal(view) and found.is_contiguous()


def test_strides_are_under_the_digest(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", KIND, {"matrix": torch.arange(9.0).reshape(3, 3).t()}, {})
    content = (tmp_path / "file").read_bytes()
    assert b"[1, 3]" in content
    (tmp_path / "file").write_bytes(content.replace(b"[1, 3]", b"[3, 1]"))
    with pytest.raises(DamagedError, match="altered"):
        read_tensors(tmp_path / "file", KIND)
