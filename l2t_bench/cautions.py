"""What must be known to trust a gradient of a problem whose run has been looked at: no error, and yet misleading."""

import torch

from l2t_bench.first_look import computed_in, counted_in
from l2t_bench.problem import TeachingProblem


def cautions(problem: TeachingProblem) -> tuple[str, ...]:
    """A line each; none of a problem that nothing is to be said of."""
    return *_of_precision(problem), *_of_counting(problem)


def _of_precision(problem: TeachingProblem) -> tuple[str, ...]:
    """Of the student's parameters, or of what it computes in by itself or under autocast."""
    around, kind = torch.is_autocast_enabled(problem.device.type), problem.device.type
    dtypes = problem.dtype, computed_in(problem), torch.get_autocast_dtype(kind) if around else problem.dtype
    low = next((dtype for dtype in dtypes if dtype in (torch.bfloat16, torch.float16)), None)
    if low is None:
        return ()
    return (
        f"the student computes in {low}: a chain of second derivatives is lost in its rounding, and the gradient may "
        "point anywhere; take float32, problem.to(dtype=torch.float32), without autocast",
    )


def _of_counting(problem: TeachingProblem) -> tuple[str, ...]:
    """Of a student whose forward passes are numbered: replays and looks are numbered too."""
    return tuple(
        f"the student's forward pass moves {name}, a number that is no part of its state: where a loss reads it, a "
        "replayed step is another step than the one that was taken; register_buffer makes it a part of the state"
        for name in counted_in(problem)
    )
