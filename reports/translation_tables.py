"""What translating students reached by each search: tables that are ready to print."""

import pandas as pd

from l2t_bench.reports.derive import Results, of_case
from l2t_bench.reports.estimates import estimate_in
from l2t_bench.reports.formats import bleu, bleu_difference
from l2t_bench.reports.methods import VARIANT
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.statistics import bootstrap_mean
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name, said
from l2t_bench.reports.words import loss_name, rate, with_edge


def translation_tables(results: Results, *, detail: bool = False) -> list[Table]:
    """BLEU on test of fresh students under each loss, one table per problem and variant.

    ``detail`` adds the other searches and counts.
    """
    return [
        _table(str(problem), str(variant), rows, of_case(results.translations, problem, variant), detail)
        for (problem, variant), rows in results.translating.groupby(VARIANT, sort=False)
    ]


def _table(problem: str, variant: str, rows: pd.DataFrame, students: pd.DataFrame, detail: bool) -> Table:
    several = rows["seed"].nunique() > 1
    beams = said(sorted({f"beam {beam}" for beam in students["beam"]}))
    more = ("greedy", f"detokenised, {beams}", "students") if detail else ()
    columns = ("loss", "lr", beams, "over cross-entropy", "over untrained", *more)
    cells = tuple(_row(row, several, students, detail) for row in rows_of(rows))
    return Table(f"Translations of {case_name(problem, variant)}", columns, cells, _note(rows, students, detail))


def _note(rows: pd.DataFrame, students: pd.DataFrame, detail: bool) -> str:
    note = (
        "Corpus BLEU on test, means over fresh students with a 95 % bootstrap interval; differences by the beam, "
        "paired by student seed. Each loss at its own learning rate, chosen on dev. "
        f"Tokens: {said(sorted(set(students['signature'])))}"
    )
    other = f"; detokenised: {said(sorted(set(students['detokenised_signature'])))}" if detail else ""
    return with_edge(f"{note}{other}.", rows)


def _row(row: Row, several: bool, students: pd.DataFrame, detail: bool) -> tuple[str, ...]:
    short = (
        loss_name(row, several),
        rate(row),
        bleu(estimate_in(row, "test_bleu")),
        bleu_difference(estimate_in(row, "over_cross_entropy")),
        bleu_difference(estimate_in(row, "over_untrained")),
    )
    if not detail:
        return short
    own = students[students["cell_id"] == row["cell_id"]]
    searches = (own[name].to_numpy(float) for name in ("test_greedy_bleu", "test_detokenised_bleu"))
    return (*short, *(bleu(bootstrap_mean(scores)) for scores in searches), str(row["students"]))
