"""The capability table is found by trying, says what is wrong, and the committed copy is what comes out."""

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import l2t_bench as l2t
from l2t_bench.backend import Derivative, Run
from l2t_bench.backends.rmd import ManualRMD
from l2t_bench.cli.main import app
from l2t_bench.errors import UserError
from l2t_bench.registry import missing_library
from l2t_bench.verification.capabilities import Cell, Verdict, as_markdown, capabilities, notes, tried, with_variants
from l2t_bench.verification.probes import PROBES, make_probe


@cache
def cells() -> tuple[Cell, ...]:
    return tuple(capabilities(with_variants()))


@pytest.mark.slow
def test_nothing_that_a_user_may_bring_is_differentiated_wrongly() -> None:
    wrong = [cell for cell in cells() if cell.verdict is Verdict.WRONG]
    assert not wrong, wrong


@pytest.mark.slow
def test_every_refusal_has_a_reason_and_every_exact_cell_a_figure() -> None:
    assert len(cells()) == len(PROBES) * len(with_variants())
    for cell in cells():
        assert cell.reason or cell.verdict is Verdict.EXACT, cell
        assert (cell.error is not None) == (cell.verdict is Verdict.EXACT), cell


@pytest.mark.parametrize("brought", PROBES)
def test_rmd_does_it_all(brought: str) -> None:
    (cell,) = capabilities(["rmd"], [brought])
    assert cell.verdict is Verdict.EXACT


@pytest.mark.slow
def test_the_committed_table_is_what_the_command_makes(repository: Path) -> None:
    if any(missing_library("backends", name) for name in l2t.list_backends()):
        pytest.skip("needs every backend's library")
    committed = (repository / "docs" / "capabilities.md").read_text()
    ours, theirs = (
        [line for line in page.splitlines() if line.startswith("|")] for page in (committed, as_markdown(cells()))
    )
    assert ours == theirs, "l2t-bench list backends --capabilities --markdown > docs/capabilities.md"


# -- it can fail -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Spoilt(ManualRMD):
    """``rmd`` with a gradient that is a hundred-thousandth too long, or none at all."""

    fault: str = "too long"

    def differentiate(self, run: Run) -> Derivative:
        found = super().differentiate(run)
        if self.fault == "raises":
            raise RuntimeError("sizes do not match\nand more")
        factor = 1 + 1e-5 if self.fault == "too long" else 0.0
        return dataclasses.replace(found, d_theta={name: factor * part for name, part in found.d_theta.items()})


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("too long", "off by"), ("zero", "off by inf"), ("raises", "RuntimeError: sizes do not match")],
)
def test_a_wrong_number_and_a_crash_are_told_as_wrong(fault: str, reason: str) -> None:
    cell = tried("spoilt", Spoilt(fault=fault), make_probe("momentum"))
    assert cell.verdict is Verdict.WRONG and cell.reason.startswith(reason) and "more" not in cell.reason


def test_a_backend_whose_library_is_missing_is_absent_and_the_others_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    from l2t_bench.verification import capabilities as module

    def load(name: str) -> Any:
        if name == "higher":
            raise UserError("backend 'higher' needs higher, which is not installed: pip install higher")
        return l2t.load_backend(name)

    monkeypatch.setattr(module, "load_backend", load)
    found = list(capabilities(["higher", "rmd"], ["SGD"]))
    assert [cell.verdict for cell in found] == [Verdict.ABSENT, Verdict.EXACT]
    assert notes(found) == ["higher: SGD: backend 'higher' needs higher, which is not installed: pip install higher"]


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    from l2t_bench.verification import capabilities as module

    whole = module.capabilities
    monkeypatch.setattr(module, "capabilities", lambda names: whole(names, ["SGD", "Adam"]))
    monkeypatch.setattr(module, "with_variants", lambda: ["rmd", "higher"])


@pytest.mark.usefixtures("two_probes")
def test_the_command_prints_a_table_with_the_reasons_below() -> None:
    done = CliRunner().invoke(app, ["list", "backends", "--capabilities"])
    assert done.exit_code == 0
    adam = next(line for line in done.output.splitlines() if "Adam" in line)
    assert "exact" in adam and "no" in adam
    assert "higher: Adam: higher does not differentiate Adam: higher's Adam adds eps elsewhere" in done.output


@pytest.mark.usefixtures("two_probes")
def test_the_command_prints_markdown_and_records() -> None:
    page = CliRunner().invoke(app, ["list", "backends", "--capabilities", "--markdown"]).output
    assert "| Adam | exact | no |" in page
    records = json.loads(CliRunner().invoke(app, ["list", "backends", "--capabilities", "--json"]).output)
    assert {(each["backend"], each["brought"], each["verdict"]) for each in records} == {
        ("rmd", "SGD", "exact"),
        ("rmd", "Adam", "exact"),
        ("higher", "SGD", "exact"),
        ("higher", "Adam", "no"),
    }


@pytest.mark.usefixtures("two_probes")
def test_the_backends_asked_for_are_probed_with_their_options_each_once() -> None:
    asked = ("rmd[store=reversible]", "-b", "higher", "-b", "rmd[store=reversible]")
    done = CliRunner().invoke(app, ["list", "backends", "--capabilities", "--json", "-b", *asked])
    assert done.exit_code == 0
    records = {(each["backend"], each["brought"]): each for each in json.loads(done.output)}
    assert len(records) == 4 and {backend for backend, _ in records} == {"rmd[store=reversible]", "higher"}
    assert "cannot be undone" in records["rmd[store=reversible]", "Adam"]["reason"]


@pytest.mark.slow
def test_the_table_has_the_variants_whose_refusals_differ() -> None:
    names = with_variants()
    assert [name for name in names if "[" not in name] == l2t.list_backends()
    refused = {
        name: {cell.brought for cell in cells() if (cell.backend, cell.verdict) == (name, Verdict.REFUSED)}
        for name in names
    }
    for variant in ("rmd[hvp=for]", "rmd[store=reversible]", "torchopt[api=meta]"):
        assert refused[variant] > refused[variant.partition("[")[0]], variant


def test_a_wrong_cell_ends_the_command_with_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    from l2t_bench.verification import capabilities as module

    monkeypatch.setattr(module, "capabilities", lambda names: iter([Cell("rmd", "SGD", Verdict.WRONG, "off by 1")]))
    assert CliRunner().invoke(app, ["list", "backends", "--capabilities"]).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("problems", "--capabilities"), "are of backends"),
        (("backends", "--markdown"), "go with --capabilities"),
        (("--json",), "go with --capabilities"),
        (("backends", "-b", "rmd"), "-b goes with --capabilities"),
        (("backends", "--capabilities", "-b", "rdm"), "did you mean 'rmd'"),
        (("backends", "--capabilities", "-b", "rmd[hvp=rof]"), "hvp must be one of ror, for"),
    ],
)
def test_options_that_do_not_go_together_are_answered(arguments: tuple[str, ...], answer: str) -> None:
    done = CliRunner().invoke(app, ["list", *arguments])
    assert isinstance(done.exception, UserError) and answer in str(done.exception)
