"""What students are judged by: its column, its name, and how its means and differences are written."""

from collections.abc import Callable
from dataclasses import dataclass

from l2t_bench.reports.formats import accuracy, bleu, bleu_difference, points
from l2t_bench.reports.statistics import Estimate


@dataclass(frozen=True)
class Measure:
    """A measure of students by its column."""

    column: str
    name: str
    mean: Callable[[Estimate], str]
    difference: Callable[[Estimate], str]
    unit: str  # of differences

    def over(self, gain: Estimate) -> str:
        """A difference with its unit."""
        return f"{self.difference(gain)} {self.unit}"


ACCURACY = Measure("test_accuracy", "Test accuracy", accuracy, points, "points")
BLEU = Measure("test_bleu", "Test BLEU", bleu, bleu_difference, "BLEU")
