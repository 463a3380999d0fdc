"""A step's gradient in plain training held to the same one taken again.

A loss that is replayed does not show it where only the backward pass draws numbers of its own. The stores that take
steps once more see another student in that; what keeps every state sees the gradient only here.
"""

from collections.abc import Callable

from l2t_bench.errors import UserError
from l2t_bench.first_look import computed_in, gradients_apart
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.training_step import StudentGradient

_EVERY = 64  # a look is two gradients more


class GradientLooks:
    """Looks at the first of the gradients that come by, and at every 64th after it."""

    def __init__(self) -> None:
        self._seen = 0

    def see(
        self, problem: TeachingProblem, state: StudentState, step: Step, gradient: Callable[[], StudentGradient]
    ) -> None:
        """Raises as ``look_at_gradient`` does."""
        due = self._seen % _EVERY == 0
        self._seen += 1
        if due:
            look_at_gradient(problem, state, step, gradient)


def look_at_gradient(
    problem: TeachingProblem, state: StudentState, step: Step, gradient: Callable[[], StudentGradient]
) -> None:
    """Raises ``UserError`` where ``gradient``, that of ``step`` at ``state``, gives another one when it is asked again.

    Like is held to like: where a graph of the gradient is kept, torch has other formulas for some layers (SiLU, Mish,
    GroupNorm), and what these differ by is all that there is of a gradient near a minimum, or in bfloat16. Nothing is
    held afterwards, so that the peak is not above that of a step back.
    """
    once, again = gradient().gradients, gradient().gradients
    if apart := gradients_apart(again, once, state.params, computed_in(problem)):
        raise UserError(
            f"step {step.index} cannot be replayed: its gradient is off by {apart:.2g} of its length when it is taken "
            "again. A backward pass of the student, or a hook of its tensors, draws random numbers that do not follow "
            "torch's seed, or keeps something between calls"
        )
