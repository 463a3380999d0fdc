"""What a verdict decides, as the ``backend.toml`` that another run can begin with."""

from collections.abc import Mapping
from typing import Any

from l2t_bench.choice import Choice, choice_for
from l2t_bench.errors import UserError
from l2t_bench.reports.derive import of_case
from l2t_bench.reports.load import Run
from l2t_bench.reports.variants import HARDWARE


def chosen(run: Run, problem: object, variant: object, horizon: int, method: str, why: str) -> Choice | None:
    """``method`` with machine and versions of its first result there; ``None`` where its name is no spec."""
    cells = of_case(run.cells, problem, variant)
    measured = cells[(cells["method"] == method) & (cells["kind"] == "gradient") & (cells["status"] == "ok")]
    environment = next((run.environments.get(name, {}) for name in measured["environment"]), {})
    try:
        return choice_for(
            method,
            problem=str(problem),
            horizon=horizon,
            why=why.replace("\u00a0", " "),
            machine=_known(environment, (*HARDWARE, "device")),
            versions=_versions(environment),
        )
    except UserError:
        return None


def _known(environment: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, str | int]:
    """Those of ``names`` that are told, as text or whole numbers: a page shows whatever its run's files hold."""
    found = {name: environment.get(name) for name in names}
    return {
        name: value for name, value in found.items() if isinstance(value, str | int) and not isinstance(value, bool)
    }


def _versions(environment: Mapping[str, Any]) -> dict[str, str]:
    libraries = environment.get("libraries")
    told = {"python": environment.get("python"), "torch": environment.get("torch")}
    return {
        str(name): value
        for name, value in (told | (libraries if isinstance(libraries, dict) else {})).items()
        if isinstance(value, str)
    }
