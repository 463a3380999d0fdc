"""What a verdict decides, as the ``backend.toml`` that another run can begin with."""

from l2t_bench.choice import Choice, choice_for, machine_of, versions_of
from l2t_bench.errors import UserError
from l2t_bench.reports.derive import of_case
from l2t_bench.reports.load import Run


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
            machine=machine_of(environment),
            versions=versions_of(environment),
        )
    except UserError:
        return None
