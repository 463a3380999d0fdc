"""Truncation: what it leaves out, what it says about that, and teaching online."""

import pytest

import l2t_bench as l2t
from l2t_bench.modules import same_tensors
from l2t_bench.optimizers import SGD
from l2t_bench.tensors import mean_of
from l2t_bench.verification.samples import general_theta, random_problem
from l2t_bench.verification.vectors import relative_error

OPTIMIZERS = (SGD(lr=0.3, momentum=0.9), l2t.Adam(lr=0.02, weight_decay=0.1))


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["momentum", "Adam"])
@pytest.mark.parametrize("store", ["all", "sqrt"])
def test_a_window_gives_the_same_gradient_whatever_the_store(store: str, optimizer: l2t.SGD) -> None:
    problem = random_problem(optimizer=optimizer)
    theta = general_theta(problem)
    whole = l2t.load_backend("truncated[window=8]").teacher_gradient(problem, theta, horizon=21)
    found = l2t.load_backend(f"truncated[window=8,store={store}]").teacher_gradient(problem, theta, steps=whole.steps)
    assert same_tensors(found.d_theta, whole.d_theta) and found.diagnostics == whole.diagnostics


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["momentum", "Adam"])
def test_online_teaching_takes_the_mean_over_the_objectives_on_the_way(optimizer: l2t.SGD) -> None:
    problem = random_problem(optimizer=optimizer)
    theta = general_theta(problem)
    online = l2t.load_backend("truncated[window=6,every=4]").teacher_gradient(problem, theta, horizon=14)
    window = l2t.load_backend("truncated[window=6]")
    parts = [window.teacher_gradient(problem, theta, steps=online.steps[:end]) for end in (4, 8, 12, 14)]
    assert relative_error(online.d_theta, mean_of([part.d_theta for part in parts])) < 1e-14
    assert online.value == pytest.approx(sum(part.value for part in parts) / 4, rel=1e-14)
    assert online.diagnostics["objectives"] == 4 and online.exactness == "truncated"
    shares = [part.diagnostics["cut_share"] for part in parts if part.diagnostics]
    assert len(shares) == 3 and online.diagnostics["cut_share"] == pytest.approx(sum(shares) / 3, rel=1e-12)
    lengths = [part.diagnostics["w_bar_at_cut"] for part in parts if part.diagnostics]
    assert online.diagnostics["w_bar_at_cut"] == pytest.approx(sum(lengths) / 3, rel=1e-12)
    assert online.cost.gradients == 14 and online.cost.vector_products == 4 + 6 + 6 + 6


def test_online_teaching_at_the_end_alone_is_the_plain_window() -> None:
    problem = random_problem()
    theta = general_theta(problem)
    plain = l2t.load_backend("truncated[window=6]").teacher_gradient(problem, theta, horizon=14)
    online = l2t.load_backend("truncated[window=6,every=14]").teacher_gradient(problem, theta, steps=plain.steps)
    assert same_tensors(online.d_theta, plain.d_theta) and online.value == plain.value


def test_it_says_by_itself_how_much_of_the_adjoint_it_cuts_off() -> None:
    problem = random_problem(optimizer=SGD(lr=0.05))
    theta = general_theta(problem)
    exact = l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=40)
    assert exact.health is not None
    for window in (5, 20):
        found = l2t.load_backend(f"truncated[window={window}]").teacher_gradient(problem, theta, steps=exact.steps)
        assert found.diagnostics["w_bar_at_cut"] == pytest.approx(exact.health.norms[40 - window], rel=1e-12)
        assert relative_error(found.d_theta, exact.d_theta) > 0.01, "and the cut does cost something here"
    whole = l2t.load_backend("truncated[window=40]").teacher_gradient(problem, theta, steps=exact.steps)
    assert whole.diagnostics == {} and whole.exactness == "exact"
    assert relative_error(whole.d_theta, exact.d_theta) == 0.0


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ("window=5,every=-1", "every must be a number of steps"),
        ("window=5,every=2,store=sqrt", "every keeps the last window of states in memory"),
        ("window=5,every=2,hyper=true", "every keeps the last window of states in memory"),
        ("window=5,every=2,engine=compiled,activations=all", "activations=some"),
    ],
)
def test_options_that_do_not_go_together_are_named(options: str, answer: str) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        l2t.load_backend(f"truncated[{options}]")
