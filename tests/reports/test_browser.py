"""The page in a real browser: it draws without a complaint, asks nobody, sorts by keyboard, and fits any width."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import NAME, Browser, browser, path_of_browser
from golden_runs import GOLDEN, look_at_phi
from invented_runs import RunWriter

from l2t_bench.reports.page import write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(path_of_browser() is None, reason=f"needs {NAME}, which is not installed"),
]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def fresh(tab: Browser) -> Browser:
    tab.problems.clear()
    tab.asked_for.clear()
    return tab


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a finished run that has kept Phi_t too."""
    folder = tmp_path_factory.mktemp("runs") / "quick"
    folder.mkdir()
    writer = RunWriter(folder)
    look_at_phi(writer, ["cat", "dog", "car"])
    return write_report(GOLDEN["finished"](writer))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_page_draws_without_a_complaint_and_asks_nobody(name: str, writer: RunWriter, fresh: Browser) -> None:
    page = write_report(GOLDEN[name](writer))
    for width in (1280, 375):
        fresh.open(page, width=width)
        plots = "document.querySelectorAll('.plot').length"
        assert fresh.value(plots) == fresh.value("document.querySelectorAll('.plot .main-svg:first-child').length")
        assert fresh.value("document.documentElement.scrollWidth") <= width, "no scrolling to the side"
    assert fresh.problems == []
    assert set(fresh.asked_for) == {page.resolve().as_uri()} | {
        url for url in fresh.asked_for if url[:5] in ("data:", "blob:")
    }
    assert fresh.value("document.title").endswith("teacher gradients compared"), "no alert has taken its place"


def test_on_paper_no_plot_and_no_table_is_wider_than_the_text(finished: Path, fresh: Browser) -> None:
    """Plots are drawn before the page is laid out on paper, and keep that width."""
    fresh.open(finished, width=1280)
    fresh.value("dispatchEvent(new Event('beforeprint'))")
    fresh.call("Emulation.setEmulatedMedia", media="print")
    try:
        paper = 18 / 2.54 * 96
        wide = "[...document.querySelectorAll('.plot svg, table')].map(each => each.getBoundingClientRect().width)"
        assert 400 < max(fresh.value(wide)) <= paper + 1
        tops = [fresh.value(f"document.querySelector('{one}').getBoundingClientRect().top") for one in ("h2", ".card")]
        assert 0 < tops[1] - tops[0] < 300
    finally:
        fresh.call("Emulation.setEmulatedMedia", media="")
        fresh.value("dispatchEvent(new Event('afterprint'))")
    assert fresh.value("document.querySelector('.plot svg').getBoundingClientRect().width") > 400


def column(tab: Browser, place: int) -> list[str]:
    rows = "[...document.querySelectorAll('#gradients table')[1].tBodies[0].rows]"
    found: list[str] = tab.value(f"{rows}.map(row => row.cells[{place}].textContent)")
    return found


def test_a_table_is_sorted_by_keyboard_and_says_so(finished: Path, fresh: Browser) -> None:
    fresh.open(finished)
    head = "document.querySelectorAll('#gradients table')[1].tHead.rows[0].cells"
    names = fresh.value(f"[...{head}].map(cell => cell.textContent)")
    seconds = names.index("seconds")
    before = column(fresh, seconds)
    fresh.value(f"{head}[{seconds - 1}].querySelector('button').focus()")
    fresh.press("Tab")
    assert fresh.value("document.activeElement.textContent") == "seconds"
    states, orders = [], []
    for key in ("Enter", " ", "Enter"):
        fresh.press(key)
        states.append(fresh.value(f"{head}[{seconds}].getAttribute('aria-sort')"))
        orders.append(column(fresh, seconds))
    assert states == ["ascending", "descending", "none"]
    values = [float(text) for text in orders[0] if text != "–"]
    assert values == sorted(values) and len(values) == 12 and orders[0][-1] == "–", "what has no number is last"
    assert [float(text) for text in orders[1] if text != "–"] == sorted(values, reverse=True) and orders[1][-1] == "–"
    assert orders[2] == before


def test_tables_are_whole_without_javascript_and_plots_stand_still(finished: Path, fresh: Browser) -> None:
    fresh.open(finished, script=False)
    assert fresh.count("thead button") == 0 and fresh.count("table.sortable tbody tr") > 50
    heights = fresh.heights("noscript svg.static")
    assert len(heights) == fresh.count("figure") > 10 and min(heights) > 100
    assert fresh.heights("#gradients table")[0] > 300


def test_the_slider_goes_through_phi_by_keyboard(finished: Path, fresh: Browser) -> None:
    fresh.open(finished)
    fresh.value("document.querySelector('.slider input').focus()")
    corner = "document.querySelector('#whole-matrix .plot').calcdata[0][0].z[0][0]"
    at_end = fresh.value(corner)
    assert fresh.value("document.querySelector('.slider span').textContent") == "step 299"
    fresh.press("ArrowLeft")
    assert fresh.value("document.querySelector('.slider span').textContent") == "step 150"
    assert fresh.value("document.querySelector('.slider input').getAttribute('aria-valuetext')") == "step 150"
    assert fresh.value(corner) != at_end and fresh.problems == []


def test_a_figure_is_saved_as_a_light_svg_whatever_the_theme(finished: Path, fresh: Browser, tmp_path: Path) -> None:
    fresh.open(finished, dark=True)
    fresh.call("Browser.setDownloadBehavior", behavior="deny")
    clicked = "HTMLAnchorElement.prototype.click = function () { done([this.download, this.href]); };"
    made = f"new Promise(done => {{ {clicked} document.querySelector('button.save').click(); }})"
    name, link = fresh.value(made)
    assert name == "quick-time-memory-1.svg" and link.startswith("data:image/svg+xml,")
    assert "%231c2126" in link or "rgb(92%2C%20102%2C%20112)" in link or "92, 102, 112" in link
    assert fresh.problems == []


def test_a_backend_is_there_to_copy(finished: Path, fresh: Browser) -> None:
    from l2t_bench.choice import from_toml

    fresh.open(finished)
    choice = from_toml(fresh.value("document.querySelector('.choice pre').textContent"))
    assert choice.name == "truncated" or choice.name in ("rmd", "functorch")


def test_a_printed_page_is_light_and_has_its_plots(finished: Path, fresh: Browser) -> None:
    fresh.open(finished, dark=True)
    assert fresh.pdf().startswith(b"%PDF") and fresh.problems == []
