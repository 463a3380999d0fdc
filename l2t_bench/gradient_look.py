"""A step's gradient on the way back held to the gradient that plain training takes there, taken anew.

A loss that is replayed does not show it where only the backward pass draws numbers of its own. The stores that take
steps once more see another student in that; one that kept every state sees the gradient only here.
"""

from torch import Tensor

from l2t_bench.errors import UserError
from l2t_bench.first_look import gradients_apart
from l2t_bench.problem import Step
from l2t_bench.second_order import SecondOrder
from l2t_bench.tensors import TensorDict, Tensors


class HeldToPlain:
    """The second derivatives of ``step``, whose ``products`` raise ``UserError`` where its gradient is not ``plain``.

    ``params``: the student's before the step. The gradient is looked at after the products: forward-over-reverse has
    it from them.
    """

    def __init__(self, second: SecondOrder, plain: Tensors, step: Step, params: Tensors) -> None:
        self._second, self._plain, self._step, self._params = second, plain, step, params

    @property
    def loss(self) -> Tensor:
        return self._second.loss

    @property
    def buffers(self) -> TensorDict:
        return self._second.buffers

    @property
    def gradients(self) -> TensorDict:
        return self._second.gradients

    def products(self, g_bar: Tensors) -> tuple[TensorDict, list[Tensor]]:
        found = self._second.products(g_bar)
        if apart := gradients_apart(self._second.gradients, self._plain, self._params):
            raise UserError(
                f"step {self._step.index} cannot be replayed: its gradient is off by {apart:.1%} when it is taken "
                "again. A backward pass of the student, or a hook of its tensors, draws random numbers that do not "
                "follow torch's seed, or keeps something between calls"
            )
        return found
