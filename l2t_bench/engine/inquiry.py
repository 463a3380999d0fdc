"""Questions that need torch, or a user's code, asked in a process of their own: a run's parent imports neither.

``python -P -m l2t_bench.engine.inquiry MODULE:FUNCTION FILE`` reads a list of JSON objects and writes what the function
answers to each, a line as it comes, to the open file of that number: standard output belongs to the code that is
imported, which may print what it likes.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import IO, Any

from l2t_bench.errors import L2TError, UserError


def ask(function: str, question: Mapping[str, Any]) -> Any:
    """What ``function``, a "module:function", answers. Raises ``UserError`` for its, and for any other end."""
    (answer,) = ask_each(function, [question])
    if isinstance(answer, UserError):
        raise answer
    return answer


def ask_each(function: str, questions: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    """The answers, in order and as they come; in the place of one that is none, the ``UserError`` that ``ask`` raises.

    One process answers them all. Where it ends before that, as by want of memory, the question that it was at has no
    answer, and another process goes on with those after it.
    """
    left = list(questions)
    while left:
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            for line in _lines(process := _started(function, left, errors)):
                del left[0]
                yield _answer(line)
            if left:
                del left[0]
                yield _unanswered(process.wait(), errors)


def _started(function: str, questions: Sequence[Mapping[str, Any]], errors: IO[str]) -> "subprocess.Popen[str]":
    """Its standard output is the lines that it answers, whatever it prints."""
    told = json.dumps(questions)  # before there is a process to end
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "l2t_bench.engine.inquiry", function, str(writing)],
        pass_fds=(writing,),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        text=True,
    )
    os.close(writing)
    process.stdout = os.fdopen(reading, encoding="utf-8")
    assert process.stdin is not None  # a pipe
    with suppress(BrokenPipeError), process.stdin as asked:  # it may end before it has read
        asked.write(told)
    return process


def _lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    assert process.stdout is not None  # ours
    try:
        with process.stdout as answers:
            yield from (line for line in answers if line.endswith("\n"))  # else it was cut short
        process.wait()
    finally:
        process.kill()  # where nobody reads on
        process.wait()


def _answer(line: str) -> Any:
    answer = json.loads(line)
    return UserError(answer["mistake"]) if "mistake" in answer else answer["answer"]


def _unanswered(code: int, errors: IO[str]) -> UserError:
    errors.seek(0)
    words = errors.read().strip().splitlines()
    told = f": {words[-1]}" if words else ""
    return UserError(f"the process that was asked ended without an answer, {_end(code)}{told}")


def _end(code: int) -> str:
    if code == -signal.SIGKILL:
        return "killed: by the system, where memory has run out"
    return f"exit code {code}" if code >= 0 else f"ended by signal {-code}"


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
    """Answer the questions on standard input in an open file."""
    os.set_inheritable(file, False)
    with os.fdopen(file, "w", encoding="utf-8") as answers:
        for question in json.load(sys.stdin):
            print(json.dumps(answered(function, question)), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
