"""How a run along a store is kept on its way, and gone on with by another process: for ``StoredRMD``."""

from l2t_bench.backend import Run
from l2t_bench.kept_run import KeptRun, There, WayBack, WayForward
from l2t_bench.optimizers import Adjoint
from l2t_bench.problem import StudentState
from l2t_bench.stores.contract import Store


def going_on(run: Run, store: Store, first: StudentState) -> tuple[int, StudentState]:
    """The step to take next, and the state that it starts from; ``run`` and ``store`` as they were left.

    On the way back there is no step left to take: T, and omega_T.
    """
    found = None if run.keeper is None else run.keeper.found
    if found is None:
        return 0, first
    run.rollout.restore(found.features, found.losses)
    store.restore(run.rollout.steps, found.states, found.at.index)
    if isinstance(found.at, WayForward):
        return found.at.index, found.at.state
    run.watch.restore(found.at.norms)
    return run.horizon, found.at.there.final


def way_back_of(run: Run) -> WayBack | None:
    """How far back an earlier process has come; ``None`` where the way back begins."""
    found = None if run.keeper is None else run.keeper.found
    return found.at if found is not None and isinstance(found.at, WayBack) else None


def there_of(run: Run, final: StudentState) -> There:
    """M~ and w_bar at omega_T."""
    value, w_bar = run.dev_gradient(final)
    return There(value, final, w_bar)


def keep_forward(run: Run, store: Store, index: int, state: StudentState) -> None:
    """Keep the run before step ``index``, if it is time and the store can be left there."""
    if index < run.horizon and _is_due(run, store, index):
        _keep(run, store, WayForward(index, state))


def keep_back(run: Run, store: Store, there: There, index: int, adjoint: Adjoint) -> None:
    """Keep the run after step ``index`` was gone back through. Raises ``Diverged`` where the adjoint is not finite."""
    if index > store.wanted.first and _is_due(run, store, index):
        run.watch.check()
        _keep(run, store, WayBack(index, adjoint, there, *store.stepper.left_at, run.watch.norms()))


def _is_due(run: Run, store: Store, index: int) -> bool:
    return run.keeper is not None and store.can_be_left(index) and run.keeper.due()


def _keep(run: Run, store: Store, at: WayForward | WayBack) -> None:
    assert run.keeper is not None
    features = [step.features for step in run.rollout.steps]
    run.keeper.keep(KeptRun(features, run.rollout.losses, store.held(), at))
