"""The ladder at real sizes: every method on every student, by the checks of ``l2t-bench verify METHOD PROBLEM``.

``python tests/benchmarks/ladder.py -b rmd -p digits/mlp`` prints a row for each problem and method, as it comes, for a
table in Markdown: whether it passed, refused or failed, how many checks passed, were reported or skipped, and the
seconds. Each row is a fresh process, one after the other; of the time it waited, and of that in which it had a core. A
check that failed stands with its figure and its bound, a refusal with its reason. What takes longer than
``--most-seconds`` is stopped, and its row says so.
"""

import argparse
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch

import l2t_bench as l2t
from l2t_bench.resident import keep_free_memory
from l2t_bench.verification.ladder import Section, verify
from l2t_bench.verification.subject import Outcome

METHODS = (
    *("rmd", "rmd[hvp=for]", "truncated[window=20]", "functorch", "higher", "torchopt", "implicit", "one-step"),
    *("evolution[population=4]", "forward"),
)
PROBLEMS = ("mnist/mlp", "mnist/lenet[batch=20]", "cifar10/resnet8", "numbers/lstm1", "numbers/transformer")


def climbed(method: str, problem: str) -> str:
    """What stands in the row: the outcome, the checks, seconds on the clock and seconds of a core."""
    begun, worked = time.perf_counter(), time.process_time()
    (section,) = verify(l2t.load_backend(method), l2t.build_problem(problem, dtype="float64"))
    seconds = f"{time.perf_counter() - begun:,.0f} | {time.process_time() - worked:,.0f}"
    if section.refused:
        return f"refused: {section.refused} | | {seconds}"
    return f"{outcome(section)} | {counted(section)} | {seconds}"


def outcome(section: Section) -> str:
    failed = [f"{each.name}: {each.figure:.2g} > {each.bound:.2g}" for each in section.checks if _failed(each.outcome)]
    skipped = [f"skipped {each.name}: {each.note}" for each in section.checks if each.outcome is Outcome.SKIPPED]
    return "; ".join([*(f"**failed** {each}" for each in failed), *([] if failed else ["passed"]), *skipped])


def counted(section: Section) -> str:
    found = Counter(str(each.outcome) for each in section.checks)
    return ", ".join(f"{count} {name}" for name, count in sorted(found.items(), reverse=True))


def _failed(found: Outcome) -> bool:
    return found is Outcome.FAILED


def _climb(into: Connection, method: str, problem: str, threads: int) -> None:
    torch.set_num_threads(threads)
    keep_free_memory()
    try:
        into.send(climbed(method, problem))
    except Exception as error:  # a row of the table, like any other outcome
        traceback.print_exc()
        into.send(f"**raised** {type(error).__name__}: {str(error).splitlines()[0]} | | | ")


def row(method: str, problem: str, threads: int, most_seconds: float) -> str:
    """The line of the table, climbed in a process of its own."""
    context = get_context("spawn")
    out, into = context.Pipe(duplex=False)
    climbing = context.Process(target=_climb, args=(into, method, problem, threads))
    climbing.start()
    into.close()
    try:
        found = out.recv() if out.poll(most_seconds) else f"stopped after {most_seconds:,.0f} s | | | "
    except EOFError:
        found = "**killed** | | | "
    climbing.kill()
    climbing.join()
    return f"| `{problem}` | `{method}` | {found} |"


def show(methods: Sequence[str], problems: Sequence[str], threads: int, most_seconds: float) -> None:
    print("| problem | method | outcome | checks | s | s of a core |")
    print("|---|---|---|---|--:|--:|")
    for method in methods:
        for problem in problems:
            print(row(method, problem, threads, most_seconds), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-b", "--backend", action="append", help="with options; repeatable")
    parser.add_argument("-p", "--problem", action="append", help="with options; repeatable")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most-seconds", type=float, default=600.0)
    given = parser.parse_args()
    show(given.backend or METHODS, given.problem or PROBLEMS, given.threads, given.most_seconds)
