"""What the README shows is what happens."""

import contextlib
import io
import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_readmes_example_runs_as_it_stands() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, "README.md", "exec"), {})
    assert "weight" in printed.getvalue() and "exact" in printed.getvalue()


def test_every_backend_is_in_the_readmes_table() -> None:
    import l2t_bench as l2t

    for name in l2t.list_backends():
        assert re.search(rf"^\| `{name}[`\[]", README, re.MULTILINE), name


def test_every_verb_that_the_readme_names_is_a_verb() -> None:
    from l2t_bench.cli.main import app

    verbs = {command.name for command in app.registered_commands}
    named = set(re.findall(r"^l2t-bench (\w+)", README, re.MULTILINE))
    assert named and named <= verbs
