"""From a study to the cells of a run: suites are asked for their grids, and what the study changes is applied."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.gradient_settings import TASK as GRADIENT_TASK
from l2t_bench.engine.gradient_settings import check_settings
from l2t_bench.engine.inquiry import ask
from l2t_bench.engine.records import identity_misfit
from l2t_bench.engine.study import Overrides, Study
from l2t_bench.engine.suite import Request
from l2t_bench.errors import UserError
from l2t_bench.names import did_you_mean, split_spec, with_file, write_spec
from l2t_bench.plugins import add_files, add_plugins


@dataclass(frozen=True)
class Plan:
    """A run as it was asked for: the study, and its cells in the order in which they are run."""

    study: Study
    cells: tuple[Cell, ...]


def plan(study: Study) -> Plan:
    """The cells of a study, made in a process of their own: a suite of a plug-in may import anything.

    The study's plug-ins and files join ours, in this process and those that it starts.
    Raises ``UserError`` for names, profiles and settings that do not exist, and for a cell that is planned twice.
    """
    add_plugins(study.plugins)
    add_files(study.files)
    cells = ask("l2t_bench.engine.planning:answer_cells", study.as_json())
    return Plan(study, tuple(Cell(**cell) for cell in cells))


def check(study: Study) -> None:
    """Raises ``UserError`` with the first mistake among the backends, problems and device that the study names."""
    if study.backends or study.problems or study.device != "cpu":
        ask("l2t_bench.engine.planning:answer_check", study.as_json())


def answer_cells(question: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Inside the process that may import anything: the study's cells as plain data."""
    return [asdict(cell) for cell in cells_of(Study.of(question))]


def answer_check(question: Mapping[str, Any]) -> None:
    """Inside the process that may import torch: everything that was named can be made, and no two are the same."""
    from l2t_bench.registry import build_problem, load_backend, usable_device

    usable_device(question["device"])
    made = [str(load_backend(method)) for method in question["backends"]]
    if twice := [name for name, count in Counter(made).items() if count > 1]:
        raise UserError(f"backends: {twice[0]} is named twice in other words, which would be the same cell twice")
    for problem in question["problems"]:
        build_problem(problem, device=question["device"])


def cells_of(study: Study) -> list[Cell]:
    """The cells of a study, round by round. Raises ``UserError``."""
    from l2t_bench.registry import load_suite

    request = Request(study.seeds, canonical(study.backends), canonical(study.problems))
    grid = [cell for name in study.suites for cell in load_suite(name).cells(study.profile, request)]
    if not grid:
        raise UserError("the study has no cells: its suites have none for these backends and problems")
    cells = interleaved(in_rounds(overridden(grid, study.overrides), study))
    _check_needs(cells)
    for cell in cells:
        if misfit := identity_misfit(cell.identity):
            raise UserError(f"suite {cell.suite!r}: a cell cannot be kept: {misfit}")
    for cell in cells:
        if cell.task == GRADIENT_TASK:
            _check_gradient(cell)
    counts = Counter(cell.cell_id for cell in cells)
    for cell in cells:
        if counts[cell.cell_id] > 1:
            raise UserError(f"the cell {cell.label} is planned twice")
    return cells


def _check_needs(cells: Sequence[Cell]) -> None:
    needing = [cell for cell in cells if cell.needs]
    there = {cell.cell_id: cell for cell in cells} if needing else {}
    for cell in needing:
        needed = there.get(cell.needs)
        if needed is None or needed.suite != cell.suite:
            raise UserError(
                f"suite {cell.suite!r}: {cell.label} needs the cell {cell.needs}, which is not a cell of this suite"
            )


def _check_gradient(cell: Cell) -> None:
    try:
        check_settings(cell.settings)
    except UserError as error:
        raise UserError(f"suite {cell.suite!r}, {cell.label}: {error}") from error


def canonical(specs: Iterable[str]) -> tuple[str, ...]:
    """Names with options in one form, so that blanks, the order of options and where a file is make no other cell."""
    return tuple(with_file(write_spec(*split_spec(spec)), lambda file: file.name) for spec in specs)


def overridden(cells: Sequence[Cell], overrides: Overrides) -> list[Cell]:
    """Cells with the settings of their kind replaced. Raises ``UserError`` for a kind or setting that none has."""
    kinds = {cell.kind for cell in cells}
    for kind, settings in overrides.items():
        if kind not in kinds:
            known = f"; there are {', '.join(sorted(kinds))}"
            raise UserError(f"overrides: no cells of kind {kind!r}{did_you_mean(kind, kinds) or known}")
        _check_settings(kind, settings, [cell for cell in cells if cell.kind == kind])
    return linked_again(
        cells, [replace(cell, settings={**cell.settings, **overrides.get(cell.kind, {})}) for cell in cells]
    )


def linked_again(before: Sequence[Cell], after: Sequence[Cell]) -> list[Cell]:
    """``after``, which are the cells of ``before`` with other data, each needing what its cell needed under its new id.

    A cell that needs another has that one's id in its own identity: what changes the one makes another of both.
    """
    if not any(cell.needs for cell in before):
        return list(after)
    changed = {old.cell_id: (old, new) for old, new in zip(before, after, strict=True)}

    def linked(old: Cell, new: Cell) -> Cell:
        return replace(new, needs=linked(*changed[old.needs]).cell_id) if old.needs in changed else new

    return [linked(old, new) for old, new in zip(before, after, strict=True)]


def _check_settings(kind: str, settings: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    known = {key: value for cell in cells for key, value in cell.settings.items()}
    for key, value in settings.items():
        if key not in known:
            listed = did_you_mean(key, known) or f"; there are {', '.join(known)}"
            raise UserError(f"overrides.{kind}: no setting {key!r}{listed}")
        if not _alike(value, known[key]):
            raise UserError(f"overrides.{kind}: {key} is {value!r}, where the suite has {known[key]!r}")


def _alike(value: Any, usual: Any) -> bool:
    """Whether a value is of the kind of the suite's own: a whole number may stand for any."""
    if isinstance(value, list | tuple) and isinstance(usual, list | tuple):
        return not usual or all(_alike(each, usual[0]) for each in value)
    if isinstance(value, bool) or isinstance(usual, bool):
        return isinstance(value, bool) and isinstance(usual, bool)
    return isinstance(value, type(usual)) or (isinstance(value, int) and isinstance(usual, float))


def in_rounds(cells: Sequence[Cell], study: Study) -> list[Cell]:
    """Every timed cell once a round; what is not timed gives the same again, and is run once.

    What is needed is needed of its own round, or of the first where it is of one round alone.
    """
    found: list[Cell] = []
    for number in range(study.rounds):
        placed = [
            replace(cell, round=number, device=study.device, threads=study.threads if cell.timed else cell.threads)
            for cell in cells
        ]
        found += [new for old, new in zip(cells, linked_again(cells, placed), strict=True) if old.timed or number == 0]
    return found


def interleaved(cells: Sequence[Cell]) -> list[Cell]:
    """Timed cells first: round by round, seed by seed, all that share both in a random order that is always the same.

    Cells that are compared with each other, as pairs of one seed and round, so run close together in time.
    """
    blocks: dict[tuple[int, int], list[Cell]] = {}
    for cell in cells:
        if cell.timed:
            blocks.setdefault((cell.round, cell.seed), []).append(cell)
    ordered = []
    for (number, seed), block in sorted(blocks.items(), key=lambda item: item[0]):
        random.Random(f"{number}/{seed}").shuffle(block)
        ordered += block
    return [*ordered, *(cell for cell in cells if not cell.timed)]
