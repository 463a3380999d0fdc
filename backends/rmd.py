"""Reverse-mode differentiation by hand: Algorithm 1 of the paper, with the optimiser's own recursion."""

from dataclasses import dataclass

from l2t_bench.backend import Derivative, Run
from l2t_bench.gradient import Capabilities, Exactness
from l2t_bench.kept_run import There
from l2t_bench.stored import StoredRMD
from l2t_bench.sweep import Swept


@dataclass(frozen=True)
class ManualRMD(StoredRMD):
    """The trajectory of omega_t is stored; the reverse loop replays each step and takes its vector products.

    Exact; with ``store=reversible`` quantised: exact for a run in fixed point, a neighbour of the plain one. Memory by
    the store, T*P + G with ``all`` (P parameters, G the graph of one step). Per step: one gradient
    forward; one gradient replayed and one vector product back. With momentum the paper's Eq. 4 and 5 are not the
    adjoint of the step that was taken; ``Optimizer.pull_back`` has the recursion that is.
    """

    name = "rmd"
    capabilities = Capabilities(Exactness.EXACT, optimizers=("SGD", "Adam"), memory_law="T*P + G", shards=True)

    def differentiate(self, run: Run) -> Derivative:
        return self.there_and_back(run)

    def derivative(self, horizon: int, there: There, swept: Swept) -> Derivative:
        del horizon
        return Derivative(swept.d_theta, there.value, there.final, swept.adjoint.params, hyper=swept.hyper)
