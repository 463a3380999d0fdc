"""What each kind of failure left behind: the last lines of its log, and the commands that look at it and repeat it."""

from dataclasses import dataclass
from pathlib import Path

from l2t_bench.engine.overview import how_to_repeat
from l2t_bench.engine.records import log_tail
from l2t_bench.reports.load import Run
from l2t_bench.reports.methods import VARIANT
from l2t_bench.reports.variants import case_name

_MOST = 40  # kinds of failure that are told in full
_LINES = 15
_LONGEST_LINE = 400  # characters


@dataclass(frozen=True)
class FailureDetail:
    """The first cell of those that failed alike: what it is, its message, the end of its log, how to look at it."""

    title: str
    message: str
    log: tuple[str, ...]
    show: str


def failure_details(run: Run) -> list[FailureDetail]:
    """One per status, problem, method and message, of cells that failed; a refusal has nothing more to tell."""
    failed = run.cells[~run.cells["status"].isin(["ok", "missing", "refused"])]
    alike = failed.groupby(["status", "kind", *VARIANT, "method", "message"], sort=False)
    return [
        FailureDetail(
            f"{status}: {method} on {case_name(problem, variant)}, {kind}, seed {group['seed'].iloc[0]}",
            str(message),
            _log(run.path, str(group["suite"].iloc[0]), str(group["cell_id"].iloc[0])),
            f"l2t-bench show {run.name} {group['cell_id'].iloc[0]}",
        )
        for (status, kind, problem, variant, method, message), group in list(alike)[:_MOST]
    ]


def repeating(run: Run) -> str:
    """The command that measures the failed cells again, as seen from the folder that the run's own lies in."""
    return how_to_repeat(run.path, Path(run.name))


def _log(folder: Path, suite: str, cell_id: str) -> tuple[str, ...]:
    """The end of what the cell wrote to standard error, else to standard output."""
    logs = (log_tail(folder, suite, cell_id, name, _LINES) for name in ("stderr.log", "stdout.log"))
    return tuple(line[:_LONGEST_LINE] for line in next(filter(None, logs), []))
