"""status, show, merge, compare, dry runs and plug-ins: what a person sees of a run, and what the commands refuse."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from l2t_bench.engine.merge import merge
from l2t_bench.engine.overview import find, look
from l2t_bench.errors import UserError

HERE = Path(__file__).resolve().parent


def l2t(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "l2t_bench.cli.main", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(HERE), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


@pytest.fixture(scope="module")
def stub_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a plug-in's suite of six cells, through the command line."""
    out = tmp_path_factory.mktemp("runs") / "stub"
    done = l2t("run", "stub", "--plugin", HERE / "stub_suite.py", "--seeds", "6", "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def own_run(stub_run: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(stub_run, tmp_path / "own")


def cell_file(run: Path, seed: int) -> Path:
    return run / "cells" / "stub" / find(run, f"seed {seed}").cell_id / "cell.json"


def test_a_plugins_suite_is_run_listed_and_reported_like_ours(stub_run: Path) -> None:
    assert look(stub_run).counts == {"ok": 6}
    assert (stub_run / "report.html").is_file()
    assert "stub" in l2t("list", "suites", "--plugin", HERE / "stub_suite.py").stdout
    assert "curves.jsonl" in {file.name for file in cell_file(stub_run, 0).parent.iterdir()}


def test_the_same_command_again_runs_nothing_and_says_so(stub_run: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in stub_run.rglob("cell.json")}
    done = l2t("run", "--config", stub_run / "run.toml", "--out", stub_run)
    assert done.returncode == 0 and "nothing was missing" in done.stdout
    assert {file: file.stat().st_mtime_ns for file in stub_run.rglob("cell.json")} == before


def test_a_dry_run_writes_nothing(tmp_path: Path, stub_run: Path) -> None:
    plugin = ("--plugin", HERE / "stub_suite.py")
    done = l2t("run", "stub", *plugin, "--seeds", "8", "--out", tmp_path / "none", "--dry-run")
    assert done.returncode == 0 and "8 cells, 8 to run" in done.stdout and not (tmp_path / "none").exists()
    half = l2t("run", "stub", *plugin, "--seeds", "8", "--out", stub_run, "--dry-run")
    assert "8 cells, 2 to run" in half.stdout and "earlier cells" in half.stdout


def test_status_and_show_say_how_it_stands(own_run: Path) -> None:
    cell_file(own_run, 3).write_text("{")
    told = l2t("status", own_run).stdout
    assert "5 of 6 cells done" in told and "damaged" in told and "cut short" in told
    shown = l2t("show", own_run, "seed 2")
    assert shown.returncode == 0 and '"answer": 4' in shown.stdout and "import" in shown.stdout
    several = l2t("show", own_run, "stub")
    assert several.returncode == 2 and "may be any of 6 cells" in several.stderr


DAMAGES = {
    "cut short": lambda text: text[:100],
    "emptied": lambda text: "",
    "another schema": lambda text: text.replace('"schema": 2', '"schema": 9'),
    "NaN": lambda text: text.replace('"answer": 9', '"answer": NaN'),
    "a path": lambda text: text.replace('"problem": "none"', '"problem": "../../etc"'),
    "another identity": lambda text: text.replace('"seed": 3', '"seed": 4'),
    "a list": lambda text: "[]",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_said_kept_and_measured_again_and_the_others_are_not(own_run: Path, damage: str) -> None:
    others = {seed: cell_file(own_run, seed).read_bytes() for seed in (0, 1, 2, 4, 5)}
    file = cell_file(own_run, 3)
    damaged = DAMAGES[damage](file.read_text())
    assert damaged != file.read_text()
    file.write_text(damaged)
    told = l2t("status", own_run)
    assert told.returncode == 2 and "damaged stub none stub seed 3  cell.json" in told.stdout
    assert l2t("show", own_run, "seed 3").returncode == 2
    reported = l2t("report", own_run)
    assert reported.returncode == 2 and "cell.json" in reported.stderr
    merged = l2t("merge", own_run, "-o", own_run.parent / "merged")
    assert merged.returncode == 2 and "cell.json" in merged.stderr and not (own_run.parent / "merged").exists()
    assert file.read_text() == damaged, "reading alters nothing"
    again = l2t("run", "--config", own_run / "run.toml", "--out", own_run)
    assert again.returncode == 0 and "kept as cell.damaged-1.json, measured again" in again.stderr
    assert json.loads(file.read_text())["measurements"] == {"answer": 9}
    assert file.with_name("cell.damaged-1.json").read_text() == damaged
    assert {seed: cell_file(own_run, seed).read_bytes() for seed in others} == others


def test_a_run_of_another_version_is_left_as_it_is(own_run: Path) -> None:
    plan = own_run / "plan.json"
    plan.write_text(plan.read_text().replace('"schema": 2', '"schema": 9'))
    before = {file: file.read_bytes() for file in own_run.rglob("*.json")}
    for command in (("status", own_run), ("run", "--config", own_run / "run.toml", "--out", own_run)):
        done = l2t(*command)
        assert done.returncode == 2 and "has schema 9, this version reads 2" in done.stderr
    assert {file: file.read_bytes() for file in own_run.rglob("*.json")} == before


def test_a_result_of_other_code_is_said_to_be_stale(own_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setenv("L2T_BENCH_PLUGINS", str(HERE / "stub_suite.py"))
    monkeypatch.syspath_prepend(str(HERE))
    assert look(own_run).stale == 0
    file = cell_file(own_run, 1)
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "code": "0123456789ab"}))
    assert [cell.label for cell in look(own_run).cells if cell.stale] == ["stub none stub seed 1"]


def test_two_runs_merge_into_one_that_has_the_cells_of_both(own_run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(own_run, tmp_path / "other")
    for seed, run in ((0, own_run), (5, other)):
        cell_file(run, seed).unlink()
    merged = merge([own_run, other], tmp_path / "merged")
    assert (merged.cells, merged.results) == (6, 6) and look(tmp_path / "merged").counts == {"ok": 6}


def test_runs_that_disagree_about_a_cell_do_not_merge(own_run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(own_run, tmp_path / "other")
    file = cell_file(other, 2)
    file.write_text(file.read_text().replace('"answer": 4', '"answer": 5'))
    done = l2t("merge", own_run, other, "-o", tmp_path / "merged")
    assert done.returncode == 2 and "disagree about cell" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "own"], "nothing is left behind"


def test_a_merge_overwrites_nothing(own_run: Path, stub_run: Path) -> None:
    with pytest.raises(UserError, match="not empty"):
        merge([stub_run], own_run)


def test_a_plugin_that_raises_at_import_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("raise RuntimeError('no good')")
    done = l2t("run", "stub", "--plugin", tmp_path / "bad.py", "--out", tmp_path / "run")
    assert done.returncode == 2 and "does not import: RuntimeError: no good" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "run").exists()


def test_a_missing_library_is_said_in_the_list_and_disturbs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from l2t_bench import registry

    monkeypatch.setattr(registry, "installed", lambda name: None if name == "higher" else "1.0")
    assert registry.missing_library("backends", "higher") == "higher"
    assert (
        registry.missing_library("backends", "torchopt") is None and registry.missing_library("backends", "rmd") is None
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [("run qu", "quick"), ("run quick -b trun", "truncated"), ("verify rmd digits/l", "digits/lenet")],
)
def test_the_shell_completes_names(line: str, expected: str) -> None:
    words = f"l2t-bench {line}"
    script = "import sys; sys.argv[0] = 'l2t-bench'; from l2t_bench.cli.main import main; main()"
    asked = {
        **os.environ,
        "_L2T_BENCH_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run([sys.executable, "-c", script], env=asked, capture_output=True, text=True, check=False)
    assert expected in done.stdout.split()


def test_a_condition_that_is_no_condition_is_told_before_anything_is_read(tmp_path: Path) -> None:
    done = l2t("compare", tmp_path / "a", tmp_path / "b", "--fail-on", "tme>1.1")
    assert done.returncode == 2 and "did you mean 'time'" in done.stderr
