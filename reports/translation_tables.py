"""What translating students reached by each search: tables that are ready to print."""

import pandas as pd

from l2t_bench.reports.derive import Results
from l2t_bench.reports.formats import fixed
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.statistics import TOO_SMALL, bootstrap_mean
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name, said

_SCORES = ("test_greedy_bleu", "test_bleu", "test_detokenised_bleu")


def translation_tables(results: Results) -> list[Table]:
    """BLEU on test of fresh students under each loss, one table per problem and variant."""
    return [
        _table(str(problem), str(variant), group)
        for (problem, variant), group in results.translations.groupby(VARIANT, sort=False)
    ]


def _table(problem: str, variant: str, group: pd.DataFrame) -> Table:
    beams = said(sorted({f"beam {beam}" for beam in group["beam"]}))
    note = (
        "Corpus BLEU on test, means over fresh students and seeds with a 95 % bootstrap interval over students. "
        f"Tokens: {said(sorted(set(group['signature'])))}; detokenised: "
        f"{said(sorted(set(group['detokenised_signature'])))}."
    )
    columns = ("loss", "students", "greedy", beams, f"detokenised, {beams}")
    rows = tuple(_row(method, group[group["method"] == method]) for method in in_order(group["method"]))
    return Table(f"Translations of {case_name(problem, variant)}", columns, rows, note)


def _row(method: str, own: pd.DataFrame) -> tuple[str, ...]:
    return (method, str(len(own)), *(_score(own[name]) for name in _SCORES))


def _score(scores: pd.Series) -> str:
    found = bootstrap_mean(scores.to_numpy(float))
    interval = f"[{fixed(found.low, 2)},\u00a0{fixed(found.high, 2)}]" if found.enough else f"({TOO_SMALL})"
    return f"{fixed(found.value, 2)} {interval}"
