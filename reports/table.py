"""A table of strings that is ready to print, and as Markdown."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table of strings. The first ``text_columns`` columns hold words, the others figures.

    ``row_header`` is the column that names a row. ``files``: what stands after it to be copied, by what it is called.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    text_columns: int = 1
    row_header: int = 0
    files: tuple[tuple[str, str], ...] = ()


def markdown(tables: Sequence[Table]) -> str:
    """Tables as GitHub's Markdown."""
    return "\n".join(_markdown_table(table) for table in tables)


def _markdown_table(table: Table) -> str:
    words, figures = table.text_columns, len(table.columns) - table.text_columns
    lines = [
        f"**{literal(table.title)}**",
        "",
        _markdown_row(table.columns),
        _markdown_row(["---"] * words + ["---:"] * figures, escape=False),
        *(_markdown_row(row) for row in table.rows),
        *(["", literal(table.note)] if table.note else []),
        *(line for title, content in table.files for line in _markdown_file(title, content)),
        "",
    ]
    return "\n".join(lines)


def _markdown_file(title: str, content: str) -> list[str]:
    """In a fence that is longer than any inside."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", content)), default=0))
    return ["", f"{literal(title)}:", "", fence, *content.strip().splitlines(), fence]


def _markdown_row(cells: Iterable[str], *, escape: bool = True) -> str:
    return "| " + " | ".join(literal(cell) if escape else cell for cell in cells) + " |"


def literal(text: str) -> str:
    """Text as Markdown that shows it as it is, in one line."""
    for character in "\\`*|<>":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
