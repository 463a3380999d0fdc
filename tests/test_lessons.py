"""Teaching students, beside Algorithm 1: how large a loss's steps are, and dev's examples in training too."""

from dataclasses import replace

import pytest
import torch

import l2t_bench as l2t
from l2t_bench.batches import Examples, IndexedBatches
from l2t_bench.effective_lr import EffectiveLr, cross_entropy_as_long, effective_lrs
from l2t_bench.lessons import with_dev_in_training, with_fixed_loss, with_lr
from l2t_bench.losses.image import cross_entropy
from l2t_bench.optimizers import linear_decay
from l2t_bench.registry import build_problem, load_loss
from l2t_bench.verification.samples import random_problem


def scaled_cross_entropy(output: torch.Tensor, target: torch.Tensor, phi: object) -> torch.Tensor:
    return 0.3 * cross_entropy(output, target, phi)


def test_a_scaled_cross_entropy_has_the_scaled_lr_at_every_step() -> None:
    problem = with_lr(with_fixed_loss(random_problem(), scaled_cross_entropy), linear_decay(0.2))
    found = effective_lrs(problem, {}, horizon=8, seed=0, every=3)
    assert [point.step for point in found] == [0, 3, 6]
    for point in found:
        assert point.lr == pytest.approx(0.2 * (1 - point.step / 8), rel=1e-12)
        assert point.effective == pytest.approx(0.3 * point.lr, rel=1e-12)


def test_cross_entropy_of_a_student_with_a_margin_layer_is_taken_of_its_logits() -> None:
    problem = with_fixed_loss(random_problem(), load_loss("large-margin[margin=1]"))
    found = effective_lrs(problem, {}, horizon=4, seed=0)
    assert [point.effective for point in found] == pytest.approx([point.lr for point in found], rel=1e-10)


def test_looking_changes_nothing_of_the_student() -> None:
    problem = random_problem()
    theta = problem.init_teacher(0)
    before = l2t.teach(problem, theta, horizon=5, seed=1).params
    effective_lrs(problem, theta, horizon=5, seed=1)
    after = l2t.teach(problem, theta, horizon=5, seed=1).params
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_cross_entropy_in_steps_as_long_as_a_scaled_one_s_is_that_one() -> None:
    """What differs by size alone is the same student; every third step is looked at, the factor is 0.3 between too."""
    problem = with_lr(with_fixed_loss(random_problem(), scaled_cross_entropy), linear_decay(0.2))
    along = effective_lrs(problem, {}, horizon=8, seed=0, every=3)
    scaled = l2t.teach(problem, {}, horizon=8, seed=0).params
    as_long = l2t.teach(cross_entropy_as_long(problem, along), {}, horizon=8, seed=0).params
    assert all(torch.allclose(tensor, as_long[name], rtol=1e-12, atol=0) for name, tensor in scaled.items())


def test_the_size_goes_in_a_straight_line_between_the_steps_that_were_looked_at_and_stays_after_the_last() -> None:
    problem = with_lr(with_fixed_loss(random_problem(), scaled_cross_entropy), 0.2)
    along = [EffectiveLr(0, 0.2, 1.0, 2.0), EffectiveLr(2, 0.2, 1.0, 0.0), EffectiveLr(4, 0.2, 3.0, 2.0)]
    optimizer = cross_entropy_as_long(problem, along).optimizer
    found = [optimizer.lr_at(index, 8) for index in (0, 2, 4, 7)]
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.3], rel=1e-12)


def test_steps_without_a_size_are_an_error() -> None:
    with pytest.raises(l2t.UserError, match="no step tells how long"):
        cross_entropy_as_long(random_problem(), [EffectiveLr(0, 0.1, 1.0, 0.0)])


def test_an_interval_of_no_steps_is_an_error() -> None:
    problem = random_problem()
    with pytest.raises(l2t.UserError, match="every must be at least 1"):
        effective_lrs(problem, problem.init_teacher(0), horizon=3, seed=0, every=0)


def test_dev_joins_training_example_by_example_and_stays_dev() -> None:
    problem = build_problem("digits/mlp[train=40,dev=30,dev_chunk=7]")
    both = with_dev_in_training(problem)
    assert isinstance(problem.train, IndexedBatches) and isinstance(both.train, IndexedBatches)
    assert len(both.train.examples.targets) == 70 and both.train.batch_size == problem.train.batch_size
    assert torch.equal(both.train.examples.inputs[:40], problem.train.examples.inputs)
    assert torch.equal(both.train.examples.targets[40:], torch.cat([batch[1] for batch in problem.dev_batches]))
    assert sum(len(targets) for _, targets in both.dev_batches) == 30


def test_only_a_source_of_examples_can_be_joined() -> None:
    with pytest.raises(l2t.UserError, match="dev can join IndexedBatches"):
        with_dev_in_training(
            replace(random_problem(), train=lambda index, seed: Examples(torch.zeros(1), torch.zeros(1)))
        )
