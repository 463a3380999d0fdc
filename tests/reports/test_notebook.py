"""Runs as DataFrames and figures, for a notebook."""

import shutil
from pathlib import Path

import plotly.graph_objects as go
import pytest

import l2t_bench as l2t
from l2t_bench.reports.derive import analyse
from l2t_bench.reports.load import load_run


def test_all_runs_of_a_pattern_are_one_frame_each_with_their_names(kept_run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(kept_run, tmp_path / name)
    (tmp_path / "notes.txt").write_text("no run")
    frames = l2t.load_runs(str(tmp_path / "*"))
    alone = analyse(load_run(kept_run))
    assert frames.gradients["run"].unique().tolist() == ["a", "b"]
    assert len(frames.gradients) == 2 * len(alone.gradients) and len(frames.students) == 2 * len(alone.students)
    ours = frames.summary[frames.summary["run"] == "b"].drop(columns="run").reset_index(drop=True)
    assert ours["time_ratio"].tolist() == alone.summary["time_ratio"].tolist()


def test_a_folder_or_several_can_be_named(kept_run: Path) -> None:
    assert len(l2t.load_runs(kept_run).failures) == 4
    assert len(l2t.load_runs([kept_run, kept_run]).failures) == 4, "a run that is named twice is one"


def test_a_folder_with_brackets_in_its_name_is_found_by_it(kept_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(kept_run, tmp_path / "truncated[window=10]")
    assert l2t.load_runs(str(folder)).failures["run"].unique().tolist() == [folder.name]


def test_a_pattern_of_one_character_finds_folders_alone(kept_run: Path, tmp_path: Path) -> None:
    shutil.copytree(kept_run, tmp_path / "run1")
    (tmp_path / "run2").write_text("no run")
    assert l2t.load_runs(str(tmp_path / "run?")).failures["run"].unique().tolist() == ["run1"]


@pytest.mark.parametrize("pattern", ["nowhere/*", "nowhere", []])
def test_what_finds_nothing_is_an_error(pattern: str | list[str]) -> None:
    with pytest.raises(l2t.UserError, match="there is no such folder"):
        l2t.load_runs(pattern)


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(l2t.UserError, match="holds no run"):
        l2t.load_runs(tmp_path)


def test_the_figures_of_the_page_are_plotlys_with_colours_of_their_own(kept_run: Path) -> None:
    figures = l2t.load_figures(kept_run)
    assert any(title.startswith("What the losses teach") for title in figures)
    for figure in figures.values():
        assert isinstance(figure, go.Figure) and figure.data
        assert figure.layout.paper_bgcolor == "#ffffff"


def test_the_figures_of_a_run_can_be_drawn_one_by_one(kept_run: Path) -> None:
    results = l2t.reports.analyse(l2t.reports.load_run(kept_run))
    panels = l2t.reports.figures.time_growth(results).panels
    assert [panel.title for panel in panels] == ["digits/lenet", "digits/mlp"]
    assert all(isinstance(panel.figure, go.Figure) for panel in panels)
    with pytest.raises(AttributeError, match="no attribute 'figure'"):
        l2t.reports.figure  # noqa: B018
