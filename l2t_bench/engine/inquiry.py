"""Questions that need torch, or a user's code, asked in a process of their own: a run's parent imports neither.

``python -P -m l2t_bench.engine.inquiry MODULE:FUNCTION FILE`` reads a JSON object and writes what the function answers
to the open file of that number: standard output belongs to the code that is imported, which may print what it likes.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from l2t_bench.errors import L2TError, UserError


def ask(function: str, question: Mapping[str, Any]) -> Any:
    """What ``function``, a "module:function", answers. Raises ``UserError`` for its, and for any other end."""
    with tempfile.TemporaryFile() as file:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "l2t_bench.engine.inquiry", function, str(file.fileno())],
            pass_fds=(file.fileno(),),
            input=json.dumps(question),
            capture_output=True,
            text=True,
            check=False,
        )
        file.seek(0)
        said = file.read()
    try:
        answer = json.loads(said)
    except ValueError:  # it did not come to an answer
        words = done.stderr.strip().splitlines()
        told = f": {words[-1]}" if words else ""
        raise UserError(
            f"the process that was asked ended without an answer, exit code {done.returncode}{told}"
        ) from None
    if "mistake" in answer:
        raise UserError(answer["mistake"])
    return answer["answer"]


def answered(function: str, question: Mapping[str, Any]) -> dict[str, Any]:
    """``{"answer": ...}``, or ``{"mistake": "..."}`` with what is wrong with the question or with this installation."""
    module, _, name = function.partition(":")
    try:
        return {"answer": getattr(import_module(module), name)(question)}
    except L2TError as error:
        return {"mistake": str(error)}
    except ImportError as error:
        return {"mistake": f"the libraries do not import: {error}"}


def main(function: str, file: int) -> None:
    """Answer the question on standard input in an open file."""
    os.set_inheritable(file, False)
    content = json.dumps(answered(function, json.load(sys.stdin)))
    with os.fdopen(file, "w", encoding="utf-8") as answer:
        answer.write(content)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
