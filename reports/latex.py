"""Tables as LaTeX: a document that compiles as it is, with booktabs; each table can be cut out of it."""

import unicodedata
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from l2t_bench.reports.table import Table

_PREAMBLE = r"""% Tables of l2t_bench. Each needs, in your own preamble: \usepackage{booktabs,graphicx}
\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs,graphicx}
\begin{document}
"""
_WIDEST = 45  # characters that a column of words may have before its lines are broken
_SPECIAL: Mapping[str, str] = MappingProxyType(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        **{mark: f"\\{mark}" for mark in "#$%&_"},
        "×": r"$\times$",
        "−": "$-$",
        "–": "--",
        "—": "---",
        "…": r"\ldots{}",
        "✓": r"$\surd$",
        "✕": r"$\times$",
        "⊘": r"$\oslash$",
        "±": r"$\pm$",
        "∞": r"$\infty$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
        "→": r"$\to$",
        "\u00a0": "~",
        "“": "``",
        "”": "''",
        "’": "'",
        "Δ": r"$\Delta$",
        "Φ": r"$\Phi$",
        "θ": r"$\theta$",
        "ω": r"$\omega$",
    }
)


def latex(tables: Sequence[Table]) -> str:
    """The document. A table that is wider than the text is made smaller as a whole."""
    return "\n".join([_PREAMBLE, *map(_table, tables), r"\end{document}", ""])


def _table(table: Table) -> str:
    form = "".join(_column(table, index) for index in range(len(table.columns)))
    note = [rf"\par\smallskip\footnotesize {escaped(table.note)}"] if table.note else []
    return "\n".join(
        [
            r"\begin{table}[p]",
            r"\centering",
            rf"\caption{{{escaped(table.title)}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{form}}}",
            r"\toprule",
            _row(table.columns),
            r"\midrule",
            *map(_row, table.rows),
            r"\bottomrule",
            r"\end{tabular}}",
            *note,
            r"\end{table}",
            r"\clearpage",
            *(line for title, content in table.files for line in _file(title, content)),
            "",
        ]
    )


def _file(title: str, content: str) -> list[str]:
    """To be read: what is copied from a printed page has lost its quotes."""
    lines = [f"{{}}{escaped(line)}\\\\" for line in content.strip().splitlines() if line.strip()]
    return [r"\begin{flushleft}", f"{escaped(title)}:\\\\[1ex]", r"\footnotesize\ttfamily", *lines, r"\end{flushleft}"]


def _column(table: Table, index: int) -> str:
    """Words to the left, those that are long in lines; figures to the right."""
    if index >= table.text_columns:
        return "r"
    longest = max((len(row[index]) for row in table.rows), default=0)
    return "p{8cm}" if longest > _WIDEST else "l"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(_cell, cells)) + r" \\"


def _cell(text: str) -> str:
    """A bracket that begins a cell would be taken for an option of the row before."""
    written = escaped(text)
    return f"{{}}{written}" if written.startswith(("[", "*")) else written


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is; a character that its fonts lack is named by its number."""
    return "".join(map(_character, " ".join(text.split(" ")).replace("\n", " ")))


def _character(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii():
        return character if character.isprintable() else " "
    if "\u00c0" <= character <= "\u017e" and unicodedata.category(character).startswith("L"):
        return character
    return f"[U+{ord(character):04X}]"
