"""Tensors and a JSON record in one safetensors file: written whole or not at all, read with mistrust, no pickle."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from l2t_bench.durable import write_bytes
from l2t_bench.engine.records import DamagedError
from l2t_bench.tensors import TensorDict, Tensors, is_dense

_KEY = "l2t_bench"  # of the file's metadata
_STRIDES = "strides"  # of the tensors that lie in memory in another order than the file's


@dataclass(frozen=True)
class Kind:
    """What a file is, and the version of its form: another version is not read."""

    name: str
    schema: int


def write_tensors(path: Path, kind: Kind, tensors: Tensors, record: Mapping[str, Any]) -> None:
    """Write ``tensors`` and ``record`` by temporary file, fsync and rename; they are copied to the host.

    Raises ``ValueError`` for numbers that JSON does not have.
    """
    held = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    strides = {name: tensor.stride() for name, tensor in tensors.items() if _is_reordered(tensor)}
    text = json.dumps({"kind": kind.name, "schema": kind.schema, _STRIDES: strides, **record}, allow_nan=False)
    write_bytes(path, save(held, {_KEY: text, "digest": _digest(held, text)}))


def read_tensors(path: Path, kind: Kind) -> tuple[TensorDict, dict[str, Any]]:
    """The tensors of a file, on the host, and its record.

    They lie in memory as those did that were written: in the same order, and each where torch lets one of its own
    begin. A product or a sum over another order, or from an odd address on, may be rounded in another way.

    Raises ``DamagedError`` for one that is cut short, altered, or of another kind or schema, ``FileNotFoundError`` for
    no file. Sizes in its header are held to the file's before anything is allocated.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            text = metadata.get(_KEY)
            if text is None:
                raise DamagedError(f"is not a {kind.name} file of l2t_bench's")
            record = _record_of(text, kind)
            strides = record.pop(_STRIDES, {})
            tensors = {name: _laid(file.get_tensor(name), strides.get(name)) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise
    except DamagedError:
        raise
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"is cut short or no safetensors file ({str(error)[:120]})") from error
    if metadata.get("digest") != _digest(tensors, text):
        raise DamagedError("was altered: its contents are not those that it was written with")
    return tensors, record


def _is_reordered(tensor: Tensor) -> bool:
    return not tensor.is_contiguous() and is_dense(tensor)


def _laid(found: Tensor, stride: Sequence[int] | None) -> Tensor:
    """A copy in memory of its own, which begins where torch lets a tensor begin: the file's own begin anywhere."""
    return found.clone() if stride is None else torch.empty_strided(found.shape, stride, dtype=found.dtype).copy_(found)


def digest_of(tensors: Tensors) -> str:
    """A hash of names, dtypes, shapes and bits."""
    return _digest({name: tensor.detach().cpu() for name, tensor in tensors.items()}, "")[:16]


def _record_of(text: str, kind: Kind) -> dict[str, Any]:
    record = json.loads(text)
    if not isinstance(record, dict) or record.get("kind") != kind.name:
        found = record.get("kind") if isinstance(record, dict) else None
        raise DamagedError(f"is a {found} file, not a {kind.name} file")
    if record.get("schema") != kind.schema:
        raise DamagedError(f"has schema {record.get('schema')!r}, this version reads {kind.schema}")
    return record


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def parted(tree: Any, at: str = "") -> tuple[Any, TensorDict]:
    """A tree of dicts, lists, tuples and tensors as JSON, and its tensors by where they lie: ``optimizer/0/step``.

    Each tensor's place holds ``{"tensor": name}``. ``joined`` undoes it, but for tuples, which are lists then.
    """
    if isinstance(tree, Tensor):
        return {"tensor": at}, {at: tree}
    if isinstance(tree, Mapping):
        parts = {str(key): parted(value, f"{at}/{key}" if at else str(key)) for key, value in tree.items()}
        return {key: json_part for key, (json_part, _) in parts.items()}, _all_of(parts.values())
    if isinstance(tree, list | tuple):
        items = [parted(value, f"{at}/{index}") for index, value in enumerate(tree)]
        return [json_part for json_part, _ in items], _all_of(items)
    return tree, {}


def joined(tree: Any, tensors: Tensors) -> Any:
    """``parted`` undone. Raises ``KeyError`` for a tensor that is not there."""
    if isinstance(tree, dict):
        if tree.keys() == {"tensor"}:
            return tensors[tree["tensor"]]
        return {key: joined(value, tensors) for key, value in tree.items()}
    return [joined(value, tensors) for value in tree] if isinstance(tree, list) else tree


def _all_of(parts: Any) -> TensorDict:
    return {name: tensor for _, tensors in parts for name, tensor in tensors.items()}
