"""A page as a browser without JavaScript sees it, and the numbers in its cells."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "wbr", "input"}


class Page(HTMLParser):
    """Elements with attributes, tables, scripts, text; a ``<noscript>`` is read as such a browser reads it."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.tables: list[list[list[str]]] = []
        self.sortable: list[list[list[str]]] = []  # of the tables, those whose rows can be put in another order
        self.text = self.style = ""
        self.still_open: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.still_open.append(tag)
        if tag == "table":
            self.tables.append([])
            if "sortable" in (dict(attrs).get("class") or ""):
                self.sortable.append(self.tables[-1])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.still_open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.still_open[-1] if self.still_open else ""
        if inside == "script":
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)
        elif inside in ("td", "th"):
            self.tables[-1][-1][-1] += data
        elif inside == "style":
            self.style += data
        else:
            self.text += data

    def rows(self, *columns: str) -> Iterator[dict[str, str]]:
        """The rows of every table that has these columns."""
        for head, *body in self.tables:
            if set(columns) <= set(head):
                names = [
                    f"worst {before}" if name == "worst" else name
                    for before, name in zip(["", *head[:-1]], head, strict=True)
                ]
                for row in body:
                    yield dict(zip(names, row, strict=True))


def numbers(cell: str) -> list[str]:
    """The numbers in a cell: ``0.41 [0.40, 0.43]`` has three."""
    return re.findall(r"[+-]?\d+(?:\.\d+)?(?:e[+-]\d+)?", cell.replace("−", "-"))


def written_like(text: str, value: float) -> str:
    """``value`` rounded to as many decimals as ``text`` has."""
    mantissa, exponent, _ = text.partition("e")
    decimals = len(mantissa.partition(".")[2])
    return f"{value:{'+' * text.startswith('+')}.{decimals}{'e' if exponent else 'f'}}"
