"""What the tables, figures and sentences of a report share: how cells are named, counted and commented on."""

from typing import Any

import pandas as pd

from l2t_bench.reports.formats import DASH
from l2t_bench.reports.rows import Row
from l2t_bench.reports.variants import said


def judged_by(measure: str) -> str:
    """What held-out students judge a teacher by, from the name that its records have."""
    return "dev BLEU" if measure == "bleu" else f"dev {measure}"


def joined(*sentences: str) -> str:
    """Those of the sentences that say something, as one text."""
    return " ".join(sentence for sentence in sentences if sentence)


def with_apart(note: str, variant: str) -> str:
    """``note``, and that nothing is paired with what was measured under other conditions."""
    apart = (
        f"Conditions: {variant}. What was measured on another machine or with other settings stands in a table of "
        "its own: no ratio or difference is formed with it."
    )
    return joined(note, apart) if variant else note


def with_data(note: str, cells: pd.DataFrame) -> str:
    """``note``, and what the data are called: figures of a copy must not be taken for the data set's own."""
    told = said(filter(None, cells["data"]), joined_by=" and ")
    return joined(note, f"Data: {told}.") if told else note


def rate(row: Row) -> str:
    """A teaching cell's learning rate: ``2.4 linear``, with ``*`` where ``with_edge`` explains it."""
    return f"{row['lr']:g}{'*' if row['lr_at_grid_edge'] else ''} {row['schedule'] or ''}".rstrip()


def with_edge(note: str, teaching: pd.DataFrame) -> str:
    """``note``, and what the mark of a ``rate`` says where there is one."""
    at_edge = teaching["lr_at_grid_edge"].eq(True).any()
    return note + (" *: the best of the rates tried was the grid's smallest or largest." if at_edge else "")


def status_words(statuses: pd.Series) -> str:
    """``timeout``; ``timeout 2, crashed 1`` where cells ended differently."""
    counts = statuses.value_counts(sort=False)
    return ", ".join(str(status) if len(counts) == 1 else f"{status} {count}" for status, count in counts.items())


def unfinished(statuses: pd.Series) -> str:
    """What a report of a run that still goes on says first."""
    waiting = int((statuses == "missing").sum())
    return f"{waiting} of {len(statuses)} cells have no result yet; what stands below may change."


def loss_name(row: Row, several_seeds: bool) -> str:
    """How tables and plots name a teaching cell: by its method, and by its seed where there is more than one."""
    return f"{row['method']}, seed {row['seed']}" if several_seeds else str(row["method"])


def loss_label(row: Row, several_seeds: bool = False) -> str:
    """What a teaching cell is called: the control's name, or by which gradient its teacher learned."""
    name = loss_name(row, several_seeds)
    return f"learned by {name}" if row["loss"] == "learned" else name


def plural(count: int, noun: str) -> str:
    """``1 seed``, ``5 seeds``."""
    return f"{count} {noun}{'s' * (count != 1)}"


def whole(value: Any) -> str:
    """A whole number; a dash where there is none."""
    return DASH if value is None or pd.isna(value) else str(int(value))
