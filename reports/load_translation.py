"""What translating students have reached, as tidy tables."""

import pandas as pd

from l2t_bench.reports.load import Run
from l2t_bench.reports.load_teaching import TEACHING_KEYS, taught, teaching_keys, translates

_REACHED = ("dev_bleu", "test_greedy_bleu", "test_bleu", "test_detokenised_bleu")
_SAID = ("lr", "horizon", "beam", "signature", "detokenised_signature")


def translations(run: Run) -> pd.DataFrame:
    """One row per teaching cell and fresh student that translates: BLEU from 0 to 100, with sacrebleu's signatures.

    ``test_bleu`` is of a beam search, ``test_greedy_bleu`` and ``dev_bleu`` of a greedy one.
    """
    rows = [
        {
            **teaching_keys(cell),
            **{name: cell["measurements"].get(name) for name in _SAID},
            "student_seed": student["seed"],
            **{name: student[name] for name in _REACHED},
        }
        for cell in taught(run)
        if translates(cell)
        for student in cell["measurements"]["students"]
    ]
    return pd.DataFrame(rows, columns=[*TEACHING_KEYS, *_SAID, "student_seed", *_REACHED])
