"""Questions to a process of its own: answers come one by one, and an end of the process is one question's."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from l2t_bench.engine import forecast
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.inquiry import ask, ask_each
from l2t_bench.errors import UserError


def test_a_function_is_asked_in_another_process() -> None:
    assert ask("json:dumps", {"a": 1}) == json.dumps({"a": 1})


def test_a_question_that_ends_the_process_has_no_answer_and_those_after_it_have() -> None:
    first, second, third = ask_each("time:sleep", [0, -1, 0])  # type: ignore[list-item]
    assert first is None and third is None
    assert isinstance(second, UserError) and "ended without an answer, exit code 1" in str(second)
    assert "non-negative" in str(second)


def test_a_process_that_is_killed_is_said_to_have_had_no_memory() -> None:
    (end,) = ask_each("signal:raise_signal", [9])  # type: ignore[list-item]
    assert "killed: by the system, where memory has run out" in str(end)


def test_every_question_may_end_it() -> None:
    ends = list(ask_each("os:_exit", [3, 4]))  # type: ignore[list-item]
    assert ["exit code 3" in str(ends[0]), "exit code 4" in str(ends[1])] == [True, True]
    with pytest.raises(UserError, match="exit code 5"):
        ask("os:_exit", 5)  # type: ignore[arg-type]


def test_a_module_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(UserError, match="the libraries do not import"):
        ask("nowhere:nothing", {})


def test_a_process_may_end_with_words_in_any_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "latin.py").write_text("import os\ndef end(_):\n    os.write(2, b'caf\\xe9')\n    os._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    first, second = ask_each("latin:end", [0, 0])  # type: ignore[list-item]
    assert [str(end).endswith("exit code 3: caf\N{REPLACEMENT CHARACTER}") for end in (first, second)] == [True, True]


def test_a_question_that_cannot_be_written_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("subprocess.Popen")
    with pytest.raises(TypeError, match="not JSON serializable"):
        ask("json:dumps", {"a": {1}})


def test_answers_come_before_all_have_been_asked() -> None:
    answers = ask_each("time:sleep", [0, 600])  # type: ignore[list-item]
    assert next(answers) is None
    answers.close()  # ends the process


def test_a_cell_that_cannot_be_looked_at_is_told_of_and_the_others_are_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [Cell("stub", 1, "p", "stub", name, "stub", 0, "a:b") for name in ("dear", "cheap")]

    def asked(function: str, questions: list[Mapping[str, Any]]) -> Any:
        assert [question["cell"]["problem"] for question in questions] == ["cheap", "dear"]
        return iter(({"seconds": 2.0, "peak_bytes": 3, "source": "prediction"}, UserError("ended, exit code -9")))

    seen = []
    monkeypatch.setattr(forecast, "ask_each", asked)
    lines = forecast.forecast(cells, tmp_path, cells, on_asked=lambda done, total, cell: seen.append((done, total)))
    assert [(line.problem, line.seconds, line.source) for line in lines] == [
        ("cheap", 2.0, "prediction"),
        ("dear", None, "ended, exit code -9"),
    ]
    assert seen == [(0, 2), (1, 2)]


def test_the_cells_of_a_problem_are_looked_at_in_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [("b", "rmd"), ("a", "rmd"), ("b", "higher"), ("a", "higher")]
    cells = [Cell("stub", 1, "p", "stub", problem, method, 0, "a:b") for problem, method in pairs]
    seen: list[tuple[str, str]] = []
    known = {"seconds": 2.0, "peak_bytes": 3, "source": "prediction"}
    monkeypatch.setattr(forecast, "ask_each", lambda function, questions: iter([known] * len(questions)))
    forecast.forecast(
        cells, tmp_path, cells, on_asked=lambda done, total, cell: seen.append((cell.problem, cell.method))
    )
    assert seen == [("a", "rmd"), ("a", "higher"), ("b", "rmd"), ("b", "higher")]
