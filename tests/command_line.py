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

import torch

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
    with contextlib.ExitStack() as around:
        if cwd is not None:
            around.enter_context(contextlib.chdir(cwd))
        around.enter_context(patch.object(sys, "argv", command))
        around.enter_context(patch("l2t_bench.resident.keep_free_memory"))  # it would hold for all later tests
        around.callback(torch.set_num_threads, torch.get_num_threads())
        around.enter_context(contextlib.redirect_stdout(out))
        around.enter_context(contextlib.redirect_stderr(err))
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(command, code, out.getvalue(), err.getvalue())
