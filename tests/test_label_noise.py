"""Wrong labels: as many and as wrong as was asked for, in train alone; and the loss that is told of them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import l2t_bench as l2t
from l2t_bench.data.label_noise import LabelNoise, transition, with_noise
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.suite import Request
from l2t_bench.losses.image import cross_entropy
from l2t_bench.registry import load_loss
from l2t_bench.suites.controls import STATIC
from l2t_bench.suites.learning import problem_of
from l2t_bench.suites.noisy_labels import FIRST_SPLIT, NOISES, SUITE
from l2t_bench.suites.settings import TeachingSettings

KINDS = ("pair-flip", "symmetric")
rates = st.floats(0, 0.99)


@given(st.sampled_from(KINDS), rates, st.integers(2, 20))
def test_a_row_of_the_transition_matrix_is_a_distribution_that_keeps_a_label_with_one_minus_the_rate(
    kind: str, rate: float, classes: int
) -> None:
    matrix = transition(kind, rate, classes)  # type: ignore[arg-type]
    assert matrix.min() >= 0 and np.allclose(matrix.sum(axis=1), 1)
    assert np.allclose(np.diag(matrix), 1 - rate)


def test_pair_flip_goes_to_the_next_class_alone_and_symmetric_noise_to_every_other_alike() -> None:
    labels = np.arange(4).repeat(50_000)
    pair = with_noise(labels, LabelNoise("pair-flip", 0.4, 1), 4)
    assert set(((pair - labels) % 4).tolist()) == {0, 1}
    any_other = with_noise(labels, LabelNoise("symmetric", 0.3, 1), 4)
    for found, kind, rate in ((pair, "pair-flip", 0.4), (any_other, "symmetric", 0.3)):
        counts = np.stack([np.bincount(found[labels == each], minlength=4) for each in range(4)]) / 50_000
        assert np.abs(counts - transition(kind, rate, 4)).max() < 5 * math.sqrt(0.25 / 50_000)  # type: ignore[arg-type]


@given(st.sampled_from(KINDS), rates, st.integers(0, 2**31))
def test_noise_is_a_function_of_its_seed_and_each_label_is_drawn_for_itself(kind: str, rate: float, seed: int) -> None:
    labels, noise = np.arange(40) % 5, LabelNoise(kind, rate, seed)  # type: ignore[arg-type]
    whole = with_noise(labels, noise, 5)
    assert np.array_equal(whole, with_noise(labels, noise, 5))
    assert np.array_equal(whole[:17], with_noise(labels[:17], noise, 5))
    assert ((whole >= 0) & (whole < 5)).all()


def test_only_the_labels_of_train_are_wrong_and_its_images_are_the_same() -> None:
    clean = l2t.build_problem("digits/mlp")
    noisy = l2t.build_problem("digits/mlp[label_noise=symmetric,noise_rate=0.4]")
    ours, theirs = noisy.train.examples, clean.train.examples  # type: ignore[attr-defined]
    assert torch.equal(ours.inputs, theirs.inputs)
    assert 0.3 < float((ours.targets != theirs.targets).double().mean()) < 0.5
    for left, right in ((noisy.dev_batches, clean.dev_batches), (noisy.test_batches, clean.test_batches)):
        assert all(torch.equal(a[1], b[1]) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("rate", [-0.1, 1.0, math.nan])
def test_a_rate_that_leaves_no_label_right_is_an_error(rate: float) -> None:
    with pytest.raises(l2t.UserError, match="the rate of wrong labels must be from 0 to below 1"):
        LabelNoise("symmetric", rate)
    with pytest.raises(l2t.UserError, match=r"the rate of wrong labels|noise_rate must be a finite number"):
        l2t.build_problem(f"digits/mlp[label_noise=symmetric,noise_rate={rate}]")


# -- the loss that is told ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_forward_correction_is_its_formula(kind: str) -> None:
    logits = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.arange(12) % 5
    matrix = torch.from_numpy(transition(kind, 0.3, 5))  # type: ignore[arg-type]
    direct = -(logits.softmax(-1) @ matrix).gather(1, target[:, None]).log().mean()
    assert torch.isclose(load_loss(f"forward-correction[noise={kind},rate=0.3]")(logits, target), direct, rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_forward_correction_without_noise_is_cross_entropy(kind: str) -> None:
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = torch.arange(7) % 4
    loss = load_loss(f"forward-correction[noise={kind},rate=0]")
    assert torch.isclose(loss(logits, target), cross_entropy(logits, target), rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_forward_correction_has_finite_derivatives_that_are_differences(kind: str, size: float) -> None:
    loss = load_loss(f"forward-correction[noise={kind},rate=0.4]")
    logits = size * torch.randn(6, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    target = torch.arange(6) % 4
    if size == 1:
        given_logits = logits.requires_grad_()
        assert torch.autograd.gradcheck(lambda at: loss(at, target), given_logits)
        assert torch.autograd.gradgradcheck(lambda at: loss(at, target), given_logits)
    single = logits.detach().float().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(single, target), single)
    assert bool(torch.isfinite(gradient).all())


def test_forward_correction_refuses_labels_out_of_range() -> None:
    with pytest.raises(l2t.UserError, match="labels must be from 0 to 3"):
        load_loss("forward-correction")(torch.zeros(2, 4), torch.tensor([0, 4]))


# -- the suite ---------------------------------------------------------------------------------------------------------


def test_every_noise_has_the_learned_loss_and_every_control() -> None:
    cells = SUITE.cells("quick", Request())
    for noise in NOISES:
        methods = [cell.method for cell in cells if cell.problem == noise.problem]
        assert methods == [
            *("rmd[engine=auto]", "untrained-teacher", "static-teacher", "label-smoothing"),
            *("cross-entropy", "cross-entropy-constant", "cross-entropy-decayed", "cross-entropy-dev-too"),
            *noise.corrections,
        ]
    assert len({cell.cell_id for cell in cells}) == len(cells) == 80


def test_the_problem_of_a_cell_has_the_noise_that_it_is_named_after() -> None:
    for cell in SUITE.cells("smoke", Request()):
        problem = l2t.build_problem(cell.settings["problem"])
        named = l2t.build_problem(cell.problem)
        assert problem.name != named.name
        for key in ("label_noise", "noise_rate"):
            assert f"{key}={cell.problem.partition(f'{key}=')[2].rstrip(']').partition(',')[0]}" in problem.name


def test_each_seed_has_a_split_of_its_own_under_settings_that_are_alike() -> None:
    """Else a report would set no seed beside another, or take one split's students for several."""
    cells = [
        cell for cell in SUITE.cells("smoke", Request(seeds=(0, 3))) if cell.method in ("rmd[engine=auto]", STATIC)
    ]
    assert len({str(cell.settings) for cell in cells}) == 1
    specs = {(cell.method, cell.seed): _spec_of(cell) for cell in cells}
    splits = {key: spec.partition("split=")[2].partition(",")[0].rstrip("]") for key, spec in specs.items()}
    assert splits == {(method, seed): str(FIRST_SPLIT + seed) for method, seed in specs}
    assert ["teacher=static" in spec for spec in specs.values()] == [method == STATIC for method, _ in specs]
    first, other = (l2t.build_problem(specs["rmd[engine=auto]", seed]) for seed in (0, 3))
    assert not torch.equal(first.dev_batches[0][0], other.dev_batches[0][0])


def test_a_split_that_a_problem_names_is_the_split_of_every_seed() -> None:
    settings = TeachingSettings(problem="digits/mlp[split=5,train=500]", first_split=FIRST_SPLIT)
    assert [problem_of("rmd", settings, seed) for seed in (0, 3)] == ["digits/mlp[split=5,train=500]"] * 2


def _spec_of(cell: Cell) -> str:
    return problem_of(cell.method, TeachingSettings(**cell.settings), cell.seed)
