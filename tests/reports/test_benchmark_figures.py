"""The plot of benchmarks holds the data."""

import json
from pathlib import Path

import pytest

from l2t_bench.reports.benchmark_derive import analyse_benchmarks
from l2t_bench.reports.benchmark_figures import draw_benchmarks
from l2t_bench.reports.benchmark_load import load_benchmarks

BY_HAND = Path(__file__).parent / "benchmarks" / "by_hand.json"


def test_a_line_per_method_gives_milliseconds_per_student_step_against_t(tmp_path: Path) -> None:
    content = json.loads(BY_HAND.read_text())
    longer = json.loads(json.dumps(content["benchmarks"][3:7]))
    for entry in longer:
        entry["extra_info"] |= {"horizon": 200, "turns": "longer"}
    (tmp_path / "record.json").write_text(json.dumps(content | {"benchmarks": content["benchmarks"] + longer}))
    (group,) = draw_benchmarks(analyse_benchmarks(load_benchmarks(tmp_path / "record.json")))
    (panel,) = group.panels
    assert [entry.label for entry in group.legend] == ["rmd", "rmd[engine=compiled]", "higher", "torchopt"]
    assert list(panel.figure.data[0]["x"]) == [100, 200]
    assert list(panel.figure.data[0]["y"]) == pytest.approx([30.0, 15.0])
    assert list(panel.figure.data[0]["error_y"]["array"]) == pytest.approx([5.0, 2.5])
    assert "rmd 15 ms at T = 200" in panel.alt


def test_one_t_alone_has_no_plot() -> None:
    assert draw_benchmarks(analyse_benchmarks(load_benchmarks(BY_HAND))) == []
