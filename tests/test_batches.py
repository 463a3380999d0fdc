"""Batches that replay: epochs of batches in an order that seed and epoch alone decide."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import l2t_bench as l2t
from l2t_bench.batches import Examples, IndexedBatches
from l2t_bench.modules import same_tensors


def examples(count: int) -> Examples:
    """Example i is (10 i, i): a row tells which example it is."""
    return Examples(torch.arange(count).float()[:, None] * 10, torch.arange(count))


sizes = st.integers(1, 40).flatmap(lambda count: st.tuples(st.just(count), st.integers(1, count)))
seeds = st.integers(0, 2**40)


@given(sizes, seeds, st.integers(0, 5))
def test_an_epoch_visits_as_many_examples_as_fill_batches_and_none_of_them_twice(
    size: tuple[int, int], seed: int, epoch: int
) -> None:
    count, batch_size = size
    batches = IndexedBatches(examples(count), batch_size)
    per_epoch = count // batch_size
    rows = [batches(epoch * per_epoch + index, seed).rows.tolist() for index in range(per_epoch)]
    visited = [row for batch in rows for row in batch]
    assert all(len(batch) == batch_size for batch in rows)
    assert len(visited) == len(set(visited)) == per_epoch * batch_size
    assert set(visited) <= set(range(count))


@given(sizes, seeds, st.lists(st.integers(0, 200), min_size=1, max_size=12))
def test_a_batch_is_a_pure_function_of_index_and_seed_in_whatever_order_it_is_asked_for(
    size: tuple[int, int], seed: int, indices: list[int]
) -> None:
    count, batch_size = size
    asked = IndexedBatches(examples(count), batch_size)
    for index in [*indices, *reversed(indices)]:
        fresh = IndexedBatches(examples(count), batch_size)
        assert same_tensors(tuple(asked(index, seed)), tuple(fresh(index, seed)))


def order(seed: int, epoch: int) -> list[int]:
    batches = IndexedBatches(examples(60), 20)
    return [row for index in range(3) for row in batches(3 * epoch + index, seed).rows.tolist()]


def test_another_seed_and_another_epoch_shuffle_anew() -> None:
    orders = {tuple(order(seed, epoch)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100
    assert tuple(range(60)) not in orders


def test_over_many_epochs_every_example_has_its_turn() -> None:
    batches = IndexedBatches(examples(7), 3)  # 6 of 7 in each epoch
    seen = {row for index in range(2 * 30) for row in batches(index, 0).rows.tolist()}
    assert seen == set(range(7))


def test_a_batch_unpacks_into_the_rows_of_inputs_and_of_targets() -> None:
    batch = IndexedBatches(examples(9), 4)(0, 0)
    inputs, targets = batch
    assert len(batch) == 2
    assert torch.equal(targets, batch.rows) and torch.equal(inputs[:, 0], 10.0 * batch.rows)


def test_examples_are_loaded_when_the_first_batch_is_drawn_and_once() -> None:
    loads: list[int] = []

    def load() -> Examples:
        loads.append(1)
        return examples(8)

    batches = IndexedBatches(load, 4)
    assert loads == []
    batches(0, 0), batches(5, 1)
    assert loads == [1]


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    IndexedBatches(examples(8), 4)(0, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_data_set_smaller_than_a_batch_is_an_error() -> None:
    with pytest.raises(l2t.UserError, match="3 training examples are fewer than a batch of 4"):
        IndexedBatches(examples(3), 4)(0, 0)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_must_hold_an_example(size: int) -> None:
    with pytest.raises(l2t.UserError, match="the batch size must be at least 1"):
        IndexedBatches(examples(3), size)
