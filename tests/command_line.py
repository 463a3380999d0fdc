"""The command line as a person's shell runs it, and the same in this process, for tests of what it answers.

A process of its own takes seconds to import torch and pandas; what a command says and how it ends is the same here.
"""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

from l2t_bench.cli.main import main

Done = subprocess.CompletedProcess[str]


def in_a_process(
    *arguments: str | Path, cwd: Path | None = None, on_path: Path | None = None, **environment: str
) -> Done:
    """``on_path``: a folder of modules that the command and its processes find."""
    command = [sys.executable, "-P", "-m", "l2t_bench.cli.main", *map(str, arguments)]
    paths = [str(on_path)] if on_path else []
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [*paths, os.environ.get("PYTHONPATH")]))}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**env, **environment}, check=False)


def here(*arguments: str | Path, cwd: Path | None = None) -> Done:
    """The exit code, and what is written to standard output and standard error."""
    command = ["l2t-bench", *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    place = contextlib.nullcontext() if cwd is None else contextlib.chdir(cwd)
    with place, patch.object(sys, "argv", command), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(command, code, out.getvalue(), err.getvalue())
