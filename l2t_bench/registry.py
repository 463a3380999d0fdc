"""Names -> what they stand for: backends, problems, losses, suites and launchers, ours, plug-ins' and those in a file.

Entries are "module:attribute" strings, so that listing imports nothing of ours. Others join as ``plugins`` says, or are
named by their file: ``path/to/file.py:Attribute``.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from l2t_bench.engine.environment import fingerprint, installed, source_of
from l2t_bench.errors import UserError
from l2t_bench.names import make, split_spec, unknown
from l2t_bench.plugins import (
    file_entries,
    import_file,
    installed_entries,
    installed_twice,
    known_file,
    missing_of,
    plugin_files,
)

if TYPE_CHECKING:
    import torch

    from l2t_bench.gradient import TeacherGradientBackend
    from l2t_bench.launchers.contract import Launcher
    from l2t_bench.losses.contract import FixedLoss
    from l2t_bench.problem import TeachingProblem

BACKENDS: Mapping[str, str] = MappingProxyType(
    {
        "rmd": "l2t_bench.backends.rmd:ManualRMD",
        "truncated": "l2t_bench.backends.truncated:TruncatedRMD",
        "higher": "l2t_bench.backends.higher_unroll:HigherUnroll",
        "torchopt": "l2t_bench.backends.torchopt_unroll:TorchOptUnroll",
        "torchopt-implicit": "l2t_bench.backends.torchopt_implicit:TorchOptImplicit",
        "functorch": "l2t_bench.backends.functorch_vjp:FunctorchVJP",
        "implicit": "l2t_bench.backends.implicit:Implicit",
        "one-step": "l2t_bench.backends.one_step:OneStep",
        "evolution": "l2t_bench.backends.evolution:Evolution",
        "forward": "l2t_bench.backends.forward_mode:ForwardMode",
    }
)
PROBLEMS: Mapping[str, str] = MappingProxyType(
    {
        "digits/mlp": "l2t_bench.problems:DigitsMLP",
        "digits/lenet": "l2t_bench.problems:DigitsLeNet",
        "mnist/mlp": "l2t_bench.problems:MnistMLP",
        "mnist/lenet": "l2t_bench.problems:MnistLeNet",
        "cifar10/resnet8": "l2t_bench.cifar_problems:Cifar10ResNet8",
        "cifar10/resnet20": "l2t_bench.cifar_problems:Cifar10ResNet20",
        "cifar10/resnet32": "l2t_bench.cifar_problems:Cifar10ResNet32",
        "cifar10/wrn-16-2": "l2t_bench.cifar_problems:Cifar10WRN16x2",
        "cifar10/wrn-40-10": "l2t_bench.cifar_problems:Cifar10WRN40x10",
        "cifar10/densenet-bc-40-12": "l2t_bench.cifar_problems:Cifar10DenseNetBC40x12",
        "cifar10/densenet-bc-190-40": "l2t_bench.cifar_problems:Cifar10DenseNetBC190x40",
        "cifar100/resnet8": "l2t_bench.cifar_problems:Cifar100ResNet8",
        "cifar100/resnet20": "l2t_bench.cifar_problems:Cifar100ResNet20",
        "cifar100/resnet32": "l2t_bench.cifar_problems:Cifar100ResNet32",
        "arrays/mlp": "l2t_bench.array_problems:ArraysMLP",
        "arrays/lenet": "l2t_bench.array_problems:ArraysLeNet",
        "arrays/resnet8": "l2t_bench.array_problems:ArraysResNet8",
        "arrays/resnet20": "l2t_bench.array_problems:ArraysResNet20",
        "arrays/resnet32": "l2t_bench.array_problems:ArraysResNet32",
        "arrays/wrn-16-2": "l2t_bench.array_problems:ArraysWRN16x2",
        "arrays/densenet-bc-40-12": "l2t_bench.array_problems:ArraysDenseNetBC40x12",
        "numbers/lstm1": "l2t_bench.translation_problems:NumbersLSTM1",
        "numbers/lstm2": "l2t_bench.translation_problems:NumbersLSTM2",
        "numbers/transformer": "l2t_bench.translation_problems:NumbersTransformer",
        "iwslt14/lstm1": "l2t_bench.translation_problems:Iwslt14LSTM1",
        "iwslt14/lstm2": "l2t_bench.translation_problems:Iwslt14LSTM2",
        "iwslt14/transformer": "l2t_bench.translation_problems:Iwslt14Transformer",
        "parallel-text/lstm1": "l2t_bench.translation_problems:ParallelTextLSTM1",
        "parallel-text/lstm2": "l2t_bench.translation_problems:ParallelTextLSTM2",
        "parallel-text/transformer": "l2t_bench.translation_problems:ParallelTextTransformer",
        "random/recurrent": "l2t_bench.random_problems:RandomRecurrent",
        "random/transformer": "l2t_bench.random_problems:RandomTransformer",
    }
)
LOSSES: Mapping[str, str] = MappingProxyType(
    {
        "cross-entropy": "l2t_bench.losses.image:CrossEntropy",
        "label-smoothing": "l2t_bench.losses.image:LabelSmoothing",
        "focal": "l2t_bench.losses.image:Focal",
        "smooth01": "l2t_bench.losses.smooth01:Smooth01",
        "large-margin": "l2t_bench.losses.margin:LargeMargin",
        "forward-correction": "l2t_bench.losses.correction:ForwardCorrection",
        "word-cross-entropy": "l2t_bench.losses.sequence:WordCrossEntropy",
        "reinforce": "l2t_bench.losses.structured:Reinforce",
        "minimum-risk": "l2t_bench.losses.structured:MinimumRisk",
        "softmax-margin": "l2t_bench.losses.structured:SoftmaxMargin",
    }
)
SUITES: Mapping[str, str] = MappingProxyType(
    {
        "quick": "l2t_bench.suites.quick:SUITE",
        "table1": "l2t_bench.suites.paper_images:TABLE1",
        "table2": "l2t_bench.suites.paper_images:TABLE2",
        "table3": "l2t_bench.suites.table3:SUITE",
        "figure3": "l2t_bench.suites.figures:FIGURE3",
        "figure4": "l2t_bench.suites.figures:FIGURE4",
        "generalise": "l2t_bench.suites.generalise:SUITE",
        "noisy-labels": "l2t_bench.suites.noisy_labels:SUITE",
    }
)
LAUNCHERS: Mapping[str, str] = MappingProxyType(
    {
        "local": "l2t_bench.launchers.local:Local",
        "slurm": "l2t_bench.launchers.slurm:Slurm",
        "ray": "l2t_bench.launchers.ray_cluster:Ray",
    }
)
_OWN: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"backends": BACKENDS, "problems": PROBLEMS, "losses": LOSSES, "suites": SUITES, "launchers": LAUNCHERS}
)
_NEEDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "backends": {"higher": "higher", "torchopt": "torchopt", "torchopt-implicit": "torchopt"},
        "launchers": {"slurm": "submitit", "ray": "ray"},
    }
)


def list_backends() -> list[str]:
    """The names that ``load_backend`` knows: ours in their order, then plug-ins'."""
    return list(_entries("backends"))


def list_problems() -> list[str]:
    """The names that ``build_problem`` knows."""
    return list(_entries("problems"))


def list_losses() -> list[str]:
    """The names that ``load_loss`` knows."""
    return list(_entries("losses"))


def list_suites() -> list[str]:
    """The names that ``load_suite`` knows."""
    return list(_entries("suites"))


def list_launchers() -> list[str]:
    """The names that ``load_launcher`` knows."""
    return list(_launchers())


def missing_library(group: str, name: str) -> str | None:
    """What an entry needs that is not installed, without importing anything; ``None`` where nothing is known to be."""
    needed = _NEEDS.get(group, {}).get(name)
    if needed is not None:
        return None if installed(needed) else needed
    return None if name in _OWN[group] else missing_of(group, name)


def left_out(group: str) -> list[str]:
    """Names of installed packages that are taken already, a line each."""
    return installed_twice(group, _OWN[group])


def load_backend(spec: str) -> "TeacherGradientBackend":
    """A backend by name with options, ``"truncated[window=5]"``, or ``"file.py:Class[option=value]"``.

    Raises ``UserError`` for an unknown name (with the nearest known one), an option that the backend does not have
    (with those it has), a library that is not installed, or an object that is not a backend.
    """
    from l2t_bench.gradient import TeacherGradientBackend

    name, options = split_spec(spec)
    backend = make(backend_class(name), name, options)
    if not isinstance(backend, TeacherGradientBackend):
        raise UserError(f"{name} is not a backend: it lacks name, capabilities, supports, predict or teacher_gradient")
    return backend


def backend_class(name: str) -> type:
    """The class behind a backend's name, its options being its fields."""
    return _class("backend", name, _entries("backends"))


def problem_class(name: str) -> type:
    """The class behind a problem's name, its options being its fields."""
    return _class("problem", name, _entries("problems"))


def loss_class(name: str) -> type:
    """The class behind a fixed loss's name, its options being its fields."""
    return _class("loss", name, _entries("losses"))


def load_loss(spec: str) -> "FixedLoss":
    """A fixed loss by name with options, ``"smooth01[k=20,form=error]"``, or ``"file.py:Class[option=value]"``.

    Raises ``UserError`` for an unknown name or option, a value that the loss has no use for, or an object that is none.
    """
    from l2t_bench.losses.contract import FixedLoss

    name, options = split_spec(spec)
    loss = make(loss_class(name), name, options)
    if not isinstance(loss, FixedLoss):
        raise UserError(f"{name} is not a loss: it lacks student(student), or cannot be called")
    return loss


def load_launcher(name: str, settings: Mapping[str, Any]) -> "Launcher":
    """A launcher by name, made of its table in a TOML file.

    Raises ``UserError`` for an unknown name, and as the launcher does for its settings and where it cannot run.
    """
    from l2t_bench.launchers.contract import Launcher

    launcher = _class("launcher", name, _launchers())(settings)
    if not isinstance(launcher, Launcher):
        raise UserError(f"{name} is not a launcher: it lacks elsewhere, launch or end_left")
    return launcher


def is_loss(spec: str) -> bool:
    """Whether a method's name is that of a fixed loss in the catalogue, and not a backend's."""
    return split_spec(spec)[0] in _entries("losses")


def build_problem(spec: str, *, dtype: str = "float32", device: str = "cpu") -> "TeachingProblem":
    """A named problem with options, ``"mnist/lenet[batch=20,dev=1000]"``. Reads no data until it is needed.

    Raises ``UserError`` for unknown names, options, dtypes and devices.
    """
    import torch

    name, options = split_spec(spec)
    definition = make(problem_class(name), name, options)
    kind = getattr(torch, dtype, None)
    if kind not in (torch.float32, torch.float64):
        raise UserError(f"dtype must be float32 or float64, not {dtype!r}")
    problem: TeachingProblem = definition.build(spec, usable_device(device), kind)
    return problem


def usable_device(device: str) -> "torch.device":
    """``cpu``, ``cuda`` or ``cuda:N`` as torch's. Raises ``UserError`` for others, and where there is no such GPU."""
    import torch

    try:
        place = torch.device(device)
    except RuntimeError:
        place = torch.device("meta")  # a device to none of our uses, like some that torch does know
    if place.type not in ("cpu", "cuda"):
        raise UserError(f"no device {device!r}: give cpu, cuda or cuda:N")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: this machine has no GPU that torch can use")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {device}: this machine has {torch.cuda.device_count()} GPUs, numbered from 0")
    return place


def sources_of(method: str, problem: str, task: str) -> list[Path]:
    """The files that define a cell's method, problem and task, as far as they can be told without importing them.

    Our own problems and tasks are part of the package and need no mention. A name of a plug-in file's stands for all of
    those files: which one defines it, only an import could tell.
    """
    module = task.partition(":")[0]
    targets = [f"{known_file(module) or module}:"]
    for spec, groups in ((method, ("backends", "losses")), (problem, ("problems",))):
        name = split_spec(spec)[0]
        target = _unimported(name, groups)
        targets += [target] if ":" in target else [f"{file}:{name}" for file in plugin_files()]
    modules = [_located(target.rpartition(":")[0]) for target in targets]
    files = [Path(name) if name.endswith(".py") else source_of(name) for name in modules if name]
    return [file for file in files if file is not None and file.is_file()]


def _unimported(name: str, groups: Sequence[str]) -> str:
    """``module:attribute`` of a name of ours or of an installed package's, in the first group that has it; else it."""
    tables = [_OWN[group] for group in groups] + [installed_entries(group) for group in groups]
    return next((table[name] for table in tables if name in table), name)


def code_now() -> Callable[[str, str, str], str]:
    """The fingerprint of a method, problem and task, as a cell of them would get it now; each is made once.

    For one look at many cells: what changes on the disk meanwhile is not seen.
    """

    @cache
    def of(method: str, problem: str, task: str) -> str:
        return fingerprint(sources_of(method, problem, task))

    return of


def load_suite(name: str) -> Any:
    """A suite by name, or ``file.py:ATTRIBUTE``."""
    entries = _entries("suites")
    if ".py:" not in name and name not in entries:
        raise unknown("suite", name, entries)
    return _resolve(entries.get(name, name), "suite", name)


def load_task(task: str) -> Any:
    """The function of a cell, ``module:function``; a user's file is a module by its name without ``.py``."""
    module, _, function = task.partition(":")
    return _resolve(f"{known_file(module) or module}:{function}", "task", task)


def _located(module: str) -> str:
    """Where the file ``mine.py`` is, by its name alone; other modules and paths as they are."""
    return (known_file(module) if module.endswith(".py") and Path(module).name == module else None) or module


def _entries(group: str) -> dict[str, str]:
    """Ours first, then others'. What happens to be installed can neither replace ours nor stop it from being used."""
    known = {**_OWN[group], **installed_entries(group), **_OWN[group]}
    return {**known, **file_entries(group, known)}


def _launchers() -> dict[str, str]:
    """As ``_entries``, without those of plug-in files: they are looked for where no code of a user's is imported."""
    return {**LAUNCHERS, **installed_entries("launchers"), **LAUNCHERS}


def _class(kind: str, name: str, entries: Mapping[str, str]) -> type:
    if ".py:" not in name and name not in entries:
        raise unknown(kind, name, entries)
    found = _resolve(entries.get(name, name), kind, name)
    if not isinstance(found, type):
        raise UserError(f"{kind} {name!r} is not a class")
    return found


def _resolve(target: str, kind: str, name: str) -> Any:
    module_name, _, attribute = target.rpartition(":")
    module_name = _located(module_name)
    if module_name.endswith(".py"):
        module = import_file(module_name)
    else:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise UserError(
                f"{kind} {name!r} needs {error.name}, which is not installed: pip install {error.name}"
            ) from error
        except (Exception, SystemExit) as error:
            raise UserError(f"{kind} {name!r} does not import: {type(error).__name__}: {error}") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise UserError(f"{kind} {name!r}: {module_name} has no {attribute}") from None
