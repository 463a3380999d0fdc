"""Looks at what was asked for, in a process that may import torch: ``python -P -m l2t_bench.engine.preflight JSON``.

The parent of a run imports no torch, and a run of hours must not find a misspelt option in its last cell.
"""

import json
import subprocess
import sys
from collections.abc import Sequence

from l2t_bench.errors import UserError


def preflight(methods: Sequence[str], problems: Sequence[str], device: str) -> None:
    """Raises ``UserError`` with the first mistake among backends, problems and device."""
    request = json.dumps({"methods": list(methods), "problems": list(problems), "device": device})
    done = subprocess.run(
        [sys.executable, "-P", "-m", "l2t_bench.engine.preflight", request], capture_output=True, text=True, check=False
    )
    if done.returncode == 2:
        raise UserError(done.stdout.strip())
    if done.returncode != 0:
        raise UserError(f"the libraries do not import: {done.stderr.strip().splitlines()[-1:]}")


def main(request: str) -> int:
    """Print the first mistake and return 2, or return 0."""
    from l2t_bench.registry import build_problem, load_backend

    asked = json.loads(request)
    try:
        for method in asked["methods"]:
            load_backend(method)
        for problem in asked["problems"]:
            build_problem(problem, device=asked["device"])
    except UserError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
