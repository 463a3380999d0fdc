"""The documentation as it is built: without a warning, from the disk, asking nobody, its formulas drawn."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from chromium import NAME, browser, path_of_browser

pytest.importorskip("mkdocs", reason="the documentation needs pip install 'l2t_bench[docs]'")
pytest.importorskip("latex2mathml")


def test_a_formula_becomes_mathml_and_is_aligned(repository: Path) -> None:
    spec = importlib.util.spec_from_file_location("mathml", repository / "docs" / "mathml.py")
    assert spec is not None and spec.loader is not None
    mathml = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mathml)
    inline = mathml.on_page_content('a <span class="arithmatex">\\(b &lt; 1\\)</span> c')
    assert inline.startswith("a <math") and inline.endswith("</math> c") and "<mo>&#x0003C;</mo>" in inline
    block = mathml.on_page_content('<div class="arithmatex">\\[\\begin{align*} a &amp;= b \\end{align*}\\]</div>')
    assert 'display="block"' in block and "<mtable" in block and "<mi>&</mi>" not in block


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("site")
    repository = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(built)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=repository, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return built


@pytest.mark.slow
def test_no_formula_is_left_as_tex(site: Path) -> None:
    pages = {page.name: page.read_text() for page in site.glob("*.html")}
    assert pages["methods.html"].count("<math") > 50
    for name, page in pages.items():
        assert "arithmatex" not in page, name
        assert "<mi>&</mi>" not in page, f"{name}: what the converter does not know it spells out"


@pytest.mark.slow
@pytest.mark.skipif(path_of_browser() is None, reason=f"needs {NAME}, which is not installed")
def test_pages_open_from_the_disk_can_be_searched_and_ask_nobody(site: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as tab:
        for name in ("index.html", "methods.html", "reference.html", "results/index.html"):
            for width in (1280, 375):
                tab.open(site / name, width=width)
                assert tab.value("document.documentElement.scrollWidth") <= width, f"{name}: no scrolling to the side"
        tab.open(site / "index.html")
        tab.value("document.querySelector('.md-search__input').focus()")
        tab.call("Input.insertText", text="momentum")
        found = "document.querySelectorAll('.md-search-result__item').length"
        assert tab.value(f"new Promise(done => (function wait() {{ {found} ? done(true) : setTimeout(wait, 50) }})())")
        assert tab.problems == []
        assert {url[:5] for url in tab.asked_for} <= {"file:", "data:", "blob:"}
