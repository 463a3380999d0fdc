"""A backend beside others: its name, the same with other options, and the methods that it is held to."""

import dataclasses
from typing import Any

from l2t_bench.backend import Backend
from l2t_bench.errors import UserError
from l2t_bench.gradient import Exactness, TeacherGradientBackend
from l2t_bench.names import describe_options
from l2t_bench.problem import TeachingProblem
from l2t_bench.registry import list_backends, load_backend


def label(backend: TeacherGradientBackend) -> str:
    """The name with its options where the backend can say them."""
    return str(backend) if isinstance(backend, Backend) else backend.name


def with_options(backend: TeacherGradientBackend, **options: Any) -> TeacherGradientBackend:
    """The backend with other options, those that it has."""
    known = describe_options(type(backend))
    if not known:
        return backend
    own: Any = backend
    changed: TeacherGradientBackend = dataclasses.replace(own, **{k: v for k, v in options.items() if k in known})
    return changed


def whole_sibling(backend: TeacherGradientBackend) -> TeacherGradientBackend:
    """``rmd`` with those of the backend's options that it has too: the same store, the same second derivatives."""
    whole = load_backend("rmd")
    return with_options(whole, **{name: getattr(backend, name) for name in describe_options(type(backend))})


def exact_peers(
    backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int
) -> list[TeacherGradientBackend]:
    """The registered exact backends beside this one that can do the problem and are installed."""
    peers = []
    for name in list_backends():
        if name == backend.name:
            continue
        try:
            peer = load_backend(name)
        except UserError:
            continue  # its library is not installed
        if peer.capabilities.exactness is Exactness.EXACT and peer.supports(problem, horizon):
            peers.append(peer)
    return peers


def reach(backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int) -> int:
    """Through how many of the last steps a method that is not exact takes theta's effect: all, unless it says fewer.

    A method that goes back through none, such as forward mode, speaks of the whole run.
    """
    steps = backend.scaling(problem, horizon).kept if isinstance(backend, Backend) else 0
    return steps if 0 < steps < horizon else horizon


def through_last(
    backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int
) -> TeacherGradientBackend | None:
    """What gives the derivative that the backend approximates; ``None`` where no method here does the problem."""
    steps = reach(backend, problem, horizon)
    if steps == horizon:
        return next(iter(exact_peers(backend, problem, horizon)), None)
    truncated = load_backend(f"truncated[window={steps}]")
    return truncated if truncated.supports(problem, horizon) else None
