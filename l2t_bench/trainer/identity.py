"""What makes a training this training, so that no other goes on from its checkpoints; and where it has run."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import torch

from l2t_bench.asked import learning_rates
from l2t_bench.backend import Backend
from l2t_bench.checksums import checksum
from l2t_bench.engine.environment import cpu_model, fingerprint, installed
from l2t_bench.gradient import TeacherGradientBackend
from l2t_bench.modules import constants_of
from l2t_bench.problem import TeachingProblem
from l2t_bench.tensor_file import digest_of
from l2t_bench.tensors import Tensors
from l2t_bench.trainer.ascent import TeacherOptimizer
from l2t_bench.trainer.course import Course


def identity_of(course: Course) -> dict[str, Any]:
    """What two runs of one training have in common, as JSON. Draws the first batch, and reads the dev set."""
    plan = course.plan
    return {
        "problem": plan.problem.name,
        **architecture_of(plan.problem),
        "constants": _constants_digest(plan.problem),
        "data": data_digest(plan.problem),
        "features": recipe_of(plan.problem.features),
        "loss": name_of(plan.problem.loss),
        "objective": name_of(plan.problem.objective),
        "backend": backend_name(plan.backend),
        "outer_steps": plan.outer_steps,
        "horizon": plan.horizon,
        "students": plan.students,
        "student's optimizer": _optimizer_of(plan.problem, plan.horizon),
        "seed": plan.seed,
        "optimizer": {**course.ascent.description, **_factors_of(plan.optimizer, plan.outer_steps)},
        "selection": None if plan.selection is None else asdict(plan.selection),
        "start": digest_of(plan.theta),
    }


def architecture_of(problem: TeachingProblem) -> dict[str, Any]:
    """The student and the teacher by their classes, and the shapes of their parameters; the student's are hashed."""
    student = shapes_of(dict(problem.student.named_parameters()))
    told = json.dumps([type(problem.student).__qualname__, student]).encode()
    return {
        "student": f"{type(problem.student).__name__} {hashlib.sha256(told).hexdigest()[:16]}",
        "teacher": {"class": type(problem.teacher).__qualname__, "shapes": shapes_of(problem.init_teacher(0))},
    }


def shapes_of(tensors: Tensors) -> dict[str, Any]:
    """Name -> dtype and shape, as JSON."""
    return {name: [str(tensor.dtype).removeprefix("torch."), *tensor.shape] for name, tensor in tensors.items()}


def _constants_digest(problem: TeachingProblem) -> str:
    """Of what the student and the teacher hold beside the parameters that are trained; the student's as it begins."""
    parts = {"student": problem.student, "teacher": problem.teacher}
    held = {f"{part}.{name}": tensor for part, module in parts.items() for name, tensor in constants_of(module).items()}
    return digest_of(held)


def data_digest(problem: TeachingProblem) -> str:
    """Of the first training batch of student 0 and of all dev batches."""
    sums = [checksum(batch) for batch in (problem.train(0, 0), *problem.dev_batches)]
    return hashlib.sha256(str([int(each) for each in sums]).encode()).hexdigest()[:16]


def recipe_of(features: Any) -> dict[str, Any]:
    """How s_t is measured: the rule's name, and its numbers where it is a dataclass; t/T where there is no rule."""
    if features is None:
        return {"rule": "time"}
    numbers = (
        {f.name: value for f in fields(features) if isinstance(value := getattr(features, f.name), int | float | str)}
        if is_dataclass(features)
        else {}
    )
    return {"rule": name_of(features), **numbers}


def name_of(function: Any) -> str:
    """Of a function, or of the class of an object that can be called."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _optimizer_of(problem: TeachingProblem, horizon: int) -> dict[str, Any]:
    """The student's optimiser: its class and numbers, and the lrs of all steps, which may be a function's, hashed."""
    optimizer = problem.optimizer
    lrs = learning_rates(optimizer, horizon)
    told = f"from {lrs[0]!r} to {lrs[-1]!r}, {hashlib.sha256(repr(lrs).encode()).hexdigest()[:16]}"
    own: list[str] = [f.name for f in fields(optimizer) if f.name != "lr"] if is_dataclass(optimizer) else []
    numbers = {name: repr(value) for name in own if not callable(value := getattr(optimizer, name))}
    return {"name": name_of(optimizer), "lr": told, **numbers}


def _factors_of(optimizer: TeacherOptimizer, outer_steps: int) -> dict[str, Any]:
    """Of a schedule that is a function, what its name does not tell: all that it gives, hashed."""
    if not callable(optimizer.schedule):
        return {}
    factors = [optimizer.factor_at(outer_step, outer_steps) for outer_step in range(outer_steps)]
    return {"factors": hashlib.sha256(repr(factors).encode()).hexdigest()[:16]}


def backend_name(backend: TeacherGradientBackend) -> str:
    """With the options that differ from their defaults, where the method has a way to say them."""
    return str(backend) if isinstance(backend, Backend) else backend.name


def first_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """In words: the first thing that another training has otherwise; empty where there is none."""
    for name in dict.fromkeys([*ours, *theirs]):
        left, right = json.loads(json.dumps(ours.get(name))), theirs.get(name)
        if left == right:
            continue
        if isinstance(left, dict) and isinstance(right, dict):
            return f"{name}: {first_difference(left, right)}"
        return f"{name} is {right!r} there and {left!r} here"
    return ""


def surroundings(device: torch.device, parts: int = 1) -> dict[str, Any]:
    """What must be the same for a training to go on bit for bit. ``parts``: in how many a batch is taken."""
    return {
        "torch": torch.__version__,
        "l2t_bench": installed("l2t_bench"),
        "code": fingerprint(()),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_model(),
        **({"parts of a batch": parts} if parts > 1 else {}),
    }
