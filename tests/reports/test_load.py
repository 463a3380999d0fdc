"""Reading a run's folder: what is kept, what is refused, and what is said about it."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2t_bench.errors import UserError
from l2t_bench.reports import load, load_teaching
from l2t_bench.reports.load import load_run


def edit(file: Path, change: Any) -> None:
    """Rewrite a JSON file by a function of its content."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def one_cell(writer: Any, **changes: Any) -> Path:
    """A run of one sound gradient cell, its measured run changed; the cell's file."""
    run = {"d_theta": {"a": np.ones(3, "f4")}, "seconds": [1.0, 3.0, 2.0], "start": 1000, "peak": 1000 + 2**21}
    file: Path = writer.gradient("digits/mlp", "rmd", 0, {20: run}, "exact")
    writer.finish()
    edit(file, lambda content: content["measurements"]["runs"][0].update(changes))
    return file


def test_a_gradient_row_holds_the_median_time_and_the_peak_above_the_start_in_mib(writer: Any) -> None:
    one_cell(writer)
    row = load.gradients(load_run(writer.path)).iloc[0]
    assert (row["seconds"], row["repeats"], row["peak_above_start_mib"]) == (2.0, 3, 2.0)
    assert (row["problem"], row["method"], row["seed"], row["horizon"]) == ("digits/mlp", "rmd", 0, 20)


def test_the_device_s_peak_is_taken_where_there_is_one(writer: Any) -> None:
    one_cell(writer, device_start_bytes=0, device_peak_bytes=5 * 2**20)
    row = load.gradients(load_run(writer.path)).iloc[0]
    assert (row["peak_above_start_mib"], row["host_peak_above_start_mib"]) == (5.0, 2.0)


def test_a_platform_that_tells_no_memory_leaves_the_peak_unknown(writer: Any) -> None:
    one_cell(writer, host_start_bytes=None, host_peak_bytes=None)
    assert math.isnan(load.gradients(load_run(writer.path)).iloc[0]["peak_above_start_mib"])


def test_every_student_and_every_outer_step_has_a_row(run_folder: Path) -> None:
    run = load_run(run_folder)
    assert len(load_teaching.students(run)) == 5 * 12
    curves = load_teaching.curves(run)
    assert len(curves) == 3 * 20


def test_the_kept_teacher_is_among_those_that_were_judged(run_folder: Path) -> None:
    selections = load_teaching.selections(load_run(run_folder))
    assert len(selections) == 3 * 3
    assert selections.loc[selections["selected"], "outer_step"].tolist() == [20] * 3
    assert set(selections["measure"]) == {"accuracy"} and selections["mean"].between(0.93, 0.97).all()


def test_an_outer_step_without_a_finite_student_has_no_value(writer: Any) -> None:
    lost = {"outer_step": 0, "value": 0.0, "gradient_norm": 0.0, "diverged": 2, "seconds": 1.0}
    some = {"outer_step": 1, "value": 0.5, "gradient_norm": 1.0, "diverged": 1, "seconds": 1.0}
    writer.teaching("digits/mlp", "rmd", [0.9] * 10, curve=[lost, some])
    curves = load_teaching.curves(load_run(writer.finish()))
    assert math.isnan(curves.at[0, "value"]) and curves.at[1, "value"] == 0.5


def test_a_learning_rate_at_the_end_of_its_grid_is_marked(run_folder: Path) -> None:
    teachings = load_teaching.teachings(load_run(run_folder)).set_index("method")
    assert teachings.at["cross-entropy", "lr_at_grid_edge"]
    assert not teachings.at["rmd", "lr_at_grid_edge"]


def test_failures_keep_their_status_and_message(run_folder: Path) -> None:
    failures = load.failures(load_run(run_folder))
    assert dict(zip(failures["status"], failures["message"], strict=True)) == {
        "refused": "no momentum: <script>alert(1)</script>",
        "crashed": "SIGKILL",
        "timeout": "over 600 s",
        "diverged": "adjoint at step 3",
    }


def test_a_sound_run_has_no_warnings(run_folder: Path) -> None:
    assert load_run(run_folder).warnings == ()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "holds no run"),
        (lambda path: (path / "plan.json").write_text("{"), "cut short"),
        (lambda path: (path / "plan.json").write_text("[]"), "not a JSON object"),
        (lambda path: (path / "plan.json").write_text('{"schema": 1}'), "schema 1"),
        (lambda path: (path / "plan.json").write_text('{"schema": 2, "suites": ["quick"]}'), "'created'"),
        (lambda path: (path / "plan.json").write_bytes(b"\xff\xfe"), "cut short"),
    ],
)
def test_a_folder_that_is_no_run_is_a_user_error(tmp_path: Path, make: Any, said: str) -> None:
    make(tmp_path)
    with pytest.raises(UserError, match=said):
        load_run(tmp_path)


def test_a_path_that_is_no_folder_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="l2t-bench run"):
        load_run(tmp_path / "nowhere")


def _truncate(file: Path) -> None:
    file.write_text(file.read_text()[:100])


DAMAGES = {
    "cut short": _truncate,
    "not an object": lambda file: file.write_text("3"),
    "nested too deeply": lambda file: file.write_text("[" * 100_000),
    "another schema": lambda file: edit(file, lambda cell: cell.update(schema=1)),
    "an edited identity": lambda file: edit(file, lambda cell: cell["identity"].update(seed=7)),
    "a path in its identity": lambda file: edit(file, lambda cell: cell["identity"].update(problem="/home/me/x")),
    "a status that there is not": lambda file: edit(file, lambda cell: cell.update(status="fine")),
    "empty": lambda file: file.write_text(""),
    "another cell": lambda file: edit(file, lambda cell: cell.update(cell_id="other")),
    "no status": lambda file: edit(file, lambda cell: cell.pop("status")),
    "no measurements": lambda file: edit(file, lambda cell: cell.update(measurements={})),
    "no runs": lambda file: edit(file, lambda cell: cell["measurements"].update(runs=[])),
    "text for a time": lambda file: edit(file, lambda cell: cell["measurements"]["runs"][0].update(seconds=["1"])),
    "a negative time": lambda file: edit(file, lambda cell: cell["measurements"]["runs"][0].update(seconds=[-1.0])),
    "true for a number": lambda file: edit(file, lambda cell: cell["measurements"]["runs"][0].update(value=True)),
    "infinity": lambda file: file.write_text(file.read_text().replace("0.11", "Infinity")),
    "a number out of range": lambda file: file.write_text(file.read_text().replace("0.11", "1e999")),
    "a huge integer": lambda file: file.write_text(file.read_text().replace("0.11", "1" * 400)),
    "one horizon twice": lambda file: edit(
        file, lambda cell: cell["measurements"].update(runs=cell["measurements"]["runs"] * 2)
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cell_is_a_warning_and_never_a_result(writer: Any, damage: str) -> None:
    file = one_cell(writer)
    DAMAGES[damage](file)
    run = load_run(writer.path)
    assert len(run.warnings) == 1 and file.parent.name in run.warnings[0]
    assert list(run.cells["status"]) == ["damaged"]
    assert load.gradients(run).empty
    assert list(load.failures(run)["status"]) == ["damaged"]


@pytest.mark.parametrize("name", ["../../../secret.safetensors", "/etc/passwd", "..", "a\\b", "c:x", ""])
def test_a_gradient_file_that_leads_elsewhere_is_damage(writer: Any, name: str) -> None:
    one_cell(writer, gradient_file=name)
    run = load_run(writer.path)
    assert "gradient_file" not in "".join(run.d_theta) and not run.d_theta
    assert list(run.cells["status"]) == ["damaged"]


@pytest.mark.parametrize("name", ["..", "a/b", "/tmp"])
def test_a_plan_that_names_cells_elsewhere_is_refused(writer: Any, name: str) -> None:
    one_cell(writer)
    edit(writer.path / "plan.json", lambda plan: plan["cells"][0].update(cell_id=name))
    with pytest.raises(UserError, match="cells"):
        load_run(writer.path)


def test_a_link_out_of_the_folder_is_not_followed(writer: Any, tmp_path: Path) -> None:
    file = one_cell(writer)
    outside = tmp_path / "outside.json"
    file.rename(outside)
    file.symlink_to(outside)
    run = load_run(writer.path)
    assert list(run.cells["status"]) == ["damaged"]


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64])
def test_a_damaged_gradient_costs_the_comparison_and_not_the_times(writer: Any, content: bytes) -> None:
    file = one_cell(writer)
    (file.parent / "artifacts" / "gradient-20.safetensors").write_bytes(content)
    run = load_run(writer.path)
    assert len(run.warnings) == 1 and "gradient-20.safetensors" in run.warnings[0]
    assert not run.d_theta and len(load.gradients(run)) == 1


def test_a_cell_that_the_plan_names_twice_counts_once(writer: Any) -> None:
    one_cell(writer)
    edit(writer.path / "plan.json", lambda plan: plan.update(cells=plan["cells"] * 2))
    assert len(load_run(writer.path).cells) == 1


def test_results_of_another_plan_are_left_out_and_counted(run_folder: Path) -> None:
    edit(run_folder / "plan.json", lambda plan: plan.update(cells=plan["cells"][:60]))
    run = load_run(run_folder)
    assert len(run.cells) == 60
    assert run.warnings == ("9 of the folder's cells are not in the plan of plan.json and are left out",)


def test_cells_that_an_unfinished_run_has_yet_to_do_are_missing_but_no_failures(writer: Any) -> None:
    writer.plan("gradient", "digits/mlp", "rmd", 0)
    run = load_run(writer.finish())
    assert list(run.cells["status"]) == ["missing"] and load.failures(run).empty


def test_reports_import_no_torch() -> None:
    code = (
        "import sys, l2t_bench.reports.page, l2t_bench.reports.verdict\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_hyper_gradients_have_columns_of_their_own(writer: Any) -> None:
    one_cell(writer, hyper_gradients={"d_momentum": 0.5, "d_lr_norm": None})
    (row,) = load.gradients(load_run(writer.path)).to_dict("records")
    assert row["hyper_d_momentum"] == 0.5 and row["hyper_d_lr_norm"] is None


def test_the_adjoints_norms_are_laid_out_step_by_step(writer: Any) -> None:
    one_cell(writer)
    norms = load.adjoints(load_run(writer.path))
    assert norms[["horizon", "t", "norm"]].to_numpy().tolist() == [[20, 0, 2.0], [20, 10, 2**0.5], [20, 20, 1.0]]


@pytest.mark.parametrize(
    "damage",
    [
        {"adjoint": {"steps": [0, 1], "norms": [1.0]}},
        {"adjoint": {"steps": [0], "norms": ["<b>"]}},
        {"adjoint": [1.0]},
        {"warnings": "the adjoint explodes"},
        {"warnings": [3]},
        {"hyper_gradients": {"d_momentum": "<b>"}},
    ],
    ids=["lengths", "no number", "a list", "text", "no text", "hyper-gradient"],
)
def test_an_adjoint_a_warning_or_a_hyper_gradient_of_another_form_is_damage(
    writer: Any, damage: dict[str, Any]
) -> None:
    one_cell(writer, **damage)
    run = load_run(writer.path)
    assert run.damaged == 1 and load.gradients(run).empty


def test_whether_the_teachers_steps_had_a_direction_is_told(run_folder: Path) -> None:
    taught = load_teaching.teachings(load_run(run_folder)).set_index("method")
    assert taught.loc["rmd", "signal_to_noise"] == pytest.approx(1.2 / 0.4)
    assert taught.loc["rmd", "straightness"] == pytest.approx(0.1 / (20 * 0.01))
    assert math.isnan(taught.loc["cross-entropy", "straightness"])
