"""What ranks cannot share out is refused before a run is lost over it, and what was asked wrongly is said in a line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.batch_parts import batch_part, part_of
from l2t_bench.cli.shards import own_device, shard_asked_for
from l2t_bench.distributed.parts import among_ranks
from l2t_bench.distributed.problem import sharded
from l2t_bench.distributed.ranks import Ranks, launched
from l2t_bench.errors import RankError
from l2t_bench.losses.dynamic import bilinear_sigmoid
from l2t_bench.part_looks import look_at_dev_parts
from l2t_bench.problem import TeachingProblem, example_count
from l2t_bench.trainer.saving import saving_of
from l2t_bench.trainer.sharing import Shard, sharing_of
from l2t_bench.verification.samples import random_batch, random_problem

TWO = Ranks(rank=0, count=2)  # nothing is exchanged before what these tests look for is found

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def taught_by_two(problem: TeachingProblem, backend: str = "rmd") -> None:
    l2t.load_backend(backend).teacher_gradient(sharded(problem, TWO), problem.init_teacher(0), horizon=4)


def of_pairs(output: Tensor, target: Tensor, phi: Any) -> Tensor:
    return bilinear_sigmoid(output, target, phi) + torch.cdist(output, output).mean()


def of_a_sum(output: Tensor, target: Tensor, phi: Any) -> Tensor:
    return len(target) * bilinear_sigmoid(output, target, phi)


def over_what_counts(output: Tensor, target: Tensor, phi: Any) -> Tensor:
    """As a mean over words that are no padding."""
    counts = target != 0
    return bilinear_sigmoid(output[counts], target[counts], phi)


def with_layer(layer: nn.Module) -> TeachingProblem:
    return random_problem(student=nn.Sequential(nn.Linear(6, 7), layer, nn.Tanh(), nn.Linear(7, 4)))


REFUSED: dict[str, tuple[Callable[[], TeachingProblem], str]] = {
    "batch normalisation": (lambda: with_layer(nn.BatchNorm1d(7)), "moves the student's buffer 1.running_mean"),
    "batch normalisation without statistics": (
        lambda: with_layer(nn.BatchNorm1d(7, track_running_stats=False)),
        "the student normalises by the whole batch",
    ),
    "dropout": (lambda: with_layer(nn.Dropout(0.5)), "dropout draws its mask for the whole batch"),
    "a term between examples": (lambda: replace(random_problem(), loss=of_pairs), "no mean over the examples"),
    "a sum": (lambda: replace(random_problem(), loss=of_a_sum), "no mean over the examples"),
    "a mean over some": (lambda: replace(random_problem(), loss=over_what_counts), "no mean over the examples"),
    "an objective that is a sum": (
        lambda: replace(random_problem(), objective=lambda output, target: output.tanh().sum()),
        "the dev objective is",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_problem_whose_batches_cannot_be_shared_out_is_refused_with_the_likeliest_cause(name: str) -> None:
    problem, said = REFUSED[name]
    with pytest.raises(l2t.Refused, match="shard=students") as raised:
        taught_by_two(problem())
    assert said in str(raised.value)


@pytest.mark.parametrize("layer", [nn.LayerNorm(7), nn.GroupNorm(1, 7)])
def test_a_layer_that_normalises_each_example_by_itself_is_not_refused(layer: nn.Module) -> None:
    problem = with_layer(layer)
    step = l2t.rollout.Rollout(problem, problem.init_teacher(0), horizon=2).step(0, problem.init_student(0))
    l2t.load_backend("rmd").try_out(sharded(problem, TWO))(
        "first", step, problem.init_student(0), torch.eye(4).double()
    )  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("rmd[engine=compiled]", "nothing to add up between its gradient and its update"),
        ("rmd[engine=graphed]", "engine=eager"),
        ("rmd[store=graph]", "graphs that store=graph keeps are of whole batches"),
        ("rmd[students=2]", "students at once are stacked"),
    ],
)
def test_options_that_take_batches_whole_are_refused(backend: str, said: str) -> None:
    with pytest.raises(l2t.Refused, match=said):
        taught_by_two(random_problem(), backend)


def test_a_batch_whose_tensors_do_not_all_begin_with_the_examples_is_a_mistake() -> None:
    with pytest.raises(l2t.UserError, match="must all begin with its 8 examples"):
        batch_part(((torch.ones(8, 2), torch.ones(3)), torch.ones(8)), 0, among_ranks(2))


def test_parts_are_all_of_a_batch_in_its_order() -> None:
    batch = random_batch(0, 11)
    for count in (1, 2, 3, 11, 13):
        parts = [batch_part(batch, rank, among_ranks(count)) for rank in range(count)]
        for leaf in (0, 1):
            assert torch.equal(torch.cat([part[leaf] for part in parts]), batch[leaf])
        sizes = [example_count(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
    assert [part_of(5, rank, 2) for rank in (0, 1)] == [slice(0, 2), slice(2, 5)]


def test_an_objective_that_is_a_mean_passes() -> None:
    problem = random_problem()
    look_at_dev_parts(problem, problem.init_student(0), problem.dev_batches[0], among_ranks(3))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def as_torchrun(given: pytest.MonkeyPatch, rank: int, count: int) -> None:
    for name, value in zip(VARIABLES, (rank, count, rank, "127.0.0.1", 29_500), strict=True):
        given.setenv(name, str(value))


def test_a_shard_without_a_launcher_is_a_mistake(alone: pytest.MonkeyPatch) -> None:
    with pytest.raises(l2t.UserError, match="torchrun --nproc-per-node 2 -m l2t_bench train"):
        l2t.TeacherTrainer(random_problem(), None, "rmd", outer_steps=1, horizon=2, shard="batch")


def test_several_processes_that_share_nothing_are_a_mistake(alone: pytest.MonkeyPatch) -> None:
    assert shard_asked_for(None, "10m") is None
    as_torchrun(alone, 0, 1)
    assert shard_asked_for(None, "10m") is None
    as_torchrun(alone, 1, 2)
    with pytest.raises(l2t.UserError, match="2 processes were started, and each would train and write the same"):
        shard_asked_for(None, "10m")
    assert shard_asked_for("batch", "2m") == Shard("batch", "2m")


def test_each_process_has_a_gpu_of_its_own(alone: pytest.MonkeyPatch) -> None:
    assert own_device("cuda") == "cuda"
    as_torchrun(alone, 1, 2)
    assert [own_device(device) for device in ("cuda", "cuda:0", "cpu")] == ["cuda:1", "cuda:0", "cpu"]


@pytest.mark.parametrize(
    ("given", "said"), [({"by": "seeds"}, "batch or students"), ({"by": "batch", "timeout": "soon"}, "a duration")]
)
def test_a_shard_that_makes_no_sense_is_a_mistake(given: dict[str, Any], said: str) -> None:
    with pytest.raises(l2t.UserError, match=said):
        Shard(**given)


def test_a_launchers_numbers_that_are_none_are_a_mistake() -> None:
    with pytest.raises(l2t.UserError, match="must be numbers"):
        launched({"RANK": "first", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"})


def test_students_are_divided_or_it_is_a_mistake(alone: pytest.MonkeyPatch) -> None:
    as_torchrun(alone, 0, 2)
    sharing = sharing_of(Shard("students"))
    assert sharing.students(6) == 3
    with pytest.raises(l2t.UserError, match="5 students of an outer step cannot be divided among 2 ranks"):
        sharing.students(5)


def test_engine_auto_stays_in_plain_torch_where_batches_are_shared_out() -> None:
    problem = random_problem()
    method = l2t.load_backend("rmd[engine=auto]")
    assert str(method.settled(problem, 10_000)) == "rmd[engine=compiled]"  # type: ignore[attr-defined]
    assert str(method.settled(sharded(problem, TWO), 10_000)) == "rmd"  # type: ignore[attr-defined]


def test_ranks_that_hold_something_else_say_which() -> None:
    class Odd(Ranks):
        def gathered(self, value: Any, what: str) -> list[Any]:
            return [value, value, "another"]

    with pytest.raises(RankError, match="theta: rank 2 has others than rank 0"):
        Odd(0, 3).check_same("one", "theta")


def test_a_run_kept_on_its_way_is_one_process_and_what_to_do_instead_is_said(tmp_path: Path) -> None:
    trainer = l2t.TeacherTrainer(random_problem(), None, "rmd", outer_steps=1, horizon=2)
    with pytest.raises(l2t.UserError, match=r"leave it out \(with every=1.*\), or train without shard="):
        saving_of(l2t.Checkpoints(tmp_path, within="30m"), trainer._plan, lambda note: None, TWO, parts=1)
