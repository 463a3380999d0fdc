"""What every page is made with: its template, the two scripts that may run, and data that cannot end an element."""

import base64
import gzip
import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from l2t_bench.durable import write_text
from l2t_bench.errors import UserError
from l2t_bench.reports import marks
from l2t_bench.reports.panels import Panel
from l2t_bench.reports.static import static_svg

_TEMPLATES = Path(__file__).parent / "templates"
_AS_IT_IS = ",:;/[]()=+*@!$"  # in a link: a table is mostly numbers and commas, and grows little


def render_template(template: str, **context: Any) -> str:
    """A page's HTML from one of our templates, which has style, scripts and policy beside ``context``."""
    plotly, own = _script(get_plotlyjs()), _script((_TEMPLATES / "report.js").read_text(encoding="utf-8"))
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        markers=marks.MARKER_PATHS,
        figure_data=_figure_data,
        static_svg=static_svg,
        data_link=data_link,
        style=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        plotly=_packed(plotly),
        script=own,
        policy=_policy(plotly, own),
        **context,
    )


def write(path: Path, content: str) -> None:
    """Write a page or a table whole. Raises ``UserError`` where it cannot be written: what was there stays."""
    try:
        write_text(path, content.encode("utf-8", errors="replace").decode())
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def as_csv(frame: pd.DataFrame) -> str:
    """A table as CSV, the same on every system."""
    return str(frame.to_csv(index=False, lineterminator="\n"))


def data_link(media_type: str, text: str) -> str:
    """A text as a link that holds it."""
    return f"data:{media_type};charset=utf-8,{quote(text, safe=_AS_IT_IS, errors='replace')}"


def download(frame: pd.DataFrame) -> str:
    """A table as a link that holds it as CSV."""
    return data_link("text/csv", as_csv(frame))


def _figure_data(panel: Panel) -> Markup:
    """A plot as JSON that cannot end the element it stands in."""
    data = panel.figure.to_json()
    for character in "<>&\u2028\u2029":
        data = data.replace(character, f"\\u{ord(character):04x}")
    return Markup(data)


def _script(source: str) -> Markup:
    """A script's text as a browser will hash it."""
    return Markup(source.replace("\r\n", "\n").replace("\r", "\n"))


def _packed(source: str) -> str:
    """A script as text that a browser unpacks: gzip in base64, less than half as long."""
    return base64.b64encode(gzip.compress(source.encode(), mtime=0)).decode()


def _policy(*scripts: str) -> str:
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"
