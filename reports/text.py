"""A run as tables of strings that are ready to print."""

from l2t_bench.reports.agreement_tables import agreement_tables
from l2t_bench.reports.break_even_tables import break_even_tables
from l2t_bench.reports.cell_tables import failure_tables, other_tables
from l2t_bench.reports.coefficients_figure import coefficient_tables
from l2t_bench.reports.derive import Results, analyse
from l2t_bench.reports.engine_tables import engine_tables
from l2t_bench.reports.gradient_tables import gradient_tables
from l2t_bench.reports.load import Run
from l2t_bench.reports.paper_tables import paper_tables
from l2t_bench.reports.provenance import machines, provenance
from l2t_bench.reports.sections import sections
from l2t_bench.reports.seed_tables import seed_tables
from l2t_bench.reports.selection_tables import selection_tables
from l2t_bench.reports.statistics_tables import aggregate_tables, equivalence_tables
from l2t_bench.reports.table import Table
from l2t_bench.reports.teaching_tables import teaching_tables
from l2t_bench.reports.translation_tables import translation_tables
from l2t_bench.reports.verdict import findings, rule
from l2t_bench.reports.warning_tables import warning_tables
from l2t_bench.reports.words import unfinished


def summary_tables(run: Run) -> list[Table]:
    """The run's tables for a terminal of 120 columns."""
    return tables_of(analyse(run))


def tables_of(results: Results) -> list[Table]:
    """``summary_tables`` of a run that is analysed already."""
    return [
        *gradient_tables(results),
        *aggregate_tables(results),
        *break_even_tables(results.break_even, units="seeds"),
        *engine_tables(results),
        *warning_tables(results),
        *paper_tables(results),
        *seed_tables(results),
        *teaching_tables(results),
        *translation_tables(results),
        *equivalence_tables(results),
        *selection_tables(results),
        *agreement_tables(results),
        *coefficient_tables(results),
        *other_tables(results),
        *failure_tables(results),
    ]


def document_tables(results: Results) -> list[Table]:
    """What the page says as tables, for Markdown and LaTeX: its head, the verdict, section by section, in full."""
    parts = [part for section in sections(results) for part in section.parts]
    origin = Table("Provenance", ("what", "is"), tuple(provenance(results.run)), text_columns=2)
    return [
        _head(results.run),
        *_verdict_tables(results),
        *(part for part in parts if isinstance(part, Table)),
        *failure_tables(results),
        origin,
    ]


def _head(run: Run) -> Table:
    """How its cells ended, on which machines, whether all of them did, and what is wrong with its files."""
    rows = [
        ("cells", ", ".join(f"{count} {status}" for status, count in run.cells["status"].value_counts().items())),
        *(("machine", machine) for machine in machines(run)),
        *([] if run.finished else [("not finished", unfinished(run.cells["status"]))]),
        *(("warning", warning) for warning in run.warnings),
    ]
    return Table(f"Run {run.name}", ("what", "is"), tuple(rows), text_columns=2)


def _verdict_tables(results: Results) -> list[Table]:
    """The findings in one table, with each ``backend.toml`` that they decide; none where a run decides nothing yet."""
    found = findings(results)
    rows = tuple((each.subject, each.question, each.answer, each.detail) for each in found)
    files = tuple(
        (f"backend.toml, {each.subject}, {each.question}", each.choice.to_toml()) for each in found if each.choice
    )
    columns = ("subject", "question", "answer", "what it rests on")
    return [Table("Verdict", columns, rows, rule(results), len(columns), row_header=1, files=files)] if rows else []
