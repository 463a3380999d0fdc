"""The wheel holds the four folders under one name and nothing else; importing the package costs no torch."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement

MAPPED = ("backends", "suites", "reports")  # folders of the checkout that are sub-packages of l2t_bench


def python(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def tracked(repository: Path) -> list[PurePosixPath]:
    """The files under version control."""
    if not (repository / ".git").exists():
        pytest.skip("needs the git checkout: the wheel is compared with the tracked files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=True)
    return [PurePosixPath(name) for name in listed.stdout.split("\0") if name]


@pytest.fixture(scope="module")
def wheel(repository: Path, tracked: list[PurePosixPath], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tracked files, without network."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(repository / name, copy / name)
    built = python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(copy / "dist"), cwd=copy)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    (found,) = (copy / "dist").glob("*.whl")
    return found


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_tracked_file_of_the_four_folders_and_no_other(
    wheel: Path, tracked: list[PurePosixPath]
) -> None:
    packaged = {f"l2t_bench/{name}" for name in tracked if name.parts[0] in MAPPED}
    own = {str(name) for name in tracked if name.parts[0] == "l2t_bench"}
    held = {name for name in names_in(wheel) if name.startswith("l2t_bench/")}
    assert held == own | packaged
    assert {PurePosixPath(name).parts[1] for name in held} >= set(MAPPED), "the sample must reach all folders"


def test_the_wheel_holds_the_type_marker_and_the_reference_set(wheel: Path) -> None:
    names = names_in(wheel)
    assert "l2t_bench/py.typed" in names
    assert any(PurePosixPath(name).match("l2t_bench/verification/*.safetensors") for name in names)


def test_nothing_but_l2t_bench_stands_at_the_top_of_the_wheel(wheel: Path) -> None:
    tops = {PurePosixPath(name).parts[0] for name in names_in(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"l2t_bench"}


def test_the_installed_package_works_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    installed = python(
        *("-m", "pip", "install", "--no-deps", "--no-index", "--disable-pip-version-check"),
        *("--target", str(site), str(wheel)),
        cwd=tmp_path,
    )
    assert installed.returncode == 0, installed.stderr
    script = f"""
import sys
sys.path.insert(0, {str(site)!r})  # before the checkout, which an editable install would give
import l2t_bench as l2t
problem = l2t.build_problem("digits/mlp[hidden=8]")
result = l2t.load_backend("rmd").teacher_gradient(problem, problem.init_teacher(0), horizon=3)
assert set(result.d_theta) == {{"W", "V"}}
from l2t_bench.verification.reference import load_reference
assert load_reference()
from l2t_bench.registry import load_suite
assert load_suite("quick").name == "quick"
import l2t_bench.reports
for name, module in sys.modules.items():
    if name.partition(".")[0] == "l2t_bench":
        assert module.__file__.startswith({str(site)!r}), (name, module.__file__)
"""
    done = python("-P", "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("folder", MAPPED)
def test_a_folder_of_the_checkout_refuses_to_be_imported_under_its_own_name(folder: str, repository: Path) -> None:
    done = python("-c", f"import {folder}", cwd=repository)
    assert done.returncode == 1
    assert f"ImportError: import l2t_bench.{folder}, not {folder}" in done.stderr


@pytest.mark.parametrize(
    "script",
    [
        "import l2t_bench",
        "import l2t_bench; l2t_bench.list_backends(); l2t_bench.list_problems(); l2t_bench.list_suites()",
        "import sys; sys.argv = ['l2t-bench', '--help']; from l2t_bench.cli.main import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code",
    ],
    ids=["import", "list", "help"],
)
def test_torch_is_not_imported_before_it_is_needed(script: str, tmp_path: Path) -> None:
    heavy = ("torch", "pandas", "plotly", "sklearn")
    script += f"\nimport sys; assert not set({heavy}) & set(sys.modules), set({heavy}) & set(sys.modules)"
    done = python("-P", "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def pinned(repository: Path) -> dict[str, str]:
    lines = (repository / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {_normal(name): version for name, version in pairs}


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def test_every_dependency_is_pinned_to_a_version_that_its_declaration_allows(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [Requirement(text) for text in (*project["dependencies"], *extras["dev"], *extras["docs"])]
    versions = pinned(repository)
    assert len(declared) > 15, "the sample must not be empty"
    for requirement in declared:
        name = _normal(requirement.name)
        assert name in versions, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(versions[name]), f"{requirement} excludes {versions[name]}"


def test_the_pins_name_no_host_and_no_local_build(repository: Path) -> None:
    for name, version in pinned(repository).items():
        assert name == name.strip() and "/" not in name + version and "+" not in version, (name, version)
