"""status, show, merge, compare, dry runs and plug-ins: what a person sees of a run, and what the commands refuse."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Done, here, in_a_process

from l2t_bench.engine.merge import common_study, merge
from l2t_bench.engine.overview import find, look
from l2t_bench.engine.study import Study, read_study, write_study
from l2t_bench.errors import UserError

HERE = Path(__file__).resolve().parent


def l2t(*arguments: str | Path, **environment: str) -> Done:
    return in_a_process(*arguments, on_path=HERE, **environment)


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


def test_results_of_other_threads_are_kept_and_said(own_run: Path) -> None:
    before = cell_file(own_run, 0).read_bytes()
    again = ("run", "--config", own_run / "run.toml", "--out", own_run)
    done = l2t(*again, "--threads", "4")
    assert done.returncode == 0 and cell_file(own_run, 0).read_bytes() == before
    assert "6 kept results were measured with 1 thread, not 4: --rerun all measures them again" in done.stderr
    assert "kept results" not in l2t(*again, "--threads", "1").stderr
    assert "kept results" not in l2t(*again, "--threads", "4", "--rerun", "all", "--dry-run").stderr


def test_results_of_another_processor_are_kept_and_said(own_run: Path) -> None:
    for file in (own_run / "environments").glob("*.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "cpu": "Another CPU"}))
    done = l2t("run", "--config", own_run / "run.toml", "--out", own_run)
    assert done.returncode == 0 and "6 kept results were measured on Another CPU, not" in done.stderr


def test_a_smaller_plan_has_a_report_of_its_own(own_run: Path) -> None:
    done = l2t("run", "--config", own_run / "run.toml", "--out", own_run, "--seeds", "2")
    assert done.returncode == 0 and "nothing was missing" not in done.stdout
    assert "4 of the folder's cells are not in the plan of plan.json and are left out" in done.stderr
    assert len((own_run / "others.csv").read_text().splitlines()) == 1 + 2 * 2
    assert "nothing was missing" in l2t("run", "--config", own_run / "run.toml", "--out", own_run).stdout


def test_a_dry_run_writes_nothing(tmp_path: Path, stub_run: Path) -> None:
    plugin = ("--plugin", HERE / "stub_suite.py")
    done = l2t("run", "stub", *plugin, "--seeds", "8", "--out", tmp_path / "none", "--dry-run")
    assert done.returncode == 0 and "8 cells, 8 to run" in done.stdout and not (tmp_path / "none").exists()
    half = l2t("run", "stub", *plugin, "--seeds", "8", "--out", stub_run, "--dry-run")
    assert "8 cells, 2 to run" in half.stdout and "earlier cells" in half.stdout
    lines = half.stdout.splitlines()
    assert {f"{'ok' if seed < 6 else 'to run':<8} stub none stub seed {seed}" for seed in range(8)} <= set(lines)


def test_status_and_show_say_how_it_stands(own_run: Path) -> None:
    cell_file(own_run, 3).write_text("{")
    told = here("status", own_run).stdout
    assert "5 of 6 cells done" in told and "damaged" in told and "cut short" in told
    shown = here("show", own_run, "seed 2")
    assert shown.returncode == 0 and '"answer": 4' in shown.stdout and "import" in shown.stdout
    several = here("show", own_run, "stub")
    assert several.returncode == 2 and "may be any of 6 cells" in several.stderr


def damaged(run: Path, seed: int, damage: str) -> Path:
    """The result of a seed, damaged."""
    file = cell_file(run, seed)
    before = file.read_text()
    match damage:
        case "cut short":
            after = before[:100]
        case "emptied":
            after = ""
        case "another schema":
            after = before.replace('"schema": 2', '"schema": 9')
        case "NaN":
            after = before.replace(f'"answer": {seed**2}', '"answer": NaN')
        case "a path":
            after = before.replace('"problem": "none"', '"problem": "../../etc"')
        case "another identity":
            after = before.replace(f'"seed": {seed}', f'"seed": {seed + 1}')
        case _:
            after = "[]"
    assert after != before
    file.write_text(after)
    return file


DAMAGES = ("cut short", "emptied", "another schema", "NaN", "a path", "another identity", "a list")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_said_by_all_that_read_it_and_altered_by_none(own_run: Path, damage: str) -> None:
    file = damaged(own_run, 3, damage)
    before = file.read_text()
    told = here("status", own_run)
    assert told.returncode == 2 and "damaged stub none stub seed 3  cell.json" in told.stdout
    assert here("show", own_run, "seed 3").returncode == 2
    reported = here("report", own_run)
    assert reported.returncode == 2 and "cell.json" in reported.stderr
    merged = here("merge", own_run, "-o", own_run.parent / "merged")
    assert merged.returncode == 2 and "cell.json" in merged.stderr and not (own_run.parent / "merged").exists()
    assert file.read_text() == before


@pytest.mark.parametrize("damages", [DAMAGES[:4], DAMAGES[4:]])
def test_damaged_results_are_kept_and_measured_again_and_the_others_are_not(
    own_run: Path, damages: tuple[str, ...]
) -> None:
    files = {seed: damaged(own_run, seed, damage) for seed, damage in enumerate(damages, start=1)}
    before = {seed: cell_file(own_run, seed).read_text() for seed in range(6)}
    again = l2t("run", "--config", own_run / "run.toml", "--out", own_run)
    assert again.returncode == 0
    assert again.stderr.count("kept as cell.damaged-1.json, measured again") == len(files)
    for seed, file in files.items():
        assert json.loads(file.read_text())["measurements"] == {"answer": seed**2}
        assert file.with_name("cell.damaged-1.json").read_text() == before[seed]
    assert all(cell_file(own_run, seed).read_text() == before[seed] for seed in {*range(6)} - {*files})


def test_a_run_of_another_version_is_left_as_it_is(own_run: Path) -> None:
    plan = own_run / "plan.json"
    plan.write_text(plan.read_text().replace('"schema": 2', '"schema": 9'))
    before = {file: file.read_bytes() for file in own_run.rglob("*.json")}
    for command in (("status", own_run), ("run", "--config", own_run / "run.toml", "--out", own_run)):
        done = l2t(*command)
        assert done.returncode == 2 and "has schema 9, this version reads 2" in done.stderr
    assert {file: file.read_bytes() for file in own_run.rglob("*.json")} == before


def test_a_result_of_other_code_is_said_to_be_stale(own_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
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


def test_a_merged_run_is_as_fresh_as_its_sources(own_run: Path, tmp_path: Path) -> None:
    """It names the plug-ins that its cells need: without them at hand nobody can call a result stale."""
    merge([own_run], tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "plan.json").read_text())["plugins"] == ["stub_suite.py"]
    assert look(own_run).stale == look(tmp_path / "merged").stale == 0


def test_a_merge_of_runs_with_other_seeds_is_repeated_by_its_own_run_toml(own_run: Path, tmp_path: Path) -> None:
    other, more = tmp_path / "other", tmp_path / "more.toml"
    more.write_text(write_study(replace(read_study(own_run / "run.toml"), seeds=(6, 7)), tmp_path))
    assert l2t("run", "--config", more, "--out", other).returncode == 0
    merged = tmp_path / "deep" / "merged"
    assert here("merge", own_run, other, "-o", merged).returncode == 0
    again = l2t("run", "--config", merged / "run.toml", "--out", merged, "--dry-run")
    assert again.returncode == 0 and "8 cells, 0 to run" in again.stdout, again.stderr


def test_a_merge_of_runs_by_other_launchers_is_read_and_repeated_as_one_run(own_run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(own_run, tmp_path / "other")
    elsewhere = replace(read_study(own_run / "run.toml"), launcher="slurm", launchers={"slurm": {"partition": "gpu"}})
    (other / "run.toml").write_text(write_study(elsewhere, other))
    merged = tmp_path / "merged"
    assert here("merge", own_run, other, "-o", merged).returncode == 0
    assert replace(read_study(merged / "run.toml"), plugins=()) == replace(read_study(own_run / "run.toml"), plugins=())
    assert here("report", merged).returncode == 0 and here("compare", own_run, merged).returncode == 0


def test_what_an_earlier_plan_left_is_merged_and_said(own_run: Path, tmp_path: Path) -> None:
    assert l2t("run", "--config", own_run / "run.toml", "--out", own_run, "--seeds", "2").returncode == 0
    done = here("merge", own_run, "-o", tmp_path / "merged")
    assert "2 cells, 2 with a result" in done.stdout and "4 results of earlier plans are copied" in done.stderr
    assert len(list((tmp_path / "merged" / "cells").rglob("cell.json"))) == 6


def test_a_result_that_one_runs_earlier_plan_left_counts_where_another_plans_it(own_run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(own_run, tmp_path / "other")
    for seed in range(6):
        cell_file(other, seed).unlink()
    plan = json.loads((own_run / "plan.json").read_text())
    (own_run / "plan.json").write_text(json.dumps({**plan, "cells": plan["cells"][:2]}))
    merged = merge([own_run, other], tmp_path / "merged")
    assert (merged.cells, merged.results, merged.unplanned) == (6, 6, 0)


def test_a_second_attempt_beside_a_cell_is_not_merged(own_run: Path, tmp_path: Path) -> None:
    folder = cell_file(own_run, 0).parent
    shutil.copytree(folder, folder.with_name(f"{folder.name}.again"))
    merged = merge([own_run], tmp_path / "merged")
    assert (merged.results, merged.unplanned) == (6, 0)


def test_a_failed_cell_of_runs_that_no_one_study_gives_is_repeated_where_it_came_from(
    own_run: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(own_run, tmp_path / "other")
    toml = other / "run.toml"
    assert 'timeout = "1200s"' in toml.read_text()
    toml.write_text(toml.read_text().replace("1200s", "60s"))
    file = cell_file(own_run, 3)
    file.write_text(file.read_text().replace('"status": "ok"', '"status": "crashed"'))
    cell_file(other, 3).unlink()
    merge([own_run, other], tmp_path / "merged")
    assert not (tmp_path / "merged" / "run.toml").exists()
    shown = here("show", tmp_path / "merged", "seed 3")
    assert "again: in the run that it came from: own, other; then merge anew" in shown.stdout


@pytest.mark.parametrize(
    ("changes", "common"),
    [
        ([{}, {}], {}),
        ([{"seeds": (0, 1)}, {"seeds": (1, 2)}], {"seeds": (0, 1, 2)}),
        ([{"backends": ("rmd",)}, {"backends": ("higher",)}], {"backends": ("rmd", "higher")}),
        ([{"backends": ("rmd",)}, {"backends": ("higher",), "seeds": (1,)}], None),
        ([{"seeds": (0,)}, {"seeds": ()}], None),
        ([{"threads": 1}, {"threads": 2}], None),
        ([{"launcher": "slurm", "launchers": {"slurm": {"qos": "a"}}}, {"seeds": ()}], {}),
        ([{"launcher": "slurm", "seeds": (0,)}, {"launcher": "ray", "seeds": (1,)}], {"seeds": (0, 1)}),
        ([{"launcher": "slurm"}, {"launcher": "slurm"}], {"launcher": "slurm"}),
        ([{"overrides": {"gradient": {"repeats": [1]}}}, {}], None),
    ],
)
def test_studies_have_a_common_one_where_it_has_just_their_cells(
    changes: list[dict[str, object]], common: dict[str, object] | None
) -> None:
    studies = [Study(("quick",), **change) for change in changes]  # type: ignore[arg-type]
    assert common_study(studies) == (None if common is None else Study(("quick",), **common))  # type: ignore[arg-type]


def test_runs_that_disagree_about_a_cell_do_not_merge(own_run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(own_run, tmp_path / "other")
    file = cell_file(other, 2)
    file.write_text(file.read_text().replace('"answer": 4', '"answer": 5'))
    done = here("merge", own_run, other, "-o", tmp_path / "merged")
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


@pytest.mark.parametrize("code", [0, 2, 3])
def test_a_plugin_that_ends_the_process_is_a_line_and_no_exit_code_of_ours(code: int, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(f"import sys; print('hello'); sys.exit({code})")
    for command in (("run", "stub", "--out", tmp_path / "run"), ("list",)):
        done = l2t(*command, "--plugin", tmp_path / "bad.py")
        assert done.returncode == 2 and f"bad.py does not import: SystemExit: {code}" in done.stderr
        assert "Traceback" not in done.stderr and not (tmp_path / "run").exists()


def test_a_plugin_that_ends_the_process_at_once_is_a_line_too(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import os; os._exit(2)")
    done = l2t("run", "stub", "--plugin", tmp_path / "bad.py", "--out", tmp_path / "run")
    assert done.returncode == 2 and "ended without an answer, exit code 2" in done.stderr


def test_a_plugin_may_print_what_it_likes(tmp_path: Path) -> None:
    text = 'print("hello")\nprint(42)\n' + (HERE / "stub_suite.py").read_text() + '\nprint("[1]")\n'
    (tmp_path / "stub_suite.py").write_text(text)
    done = l2t("run", "stub", "--plugin", tmp_path / "stub_suite.py", "--seeds", "2", "--out", tmp_path, "--dry-run")
    assert done.returncode == 0 and "2 cells, 2 to run" in done.stdout


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return [1 / 0]", "suite odd cannot say its cells: ZeroDivisionError: division by zero (odd.py, line 3)"),
        ("return ['a cell']", "suite odd gives str where a Cell belongs"),
        ("raise ImportError('of something')", "suite odd cannot say its cells: ImportError: of something"),
    ],
)
def test_a_suite_that_cannot_say_its_cells_is_told_as_its_own_fault(body: str, said: str, tmp_path: Path) -> None:
    suite = f"from l2t_bench.engine.suite import Suite\ndef cells(request):\n    {body}\n"
    (tmp_path / "odd.py").write_text(suite + "SUITE = Suite('odd', 1, '', {'a': cells}, 'a')\n")
    done = l2t("run", "odd", "--plugin", tmp_path / "odd.py", "--out", tmp_path / "run")
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("place", ["cells", "cells/stub", "cells/stub/CELL", "environments"])
def test_a_file_where_a_folder_belongs_is_a_line_and_stays(own_run: Path, place: str) -> None:
    path = own_run / place.replace("CELL", cell_file(own_run, 3).parent.name)
    shutil.rmtree(path)
    path.write_text("mine")
    done = l2t("run", "--config", own_run / "run.toml", "--out", own_run)
    assert done.returncode == 2 and f"{path} is a file where a folder belongs" in done.stderr
    assert path.read_text() == "mine"


def test_a_plan_with_a_key_of_another_form_is_a_line(own_run: Path) -> None:
    plan = own_run / "plan.json"
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "plugins": 5}))
    done = here("status", own_run)
    assert done.returncode == 2 and "'plugins' is missing or not of the form" in done.stderr


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
    done = here("compare", tmp_path / "a", tmp_path / "b", "--fail-on", "tme>1.1")
    assert done.returncode == 2 and "did you mean 'time'" in done.stderr
