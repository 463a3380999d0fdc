"""MkDocs hook: formulas become MathML when a page is built, which browsers draw by themselves."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

# What `pymdownx.arithmatex` leaves with `generic: true`.
_FORMULA = re.compile(r'<(?:span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</(?:span|div)>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """The page's HTML with every TeX formula as MathML."""
    return _FORMULA.sub(lambda found: _mathml(found[2], block=found[1] == "["), content)


def _mathml(formula: str, *, block: bool) -> str:
    drawn = convert(html.unescape(formula).strip(), display="block" if block else "inline")
    return f'<div class="formula">{drawn}</div>' if block else drawn  # it scrolls by itself where a screen is narrow
