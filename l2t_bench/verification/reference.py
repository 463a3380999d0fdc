"""The reference set: recorded runs with their float64 teacher gradients, fixed and versioned, in one file of arrays.

A new backend, or a new torch, is held against gradients that were found on another day and by another torch. Batches,
omega_0, theta, s_t and learning rates are all in the file: nothing is drawn again.

``python -m l2t_bench.verification.reference FILE`` makes a new one; its version is then raised: what a version means
never changes.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from l2t_bench.errors import L2TError
from l2t_bench.gradient import TeacherGradientBackend
from l2t_bench.losses.dynamic import bilinear_sigmoid
from l2t_bench.modules import cast
from l2t_bench.objectives import ExpectedAccuracy
from l2t_bench.optimizers import SGD
from l2t_bench.problem import Step, TeachingProblem, forward_seed
from l2t_bench.registry import build_problem, load_backend
from l2t_bench.students.lenet import LeNet
from l2t_bench.students.mlp import MLP
from l2t_bench.teachers import AttentionTeacher
from l2t_bench.tensors import TensorDict
from l2t_bench.verification.samples import general_theta, random_problem
from l2t_bench.verification.subject import Check, held_to, said_of
from l2t_bench.verification.vectors import relative_error

VERSION = 1
BOUND = 1e-11
"""Relative. Recomputing on the same machine gives 0; another torch or another CPU sums in another order."""


@dataclass(frozen=True)
class Case:
    """How a run of the set was made: a problem by name or ``random``, a student that can be rebuilt, an optimiser."""

    name: str
    problem: str
    student: Mapping[str, Any]
    optimizer: SGD
    horizon: int = 10


CASES = (
    Case("random, momentum", "random", {"kind": "mlp", "inputs": 6, "hidden": 7, "classes": 4}, SGD(0.3, 0.9)),
    Case(
        "random, Nesterov and weight decay",
        "random",
        {"kind": "mlp", "inputs": 6, "hidden": 7, "classes": 4},
        SGD(0.1, 0.9, weight_decay=0.05, nesterov=True),
    ),
    Case("random, dampening", "random", {"kind": "mlp", "inputs": 6, "hidden": 7, "classes": 4}, SGD(0.3, 0.8, 0.4)),
    Case(
        "digits/mlp",
        "digits/mlp[refresh=5,dev=100]",
        {"kind": "mlp", "inputs": 64, "hidden": 8, "classes": 10},
        SGD(0.1, 0.9),
    ),
    Case(
        "digits/lenet",
        "digits/lenet[refresh=5,dev=50]",
        {"kind": "lenet", "size": 8, "padding": 2, "hidden": 16, "classes": 10},
        SGD(0.05, 0.9),
        horizon=6,
    ),
)


@dataclass(frozen=True)
class Reference:
    """One recorded run with its true teacher gradient."""

    name: str
    problem: TeachingProblem
    theta: TensorDict
    steps: tuple[Step, ...]
    d_theta: TensorDict
    value: float


def reference_path() -> Path:
    """The file of this version, in the installed package."""
    return Path(str(files("l2t_bench.verification"))) / f"reference-v{VERSION}.safetensors"


def check_reference(backend: TeacherGradientBackend, device: str = "cpu") -> Iterator[Check]:
    """A backend against every run of the reference set, on ``device``."""
    place = torch.device(device)
    for case in load_reference():
        theta = cast(case.theta, place, torch.float64)
        steps = [
            replace(
                step,
                batch=cast(tuple(step.batch), place, torch.float64),
                features=step.features.to(place),
            )
            for step in case.steps
        ]
        result = backend.teacher_gradient(case.problem.to(place), theta, steps=steps, seed=0)
        yield from said_of(result)
        d_theta = cast(case.d_theta, place, torch.float64)
        yield held_to(f"reference: {case.name}", relative_error(result.d_theta, d_theta), BOUND, "d_theta")
        yield held_to(f"reference: {case.name}", abs(result.value / case.value - 1), BOUND, "M~")


def load_reference(path: Path | None = None) -> list[Reference]:
    """All runs of the reference set."""
    with safe_open(path or reference_path(), framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        records = json.loads(file.metadata()["cases"])
    return [_loaded(_below(tensors, f"{index}/"), record) for index, record in enumerate(records)]


def write_reference(path: Path) -> None:
    """Make the set anew from ``CASES`` by ``rmd``; raises ``L2TError`` unless the other exact methods say the same."""
    tensors: dict[str, Tensor] = {}
    records = []
    for index, case in enumerate(CASES):
        found, value = _made(case)
        tensors.update({f"{index}/{key}": tensor.contiguous() for key, tensor in found.items()})
        optimizer = {**asdict(case.optimizer), "lr": 1.0}  # the steps carry the lr
        records.append({"name": case.name, "student": dict(case.student), "optimizer": optimizer, "value": value})
    save_file(
        tensors, path, metadata={"cases": json.dumps(records), "version": str(VERSION), "torch": torch.__version__}
    )


def _made(case: Case) -> tuple[TensorDict, float]:
    base = random_problem() if case.problem == "random" else build_problem(case.problem, dtype="float64")
    problem = replace(base, student=_student(case.student), optimizer=case.optimizer)
    theta = general_theta(problem)
    result = load_backend("rmd").teacher_gradient(problem, theta, horizon=case.horizon)
    for peer in ("higher", "torchopt", "functorch"):
        theirs = load_backend(peer).teacher_gradient(problem, theta, steps=result.steps)
        if not relative_error(result.d_theta, theirs.d_theta) < 1e-13:
            raise L2TError(f"{case.name}: rmd and {peer} differ: no reference is written")
    inputs, targets = zip(*(tuple(step.batch) for step in result.steps), strict=True)
    dev_inputs, dev_targets = zip(*(tuple(batch) for batch in problem.dev_batches), strict=True)
    return {
        "inputs": torch.stack(inputs),
        "targets": torch.stack(targets),
        "features": torch.stack([step.features for step in result.steps]),
        "lr": torch.tensor([step.lr for step in result.steps], dtype=torch.float64),
        "dev_inputs": torch.cat(dev_inputs),
        "dev_targets": torch.cat(dev_targets),
        **{f"omega0/{name}": tensor for name, tensor in problem.init_student(0).params.items()},
        **{f"theta/{name}": tensor for name, tensor in theta.items()},
        **{f"d_theta/{name}": tensor for name, tensor in result.d_theta.items()},
    }, result.value


def _loaded(tensors: TensorDict, record: Mapping[str, Any]) -> Reference:
    omega0, theta = _below(tensors, "omega0/"), _below(tensors, "theta/")
    classes, _, keys = theta["W"].shape
    inputs, targets = tensors["inputs"], tensors["targets"]
    problem = TeachingProblem(
        student=_student(record["student"]),
        teacher=AttentionTeacher(classes, theta["V"].shape[1], keys=keys).double(),
        loss=bilinear_sigmoid,
        objective=ExpectedAccuracy(),
        optimizer=SGD(**record["optimizer"]),
        train=lambda index, seed: (inputs[index], targets[index]),
        dev=(tensors["dev_inputs"], tensors["dev_targets"]),
        init=lambda seed: omega0,
        name=f"reference: {record['name']}",
    )
    steps = tuple(
        Step(index, (inputs[index], targets[index]), tensors["features"][index], float(lr), forward_seed(0, index))
        for index, lr in enumerate(tensors["lr"])
    )
    return Reference(record["name"], problem, theta, steps, _below(tensors, "d_theta/"), float(record["value"]))


def _student(record: Mapping[str, Any]) -> nn.Module:
    options = {key: value for key, value in record.items() if key != "kind"}
    made = MLP(**options, nonlinearity="tanh") if record["kind"] == "mlp" else LeNet(**options)
    return made.double()


def _below(tensors: Mapping[str, Tensor], prefix: str) -> TensorDict:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def main(arguments: Sequence[str]) -> None:
    write_reference(Path(arguments[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
