"""Teacher gradients of "Learning to Teach with Dynamic Loss Functions" by interchangeable backends."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from l2t_bench import features, losses, optimizers, reports, teachers
    from l2t_bench.adam import Adam
    from l2t_bench.backend import Backend
    from l2t_bench.batches import Examples, IndexedBatches
    from l2t_bench.errors import Diverged, FellBack, L2TError, RankError, Refused, UserError
    from l2t_bench.expected_bleu import ExpectedBLEU
    from l2t_bench.fitting import check_fits, would_fit
    from l2t_bench.gradient import (
        Capabilities,
        Cost,
        Exactness,
        Prediction,
        Supported,
        TeacherGradient,
        TeacherGradientBackend,
    )
    from l2t_bench.groups import Group
    from l2t_bench.learned_loss import LearnedLoss, load_teacher
    from l2t_bench.lessons import teach
    from l2t_bench.metabatch.contract import teacher_gradients
    from l2t_bench.objectives import ExpectedAccuracy
    from l2t_bench.optimizers import SGD, linear_decay, multistep
    from l2t_bench.problem import Step, StudentState, StudentView, TeachingProblem
    from l2t_bench.registry import (
        build_problem,
        list_backends,
        list_losses,
        list_problems,
        list_suites,
        load_backend,
        load_loss,
    )
    from l2t_bench.reports.notebook import load_figures, load_runs
    from l2t_bench.rollout import record
    from l2t_bench.selection.elsewhere import load_choice
    from l2t_bench.selection.records import Accepted, Decision
    from l2t_bench.selection.selecting import select_backend
    from l2t_bench.teacher_file import save_teacher
    from l2t_bench.teachers import AttentionTeacher, DiagonalTeacher, StaticTeacher
    from l2t_bench.training import (
        Callback,
        Checkpoints,
        Selection,
        Shard,
        TeacherOptimizer,
        TeacherTrainer,
        TeacherTraining,
        train_teacher,
    )
    from l2t_bench.translating import translate

_SUBMODULES = ("features", "losses", "optimizers", "reports", "teachers")
_HOMES = {
    "adam": ("Adam",),
    "backend": ("Backend",),
    "batches": ("Examples", "IndexedBatches"),
    "errors": ("Diverged", "FellBack", "L2TError", "RankError", "Refused", "UserError"),
    "expected_bleu": ("ExpectedBLEU",),
    "fitting": ("check_fits", "would_fit"),
    "gradient": (
        "Capabilities",
        "Cost",
        "Exactness",
        "Prediction",
        "Supported",
        "TeacherGradient",
        "TeacherGradientBackend",
    ),
    "groups": ("Group",),
    "metabatch.contract": ("teacher_gradients",),
    "objectives": ("ExpectedAccuracy",),
    "optimizers": ("SGD", "linear_decay", "multistep"),
    "learned_loss": ("LearnedLoss", "load_teacher"),
    "lessons": ("teach",),
    "problem": ("Step", "StudentState", "StudentView", "TeachingProblem"),
    "registry": (
        "build_problem",
        "list_backends",
        "list_losses",
        "list_problems",
        "list_suites",
        "load_backend",
        "load_loss",
    ),
    "reports.notebook": ("load_figures", "load_runs"),
    "rollout": ("record",),
    "selection.elsewhere": ("load_choice",),
    "selection.records": ("Accepted", "Decision"),
    "selection.selecting": ("select_backend",),
    "teacher_file": ("save_teacher",),
    "teachers": ("AttentionTeacher", "DiagonalTeacher", "StaticTeacher"),
    "translating": ("translate",),
    "training": (
        "Callback",
        "Checkpoints",
        "Selection",
        "Shard",
        "TeacherOptimizer",
        "TeacherTrainer",
        "TeacherTraining",
        "train_teacher",
    ),
}

__all__ = [
    "SGD",
    "Accepted",
    "Adam",
    "AttentionTeacher",
    "Backend",
    "Callback",
    "Capabilities",
    "Checkpoints",
    "Cost",
    "Decision",
    "DiagonalTeacher",
    "Diverged",
    "Exactness",
    "Examples",
    "ExpectedAccuracy",
    "ExpectedBLEU",
    "FellBack",
    "Group",
    "IndexedBatches",
    "L2TError",
    "LearnedLoss",
    "Prediction",
    "RankError",
    "Refused",
    "Selection",
    "Shard",
    "StaticTeacher",
    "Step",
    "StudentState",
    "StudentView",
    "Supported",
    "TeacherGradient",
    "TeacherGradientBackend",
    "TeacherOptimizer",
    "TeacherTrainer",
    "TeacherTraining",
    "TeachingProblem",
    "UserError",
    "build_problem",
    "check_fits",
    "features",
    "linear_decay",
    "list_backends",
    "list_losses",
    "list_problems",
    "list_suites",
    "load_backend",
    "load_choice",
    "load_figures",
    "load_loss",
    "load_runs",
    "load_teacher",
    "losses",
    "multistep",
    "optimizers",
    "record",
    "reports",
    "save_teacher",
    "select_backend",
    "teach",
    "teacher_gradients",
    "teachers",
    "train_teacher",
    "translate",
    "would_fit",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``import l2t_bench`` alone imports no torch."""
    if name in _SUBMODULES:
        return import_module(f"l2t_bench.{name}")
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"l2t_bench.{module}"), name)
    raise AttributeError(f"module 'l2t_bench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
