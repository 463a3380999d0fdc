"""What the pages of docs/ show is what happens: examples run, commands are ones, quoted messages are the code's.

docs/training.md has tests of its own in ``test_training_page``.
"""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import l2t_bench as l2t
from l2t_bench.choice import from_toml
from l2t_bench.cli.main import app
from l2t_bench.plugins import FILES, PLUGINS

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = {str(page.relative_to(DOCS)): page.read_text() for page in sorted(DOCS.rglob("*.md"))}
QUICK = ("list", "verify", "predict")  # what is run of a page that makes the files it names; all else is parsed
HOLE = "…"  # a name or a number in a quoted message


class Block(NamedTuple):
    """A fenced block: its language, the name of the file that it is, if any, and what is in it."""

    language: str
    title: str
    body: str


def blocks(page: str) -> list[Block]:
    found = re.findall(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', PAGES[page], re.MULTILINE | re.DOTALL)
    return [Block(*parts) for parts in found]


def commands(page: str) -> list[list[str]]:
    lines = [line for block in blocks(page) if not block.language for line in block.body.splitlines()]
    launched = [line.partition(" -m l2t_bench ")[2] for line in lines if line.startswith("torchrun ")]
    return [shlex.split(line)[1:] for line in lines if line.startswith("l2t-bench ")] + [
        shlex.split(line) for line in launched if line
    ]


WITH_EXAMPLES = [
    page for page in PAGES if page != "training.md" and any(block.language == "python" for block in blocks(page))
]
WITH_FILES = [
    page for page in WITH_EXAMPLES if any(block.title and block.language == "python" for block in blocks(page))
]
WITH_COMMANDS = [page for page in PAGES if commands(page)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in; the plug-ins that are named there are forgotten again."""
    monkeypatch.chdir(tmp_path)
    for variable in (FILES, PLUGINS):
        monkeypatch.setenv(variable, "")
    return tmp_path


def write_files(page: str, folder: Path) -> None:
    for block in blocks(page):
        if block.title:
            (folder / block.title).write_text(block.body)


def test_the_pages_have_examples_and_commands() -> None:
    """Else the tests below would be about nothing."""
    assert len(WITH_EXAMPLES) >= 8 and len(WITH_COMMANDS) >= 6 and len(WITH_FILES) == 2


@pytest.mark.parametrize("page", WITH_EXAMPLES)
def test_the_examples_of_a_page_run_one_after_the_other(page: str, folder: Path) -> None:
    write_files(page, folder)
    known: dict[str, object] = {"__name__": "example"}
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.body, page, "exec"), known)


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_every_command_is_one_with_such_options(page: str) -> None:
    verbs = get_command(app).commands  # type: ignore[attr-defined]
    for verb, *arguments in commands(page):
        verbs[verb].make_context(verb, arguments)  # raises what a user would be told


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_FILES)
def test_quick_commands_on_the_files_of_a_page_succeed(page: str, folder: Path) -> None:
    write_files(page, folder)
    quick = [command for command in commands(page) if command[0] in QUICK]
    assert len(quick) >= 2
    for command in quick:
        done = CliRunner().invoke(app, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output


def test_every_backend_toml_that_is_shown_can_be_read() -> None:
    shown = [block.body for page in PAGES for block in blocks(page) if block.language == "toml"]
    choices = [from_toml(text) for text in shown if "schema" in tomllib.loads(text)]
    assert choices
    for choice in choices:
        assert l2t.load_backend(choice.method).name == choice.name


def test_every_public_name_is_in_the_reference() -> None:
    entries = re.findall(r"^::: (?:l2t_bench|reports\.notebook)\.(\w+)$", PAGES["reference.md"], re.MULTILINE)
    assert len(entries) == len(set(entries))
    modules = set(re.findall(r"`l2t\.(\w+)`", PAGES["reference.md"]))
    assert {*entries, *modules} == set(l2t.__all__)


def messages_of(tree: ast.AST) -> Iterator[str]:
    """Every text that the code holds, a hole where something is put in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values)


def test_every_message_that_troubleshooting_quotes_is_one_of_the_code() -> None:
    rooms = ("l2t_bench", "backends", "reports", "suites")
    sources = [source for room in rooms for source in (REPOSITORY / room).rglob("*.py")]
    held = {text for source in sources for text in messages_of(ast.parse(source.read_text()))}
    rows = re.findall(r"^\| (.+?) \|", PAGES["troubleshooting.md"], re.MULTILINE)
    quoted = [quote for row in rows for quote in re.findall(r"`([^`]+)`", row) if " " in quote]
    assert len(quoted) > 40
    missing = [quote for quote in quoted if not any(matches(quote, text) for text in held)]
    assert not missing


def matches(quote: str, text: str) -> bool:
    """Whether ``quote`` is a part of ``text``; its holes may stand for more of it."""
    at = 0
    for piece in quote.split(HOLE):
        if (found := text.find(piece, at)) < 0:
            return False
        at = found + len(piece)
    return True
