"""Cells of teachers and of those who are taught, made of settings: what the suites of images share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from l2t_bench.engine.cell import Cell
from l2t_bench.suites.settings import TeachingSettings

_TRAIN, _MEASURE = "l2t_bench.suites.teaching:train", "l2t_bench.suites.teaching:measure"


@dataclass(frozen=True)
class Series:
    """The cells of one suite and profile."""

    suite: str
    version: int
    profile: str

    def teacher(self, problem: str, method: str, seed: int, settings: TeachingSettings) -> Cell:
        """The training of one teacher. It is timed: an outer step's seconds and memory are results."""
        return self.cell("teacher", problem, method, seed, _TRAIN, settings.of_training(), timed=True)

    def taught(self, problem: str, method: str, seed: int, settings: TeachingSettings, needs: str = "") -> Cell:
        """Students under the teacher of cell ``needs``, or under the control that ``method`` names."""
        return self.cell("teaching", problem, method, seed, _MEASURE, settings.of_judging(), needs=needs)

    def learned_and_taught(self, problem: str, method: str, seed: int, settings: TeachingSettings) -> list[Cell]:
        """A teacher, and the students that it teaches."""
        teacher = self.teacher(problem, method, seed, settings)
        return [teacher, self.taught(problem, method, seed, settings, teacher.cell_id)]

    def cell(
        self,
        kind: str,
        problem: str,
        method: str,
        seed: int,
        task: str,
        settings: Mapping[str, Any],
        *,
        timed: bool = False,
        needs: str = "",
    ) -> Cell:
        """A cell of this suite and profile."""
        return Cell(
            suite=self.suite,
            suite_version=self.version,
            profile=self.profile,
            kind=kind,
            problem=problem,
            method=method,
            seed=seed,
            task=task,
            settings=settings,
            timed=timed,
            needs=needs,
        )


def grid(
    series: Series,
    problems: Mapping[str, TeachingSettings],
    *,
    learned: Sequence[str],
    controls: Sequence[str],
    seeds: Sequence[int],
) -> list[Cell]:
    """Every problem, by what a report calls it, under every loss: those learned with a teacher's cell, and controls."""
    return [
        cell
        for seed in seeds
        for problem, settings in problems.items()
        for cell in (
            *(each for method in learned for each in series.learned_and_taught(problem, method, seed, settings)),
            *(series.taught(problem, method, seed, settings) for method in controls),
        )
    ]
