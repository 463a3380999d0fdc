"""Questions that need torch, or a user's code, asked in a process of their own: a run's parent imports neither.

``python -P -m l2t_bench.engine.inquiry MODULE:FUNCTION`` reads a JSON object and writes what the function answers.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from l2t_bench.errors import L2TError, UserError


def ask(function: str, question: Mapping[str, Any]) -> Any:
    """What ``function``, a "module:function", answers. Raises its ``UserError`` here, and one for imports that fail."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "l2t_bench.engine.inquiry", function],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode in (0, 2) and lines:
        answer = json.loads(lines[-1])
        if done.returncode == 2:
            raise UserError(answer)
        return answer
    words = done.stderr.strip().splitlines()
    raise UserError(f"the libraries do not import: {words[-1] if words else f'exit code {done.returncode}'}")


def main(function: str) -> int:
    """Print the answer and return 0, or print the mistake in the question and return 2."""
    module, _, name = function.partition(":")
    try:
        answer = getattr(import_module(module), name)(json.load(sys.stdin))
    except L2TError as error:
        print(json.dumps(str(error)))
        return 2
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
