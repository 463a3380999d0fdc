"""Tables as LaTeX: what they hold cannot become a command, and the document compiles where there is a LaTeX."""

import shutil
import subprocess
from pathlib import Path

import pytest

from l2t_bench.reports.derive import analyse
from l2t_bench.reports.latex import escaped, latex
from l2t_bench.reports.load import load_run
from l2t_bench.reports.table import Table
from l2t_bench.reports.text import document_tables

HOSTILE = r"\input{/etc/passwd} $x$ 50% a_b #1 {~^} <&> | \" "


def test_what_is_in_a_table_cannot_become_a_command() -> None:
    written = escaped(HOSTILE)
    for command in (r"\input{/", " $x$ ", " 50% ", " a_b ", " #1 "):
        assert command not in written
    assert written.startswith(r"\textbackslash{}input\{/etc/passwd\}")


def test_the_signs_of_our_tables_are_set_and_others_named() -> None:
    assert escaped("0.41 × time, −1.2 pp – ∞") == r"0.41 $\times$ time, $-$1.2 pp -- $\infty$"
    assert escaped("Grüße, 中") == "Grüße, [U+4E2D]"
    assert escaped("two\nlines\x07") == "two lines "


def test_a_row_is_a_row_and_long_words_are_broken() -> None:
    table = Table("t", ("what", "n"), (("x" * 50, "[1, 2]"),), note="of 5 %", text_columns=1)
    text = latex([table])
    assert r"\begin{tabular}{p{8cm}r}" in text and "what & n " + r"\\" in text
    assert "& {}[1, 2] " + r"\\" in text, "else the row before takes it for an option"
    assert r"\footnotesize of 5 \%" in text and text.startswith("% Tables") and text.endswith("\\end{document}\n")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex on this machine")
def test_the_tables_of_a_run_compile(kept_run: Path, tmp_path: Path) -> None:
    hostile = Table(HOSTILE, (HOSTILE, "中"), ((HOSTILE, "*"),), note=HOSTILE, files=((HOSTILE, f"[a]\n*\n{HOSTILE}"),))
    tables = [*document_tables(analyse(load_run(kept_run))), hostile]
    assert tables[1].files, "a backend.toml"
    (tmp_path / "tables.tex").write_text(latex(tables), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 10_000
