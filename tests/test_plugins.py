"""Others' backends, problems and suites are listed, run, verified and reported like ours."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import in_a_process

from l2t_bench import plugins
from l2t_bench.engine.planning import plan
from l2t_bench.engine.study import Study, read_study, write_study
from l2t_bench.registry import load_backend, sources_of

_BACKEND = """
    import torch
    from l2t_bench.backends.rmd import ManualRMD

    class Mine(ManualRMD):
        name = "mine"
"""
_PROBLEM = """
    from dataclasses import dataclass
    from l2t_bench.problems import DigitsMLP

    @dataclass(frozen=True)
    class Tiny(DigitsMLP):
        hidden: int = 3
        train: int = 40
        dev: int = 60
        batch: int = 5

    class Zero:
        def __call__(self, output, target, phi=None):
            return 0 * output.sum()

        def student(self, student):
            return student

    PROBLEMS = {"mine/tiny": Tiny}
    LOSSES = {"zero": Zero}
"""
_SUITE = """
    from l2t_bench.engine.cell import Cell
    from l2t_bench.engine.suite import Suite

    def cells(request):
        return [
            Cell("mine-suite", 1, "few", kind, "mine/tiny", method, seed, task, settings=settings)
            for seed in request.seeds or (0,)
            for method in request.backends or ("mine", "rmd")
            for kind, task, settings in (
                ("gradient", "l2t_bench.engine.gradient_cell:measure", {"horizons": [2], "repeats": [1]}),
                ("length", TASK + ":measure_length", {}),
            )
        ]

    def measure_length(cell, recorder):
        return {"letters": len(cell.method), "note": "counted", "halves": [1, 2]}

    SUITE = Suite("mine-suite", 1, "a plug-in's", {"few": cells}, "few")
"""


def with_inherited(site: Path) -> str:
    """A PYTHONPATH of ``site`` and whatever the tests themselves are found by."""
    return os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two packages are installed: a sound one, and one that lacks a library and takes our name."""
    site = tmp_path_factory.mktemp("site")
    (site / "mine").mkdir()
    (site / "mine" / "__init__.py").write_text("")
    for name, source in (("backends", _BACKEND), ("problems", _PROBLEM), ("suites", 'TASK = "mine.suites"\n' + _SUITE)):
        head, _, body = source.partition("\n") if name == "suites" else ("", "", source)
        (site / "mine" / f"{name}.py").write_text(head + "\n" + textwrap.dedent(body))
    install(
        site,
        "mine",
        "[l2t_bench.backends]\nmine = mine.backends:Mine\n"
        "[l2t_bench.problems]\nmine/tiny = mine.problems:Tiny\n"
        "[l2t_bench.losses]\nzero = mine.problems:Zero\n"
        "[l2t_bench.suites]\nmine-suite = mine.suites:SUITE\n",
    )
    (site / "lacking.py").write_text("import a_library_that_nobody_has\n")
    install(
        site,
        "lacking",
        "[l2t_bench.backends]\nlacking = lacking:Backend\nrmd = lacking:Backend\n",
        requires="a-library-that-nobody-has>=2",
    )
    return site


def install(site: Path, name: str, entry_points: str, requires: str | None = None) -> None:
    place = site / f"{name}-1.0.dist-info"
    place.mkdir()
    needed = f"Requires-Dist: {requires}\n" if requires else ""
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needed}")
    (place / "entry_points.txt").write_text(entry_points)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same as one Python file, for ``--plugin``."""
    file = tmp_path_factory.mktemp("file") / "own.py"
    suite = f'TASK = "own"\n{textwrap.dedent(_SUITE)}'
    file.write_text(textwrap.dedent(_BACKEND) + textwrap.dedent(_PROBLEM) + suite)
    return str(file)


def test_installed_plug_ins_are_listed_with_what_they_lack(site: Path) -> None:
    done = in_a_process("list", PYTHONPATH=with_inherited(site))
    assert done.returncode == 0
    listed = [line.strip() for line in done.stdout.splitlines()]
    assert {"mine", "mine/tiny", "zero", "mine-suite", "rmd"} <= set(listed)
    assert "lacking  (not installed: pip install a-library-that-nobody-has)" in listed
    assert "the installed package lacking offers 'rmd', which is ours: left out" in done.stderr


def test_losses_of_a_file_are_listed_beside_ours(files: str) -> None:
    listed = [line.strip() for line in in_a_process("list", "losses", "--plugin", files).stdout.splitlines()]
    assert {"zero", "smooth01", "cross-entropy"} <= set(listed)


@pytest.fixture(scope="module", params=["file", pytest.param("installed", marks=pytest.mark.slow)])
def finished(
    request: pytest.FixtureRequest, site: Path, files: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str], list[str]]:
    """A run of the plug-in's suite with the plug-in's backend and problem, and what later commands are given."""
    out = tmp_path_factory.mktemp("runs") / request.param
    if request.param == "installed":
        environment, options = {"PYTHONPATH": with_inherited(site)}, []
    else:
        environment, options = {}, ["--plugin", files]
    done = in_a_process("run", "mine-suite", *options, "--out", out, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, environment, options


def test_a_plug_ins_suite_backend_and_problem_run(finished: tuple[Path, dict[str, str], list[str]]) -> None:
    out, environment, _ = finished
    records = [json.loads(file.read_text()) for file in out.rglob("cell.json")]
    assert len(records) == 4 and {record["status"] for record in records} == {"ok"}
    assert "4 of 4 cells done" in in_a_process("status", out, **environment).stdout


def test_cells_of_a_plug_ins_own_kind_have_a_table_of_their_figures(
    finished: tuple[Path, dict[str, str], list[str]],
) -> None:
    out, environment, _ = finished
    told = in_a_process("report", out, "--format", "md", **environment).stdout
    assert "length: mine/tiny" in told and "letters" in told
    row = next(line for line in told.splitlines() if line.startswith("| mine ") and "4" in line)
    assert row
    assert "letters" in (out / "report.html").read_text()


@pytest.mark.slow
def test_a_plug_ins_backend_is_verified_like_ours(finished: tuple[Path, dict[str, str], list[str]]) -> None:
    _, environment, options = finished
    done = in_a_process("verify", "mine", "mine/tiny", *options, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mine on mine/tiny" in done.stdout and "agreement" in done.stdout and "FAIL" not in done.stdout


@pytest.mark.slow
def test_a_plug_in_that_lacks_its_library_is_a_line_and_disturbs_nothing(site: Path, tmp_path: Path) -> None:
    asked = in_a_process("verify", "lacking", PYTHONPATH=with_inherited(site))
    assert asked.returncode == 2 and "a_library_that_nobody_has" in asked.stderr and "Traceback" not in asked.stderr
    dry = in_a_process("run", "quick", "--profile", "smoke", "-b", "rmd", "--dry-run", PYTHONPATH=with_inherited(site))
    assert dry.returncode == 0 and "1 cells, 1 to run" in dry.stdout


@pytest.fixture
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test adds to the environment goes with it."""
    for variable in (plugins.PLUGINS, plugins.FILES):
        monkeypatch.setenv(variable, "")


_TOLD_APART = """
    from l2t_bench.engine.cell import Cell
    from l2t_bench.engine.suite import Suite

    def measure(cell, recorder):
        return {{"of": {name!r}}}

    def cells(request):
        return [Cell({name!r}, 1, "one", "which", "none", "stub", 0, "suite:measure")]

    SUITE = Suite({name!r}, 1, "", {{"one": cells}}, "one")
"""


@pytest.mark.parametrize(
    "asked",
    [
        lambda first, second: ["a", "b", "--plugin", first, "--plugin", second],
        lambda first, second: [f"{first}:SUITE", "b", "--plugin", second],
        lambda first, second: [f"{first}:SUITE", f"{second}:SUITE"],
    ],
    ids=["plug-ins", "a path and a plug-in", "paths"],
)
def test_two_files_of_one_name_are_a_mistake_and_not_each_others_code(
    asked: Callable[[str, str], list[str]], tmp_path: Path
) -> None:
    files = []
    for name in ("a", "b"):
        files.append(tmp_path / name / "suite.py")
        files[-1].parent.mkdir()
        files[-1].write_text(textwrap.dedent(_TOLD_APART.format(name=name)))
    done = in_a_process("run", *asked(*map(str, files)), "--out", tmp_path / "run")
    assert done.returncode == 2 and "suite.py are called the same: rename one" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_suite_named_by_its_file_runs_its_own_tasks(tmp_path: Path) -> None:
    (tmp_path / "suite.py").write_text(textwrap.dedent(_TOLD_APART.format(name="alone")))
    done = in_a_process("run", f"{tmp_path}/suite.py:SUITE", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "run").rglob("cell.json")
    assert json.loads(file.read_text())["measurements"] == {"of": "alone"}


@pytest.mark.usefixtures("no_files")
def test_a_backend_named_by_its_path_is_kept_by_its_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, out = tmp_path / "home", tmp_path / "runs" / "one"
    home.mkdir()
    out.mkdir(parents=True)
    (home / "mine.py").write_text(textwrap.dedent(_BACKEND))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(out)
    for spelt in (f"{home}/mine.py:Mine[store=all]", "~/mine.py:Mine[store=all]", "../../home/mine.py:Mine[store=all]"):
        planned = plan(Study(("quick",), profile="smoke", backends=(spelt,)))
        (cell,) = planned.cells
        assert cell.method == "mine.py:Mine[store=all]"
        assert load_backend(cell.method).name == "mine", "the worker finds the file"
        assert home / "mine.py" in sources_of(cell.method, cell.problem, cell.task)
        kept = write_study(planned.study, out)
        assert "~/mine.py:Mine[store=all]" in kept and str(home) not in kept
        (out / "run.toml").write_text(kept)
        assert read_study(out / "run.toml") == planned.study


def test_the_process_that_runs_the_cells_imports_no_plug_in(files: str, tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from l2t_bench.engine.planning import plan
        from l2t_bench.engine.runner import run
        from l2t_bench.engine.study import Study
        from l2t_bench.plugins import add_plugins
        study = Study(("mine-suite",), backends=("mine",), seeds=(0,), plugins=({files!r},))
        add_plugins(study.plugins)
        print(run(plan(study), Path({str(tmp_path / "run")!r}), lambda event: None))
        print(sorted(name for name in sys.modules if name in ("torch", "numpy", "pandas") or "plugin_" in name))
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["{'ok': 2}", "[]"], done.stdout + done.stderr
