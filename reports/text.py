"""A run as tables of strings that are ready to print, and how its figures are written."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from l2t_bench.reports.derive import CROSS_ENTROPY, UNTRAINED, Estimate, Results, analyse, estimate_in, in_order
from l2t_bench.reports.load import Run

DASH = "–"
TOO_SMALL = "n too small"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table of strings. The first ``text_columns`` columns hold words, the others figures.

    ``row_header`` is the column that names a row.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    text_columns: int = 1
    row_header: int = 0


def summary_tables(run: Run) -> list[Table]:
    """The run's tables for a terminal of 120 columns."""
    results = analyse(run)
    return [*gradient_tables(results), *teaching_tables(results), *failure_tables(results)]


def markdown(tables: Sequence[Table]) -> str:
    """Tables as GitHub's Markdown."""
    return "\n".join(_markdown_table(table) for table in tables)


def _markdown_table(table: Table) -> str:
    words, figures = table.text_columns, len(table.columns) - table.text_columns
    lines = [
        f"**{_markdown_cell(table.title)}**",
        "",
        _markdown_row(table.columns),
        _markdown_row(["---"] * words + ["---:"] * figures, escape=False),
        *(_markdown_row(row) for row in table.rows),
        *(["", _markdown_cell(table.note)] if table.note else []),
        "",
    ]
    return "\n".join(lines)


def _markdown_row(cells: Iterable[str], *, escape: bool = True) -> str:
    return "| " + " | ".join(_markdown_cell(cell) if escape else cell for cell in cells) + " |"


def _markdown_cell(text: str) -> str:
    for character in "\\`*|<>":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


# -- figures as strings


def number(value: float | None, digits: int = 3) -> str:
    """``digits`` significant digits, without an exponent where it can be: 0.0123, 12.3, 1.23e-07."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return _sign(f"{value:.{digits - 1}e}")
    return fixed(value, _decimals(value, digits))


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals; a dash where there is none."""
    return DASH if value is None or math.isnan(value) else _sign(f"{value:.{decimals}f}")


def ratio(estimate: Estimate, *, interval: bool = True) -> str:
    """``0.41 [0.40, 0.43]``; ``0.41, n too small`` where there are too few units to say more."""
    decimals = max(2, _decimals(estimate.value, 2)) if estimate.value > 0 else 2
    value = fixed(estimate.value, decimals)
    if not interval or value == DASH:
        return value
    return f"{value} {_bounds(estimate, decimals)}" if estimate.enough else f"{value}, {TOO_SMALL}"


def accuracy(estimate: Estimate) -> str:
    """``0.957 [0.953, 0.960]``."""
    value = fixed(estimate.value, 3)
    return f"{value} {_bounds(estimate, 3)}" if estimate.enough else value


def points(estimate: Estimate) -> str:
    """A difference of accuracies in percentage points, with its sign: ``+1.2 [+0.9, +1.5]``."""
    if math.isnan(estimate.value):
        return DASH
    if not estimate.enough:
        return f"{signed_points(estimate.value)}, {TOO_SMALL}"
    return f"{signed_points(estimate.value)} {_point_bounds(estimate)}"


def _bounds(estimate: Estimate, decimals: int) -> str:
    return f"[{fixed(estimate.low, decimals)},\u00a0{fixed(estimate.high, decimals)}]"


def _point_bounds(estimate: Estimate) -> str:
    return f"[{signed_points(estimate.low)},\u00a0{signed_points(estimate.high)}]"


def signed_points(value: float) -> str:
    rounded = f"{100 * value:+.1f}"
    return "0.0" if float(rounded) == 0 else _sign(rounded)


def _sign(text: str) -> str:
    """A real minus sign in front; the exponent's stays, so that it can be pasted."""
    return f"−{text[1:]}" if text.startswith("-") else text


def _decimals(value: float, digits: int) -> int:
    if not math.isfinite(value) or value == 0:
        return digits - 1
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # of the rounded value: 0.9999 is 1.00
    return max(0, digits - 1 - exponent)


def rows_of(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for record in frame.to_dict("records"):
        yield {str(key): value for key, value in record.items()}


# -- tables


def gradient_tables(results: Results, *, detail: bool = False) -> list[Table]:
    """Time, memory and direction of every method, one table per problem; ``detail`` adds intervals and worst seeds."""
    planned = results.run.cells[results.run.cells["kind"] == "gradient"]
    return [_gradient_table(problem, cells, results.summary, detail) for problem, cells in planned.groupby("problem")]


_COSTS = ("× time", "peak MiB", "× memory")
_SHORT_COLUMNS = ("T", "method", "exactness", "seconds", *_COSTS, "cosine", "norm")
_FULL_COLUMNS = (
    *("T", "method", "exactness", "seconds"),
    *_COSTS,
    *("cosine", "worst", "norm ratio", "worst", "rel. error"),
)


def _gradient_table(problem: Any, planned: pd.DataFrame, summary: pd.DataFrame, detail: bool) -> Table:
    measured = summary[summary["problem"] == problem]
    seeds = planned.groupby("method")["seed"].nunique()
    columns = _FULL_COLUMNS if detail else _SHORT_COLUMNS
    rows = [_gradient_row(row, int(seeds[row["method"]]), detail) for row in rows_of(measured)]
    for method in in_order(set(planned["method"]) - set(measured["method"])):
        status = _status_words(planned.loc[planned["method"] == method, "status"])
        rows.append((DASH, method, status, *(DASH,) * (len(columns) - 3)))
    title = f"Teacher gradients on {problem}, {_plural(planned['seed'].nunique(), 'seed')}"
    return Table(title, columns, tuple(rows), _gradient_note(measured), text_columns=3, row_header=1)


def _gradient_row(row: Row, planned_seeds: int, detail: bool) -> tuple[str, ...]:
    is_baseline = row["method"] == row["baseline"]
    time, memory = estimate_in(row, "time_ratio"), estimate_in(row, "memory_ratio")
    some_failed = f", {row['seeds']}/{planned_seeds}" if row["seeds"] < planned_seeds else ""
    return (
        str(row["horizon"]),
        row["method"],
        row["exactness"] + some_failed,
        number(row["seconds"]),
        "baseline" if is_baseline else ratio(time),
        number(row["peak_above_start_mib"]),
        "baseline" if is_baseline else ratio(memory, interval=detail),
        *(_quality_in_full(row) if detail else _quality_in_short(row)),
    )


def _quality_in_short(row: Row) -> tuple[str, ...]:
    if row["reference"] == row["method"]:
        return "ref.", "ref."
    return fixed(row["cosine"], 4), number(row["norm_ratio"])


def _quality_in_full(row: Row) -> tuple[str, ...]:
    if row["reference"] == row["method"]:
        return ("reference", DASH, "reference", DASH, "reference")
    return (
        fixed(row["cosine"], 4),
        fixed(row["cosine_worst"], 4),
        number(row["norm_ratio"]),
        number(row["norm_ratio_worst"]),
        number(row["relative_error"], 2),
    )


def _gradient_note(measured: pd.DataFrame) -> str:
    parts = ["Seconds and peak memory of one outer step, medians over seeds."]
    if baselines := [name for name in in_order(measured["baseline"]) if name]:
        parts.append(
            f"×: geometric mean of the ratios to {' or '.join(baselines)}, paired by seed, "
            "with a 95 % bootstrap interval."
        )
    if references := [name for name in in_order(measured["reference"]) if name]:
        parts.append(f"Cosine and norm ratio to the exact gradient by {' or '.join(references)}.")
    if (measured["exactness"] == "stationary").any():
        parts.append("Stationary methods compute another quantity and are not ranked.")
    return " ".join(parts) if len(measured) else ""


def _status_words(statuses: pd.Series) -> str:
    counts = statuses.value_counts(sort=False)
    return ", ".join(str(status) if len(counts) == 1 else f"{status} {count}" for status, count in counts.items())


def teaching_tables(results: Results, *, detail: bool = False) -> list[Table]:
    """Test accuracy of fresh students under each loss, one table per problem; ``detail`` adds counts and times."""
    planned = results.run.cells[results.run.cells["kind"] == "teaching"]
    return [_teaching_table(problem, cells, results.teaching, detail) for problem, cells in planned.groupby("problem")]


_TEACHING_COLUMNS = ("loss", "lr", "outer steps", "test accuracy", "over cross-entropy", "over untrained")
_TEACHING_DETAIL = ("students", "training, s", "students, s")


def _teaching_table(problem: Any, planned: pd.DataFrame, teaching: pd.DataFrame, detail: bool) -> Table:
    measured = teaching[teaching["problem"] == problem]
    several = planned["seed"].nunique() > 1
    columns = _TEACHING_COLUMNS + (_TEACHING_DETAIL if detail else ())
    rows = [_teaching_row(row, several, detail) for row in rows_of(measured)]
    for row in rows_of(planned[~planned["cell_id"].isin(measured["cell_id"])]):
        rows.append((f"{loss_name(row, several)}: {row['status']}", *[DASH] * (len(columns) - 1)))
    counts = sorted(set(measured["students"]))
    each = f", {counts[0]} students each" if len(counts) == 1 else ""
    return Table(f"Students taught on {problem}{each}", columns, tuple(rows), _teaching_note(measured))


def _teaching_note(measured: pd.DataFrame) -> str:
    if measured.empty:
        return ""
    note = (
        "Named by the gradient that the teacher learned with. Mean over fresh students with a 95 % bootstrap interval; "
        "differences in percentage points, paired by student seed. Each loss at its own learning rate, chosen on dev."
    )
    at_edge = measured["lr_at_grid_edge"].eq(True).any()
    return note + (" *: the best of the rates tried was the grid's smallest or largest." if at_edge else "")


def _teaching_row(row: Row, several: bool, detail: bool) -> tuple[str, ...]:
    short = (
        loss_name(row, several),
        f"{row['lr']:g}{'*' if row['lr_at_grid_edge'] else ''} {row['schedule'] or ''}".rstrip(),
        _count(row["outer_steps"]),
        accuracy(estimate_in(row, "test_accuracy")),
        points(estimate_in(row, "over_cross_entropy")),
        points(estimate_in(row, "over_untrained")),
    )
    if not detail:
        return short
    return (*short, str(row["students"]), number(row["seconds_training"]), number(row["seconds_students"]))


def loss_name(row: Row, several_seeds: bool) -> str:
    """How tables and plots name a teaching cell: by its method, and by its seed where there is more than one."""
    return f"{row['method']}, seed {row['seed']}" if several_seeds else str(row["method"])


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _count(value: Any) -> str:
    return DASH if value is None or pd.isna(value) else str(int(value))


def loss_label(row: Row, several_seeds: bool = False) -> str:
    """What a teaching cell is called: the control's name, or by which gradient its teacher learned."""
    name = loss_name(row, several_seeds)
    return name if row["method"] in (CROSS_ENTROPY, UNTRAINED) else f"learned by {name}"


def failure_tables(results: Results) -> list[Table]:
    """Cells without a result, one row per what happened; no table where there are none."""
    failed = results.failures
    if failed.empty:
        return []
    rows = [
        (str(status), str(kind), str(problem), str(method), _seed_list(group["seed"]), str(message) or DASH)
        for (status, kind, problem, method, message), group in failed.groupby(
            ["status", "kind", "problem", "method", "message"], sort=False
        )
    ]
    columns = ("status", "kind", "problem", "method", "seeds", "message")
    return [Table("Cells without a result", columns, tuple(rows), text_columns=len(columns))]


def _seed_list(seeds: pd.Series) -> str:
    return ", ".join(str(seed) for seed in sorted(seeds))
