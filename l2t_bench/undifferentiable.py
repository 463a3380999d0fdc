"""What torch has no derivative of, told from the exceptions that it raises for it."""

import re
from dataclasses import dataclass
from types import TracebackType

from torch import nn


@dataclass(frozen=True)
class Missing:
    """A derivative that a student does not have: which one, and what lacks it."""

    what: str
    where: str

    def __str__(self) -> str:
        return f"no {self.what} for this student ({self.where})"


SECOND = "second derivative"
FORWARD = "forward mode"
TORCH_FUNC = "torch.func transform"

_SAYINGS = (
    (SECOND, r"derivative for '?\S+?'? is not implemented|differentiate twice|[Dd]ouble backwards? is not"),
    (FORWARD, r"forward AD|forward-mode|\bjvp\b"),
    (TORCH_FUNC, r"functorch transforms?\b|torch\.func transforms|setup_context|Cannot access data pointer of Tensor"),
)
"""By what torch says; the last that fits counts: a message about torch.func names jvp among its transforms."""

_OTHER_DTYPE = r"to have the same dtype, but got: double != (float|c10::Half|c10::BFloat16)"
"""Under ``torch.func.jvp`` a number of Python times a tensor without dimensions has a tangent in float64. The same is
said of a student that mixes dtypes itself, and then no jvp is on the way."""


def missing_derivative(error: BaseException) -> Missing | None:
    """What derivative is missing, where that is what ``error`` says; the layer is named where the traceback has it."""
    text = str(error)
    kinds = [kind for kind, saying in _SAYINGS if re.search(saying, text)]
    if re.search(_OTHER_DTYPE, text) and _goes_through("jvp", error.__traceback__):
        kinds = [FORWARD]
    if not kinds or not isinstance(error, NotImplementedError | RuntimeError):
        return None
    first = text.splitlines()[0].split(". For more details", maxsplit=1)[0]
    layer = _innermost_layer(error.__traceback__)
    return Missing(kinds[-1], f"{type(layer).__name__}: {first}" if layer is not None else first)


def _goes_through(function: str, traceback: TracebackType | None) -> bool:
    while traceback is not None:
        if traceback.tb_frame.f_code.co_name == function:
            return True
        traceback = traceback.tb_next
    return False


def _innermost_layer(traceback: TracebackType | None) -> nn.Module | None:
    found = None
    while traceback is not None:
        candidate = traceback.tb_frame.f_locals.get("self")
        found = candidate if isinstance(candidate, nn.Module) else found
        traceback = traceback.tb_next
    return found
