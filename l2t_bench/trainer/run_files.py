"""A student's run that was left on its way as files: one for each kept state, written once, and one for the rest."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from l2t_bench.engine.records import DamagedError
from l2t_bench.kept_run import KeptRun, There, WayBack, WayForward
from l2t_bench.optimizers import Adjoint
from l2t_bench.problem import StudentState
from l2t_bench.stores.rows import Form, Layout, layout_of
from l2t_bench.tensor_file import Kind, joined, parted, read_tensors, write_tensors

RUN, STATE = Kind("run", 1), Kind("state", 1)
_RUN_FILE, _STATE_FILE, _STATES = "run.safetensors", "state-{:08d}.safetensors", "state-*.safetensors"


def write_run(folder: Path, key: Mapping[str, Any], run: KeptRun) -> None:
    """Keep ``run`` in the place of what was kept of it before. ``key``: which run of which theta it is."""
    for index, state in run.states.items():
        file = folder / _STATE_FILE.format(index)
        if not file.exists():  # a state is a function of its step: one that was written is the same
            _write_tree(file, STATE, {"key": key, "state": state_tree(state)})
    _write_tree(folder / _RUN_FILE, RUN, {"key": key, "states": sorted(run.states), **_run_tree(run)})
    named = {_STATE_FILE.format(index) for index in run.states}
    for file in folder.glob(_STATES):
        if file.name not in named:
            file.unlink()


def read_run(folder: Path, key: Mapping[str, Any], device: torch.device) -> KeptRun | None:
    """What ``write_run`` has kept; ``None`` where that is nothing, or another run.

    Raises ``DamagedError`` for files that are not as they were written.
    """
    try:
        tree = _read_tree(folder / _RUN_FILE, RUN)
    except FileNotFoundError:
        return None
    if tree["key"] != key:
        return None
    try:
        states = {index: _state(folder / _STATE_FILE.format(index), key, device) for index in tree["states"]}
        return _run(tree, states, device)
    except FileNotFoundError as error:
        raise DamagedError("lacks one of its states") from error
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise DamagedError(f"is not of the form that a run is kept in ({error})") from error


def clear(folder: Path) -> None:
    """Drop what is kept of a run."""
    for file in [folder / _RUN_FILE, *folder.glob(_STATES)]:
        with suppress(OSError):
            file.unlink()


def state_tree(state: StudentState) -> dict[str, Any]:
    """A state as one row of bytes, which keeps strides with the bits, and what the bytes are."""
    layout = layout_of(state)
    row = torch.empty(layout.size, dtype=torch.uint8)
    layout.write(state, row)
    forms = [
        [form.part, form.name, str(form.dtype).removeprefix("torch."), form.shape, form.stride, form.size]
        for form in layout.forms
    ]
    return {"row": row, "forms": forms}


def state_of(tree: Mapping[str, Any], device: torch.device) -> StudentState:
    """``state_tree`` undone."""
    forms = tuple(
        Form(part, name, getattr(torch, dtype), tuple(shape), tuple(stride), size)
        for part, name, dtype, shape, stride, size in tree["forms"]
    )
    layout = Layout(forms)
    if layout.size != len(tree["row"]):
        raise ValueError("a row of another length")
    return layout.read(tree["row"], device)


def _run_tree(run: KeptRun) -> dict[str, Any]:
    """Of all but the states: the different s_t, which of them each step has, and how far the run has come."""
    different = list({id(status): status for status in run.features}.values())
    place = {id(status): at for at, status in enumerate(different)}
    return {
        "features": different,
        "of_step": torch.tensor([place[id(status)] for status in run.features], dtype=torch.int64),
        "losses": torch.stack(list(run.losses)),
        "at": _forward_tree(run.at) if isinstance(run.at, WayForward) else _back_tree(run.at),
    }


def _forward_tree(at: WayForward) -> dict[str, Any]:
    return {"index": at.index, "state": state_tree(at.state)}


def _back_tree(at: WayBack) -> dict[str, Any]:
    there = {
        "value": at.there.value,
        "final": state_tree(at.there.final),
        "w_bar": state_tree(StudentState(at.there.w_bar, {})),
    }
    return {
        "index": at.index,
        "there": there,
        "adjoint": state_tree(StudentState(at.adjoint.params, {}, dict(at.adjoint.slots))),
        "d_theta": at.d_theta,
        "d_phi": list(at.d_phi),
        "norms": [[step, norm] for step, norm in at.norms.items()],
    }


def _run(tree: Mapping[str, Any], states: Mapping[int, StudentState], device: torch.device) -> KeptRun:
    different = [status.to(device) for status in tree["features"]]
    features = [different[at] for at in tree["of_step"].tolist()]
    at = tree["at"]
    if "state" in at:
        way: WayForward | WayBack = WayForward(at["index"], state_of(at["state"], device))
    else:
        way = _way_back(at, device)
    return KeptRun(features, list(tree["losses"].to(device).unbind(0)), states, way)


def _way_back(at: Mapping[str, Any], device: torch.device) -> WayBack:
    there, adjoint = at["there"], state_of(at["adjoint"], device)
    return WayBack(
        at["index"],
        Adjoint(adjoint.params, adjoint.slots),
        There(there["value"], state_of(there["final"], device), state_of(there["w_bar"], device).params),
        _moved(at["d_theta"], device),
        [part.to(device) for part in at["d_phi"]],
        {int(step): float(norm) for step, norm in at["norms"]},
    )


def _moved(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def _state(file: Path, key: Mapping[str, Any], device: torch.device) -> StudentState:
    tree = _read_tree(file, STATE)
    if tree["key"] != key:
        raise ValueError("a state of another run")
    return state_of(tree["state"], device)


def _write_tree(file: Path, kind: Kind, tree: Mapping[str, Any]) -> None:
    json_part, tensors = parted(tree)
    write_tensors(file, kind, tensors, {"tree": json_part})


def _read_tree(file: Path, kind: Kind) -> dict[str, Any]:
    tensors, record = read_tensors(file, kind)
    try:
        tree: dict[str, Any] = joined(record["tree"], tensors)
    except (LookupError, TypeError) as error:
        raise DamagedError(f"lacks {error}") from error
    return tree
