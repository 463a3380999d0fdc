"""theta climbs by any of torch's optimisers, and goes on from a state that has been through a file."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from l2t_bench.cli.train import maker_of
from l2t_bench.errors import Diverged, UserError
from l2t_bench.modules import same_tensors
from l2t_bench.tensor_file import Kind, joined, parted, read_tensors, write_tensors
from l2t_bench.tensors import TensorDict
from l2t_bench.trainer.ascent import Ascent, TeacherOptimizer

WITHOUT = ("Optimizer", "LBFGS", "SparseAdam")  # no optimiser; evaluates the objective itself; sparse gradients only
NAMES = [name for name, found in vars(torch.optim).items() if isinstance(found, type) and name not in WITHOUT]
STEPS = 6


def theta(dtype: torch.dtype) -> TensorDict:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(3, size, generator=generator, dtype=torch.float64).to(dtype)
        for name, size in (("W", 4), ("V", 2))
    }


def gradient(step: int, dtype: torch.dtype) -> TensorDict:
    generator = torch.Generator().manual_seed(step + 1)
    return {name: torch.randn(t.shape, generator=generator).to(dtype) for name, t in theta(dtype).items()}


def ascent(name: str, dtype: torch.dtype) -> Ascent:
    return Ascent(theta(dtype), TeacherOptimizer(make=maker_of(name, 0.05)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_of_torch_goes_on_from_its_file_bit_for_bit(
    tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    calm, killed, resumed = (ascent(name, dtype) for _ in range(3))
    for step in range(STEPS):
        calm.step(gradient(step, dtype), step, STEPS)
    for step in range(3):
        killed.step(gradient(step, dtype), step, STEPS)
    tree, tensors = parted({"theta": killed.snapshot(), "optimizer": killed.state()})
    write_tensors(tmp_path / "state", Kind("test", 1), tensors, {"tree": tree})
    tensors, record = read_tensors(tmp_path / "state", Kind("test", 1))
    state = joined(record["tree"], tensors)
    resumed.restore(state["theta"], state["optimizer"])
    for step in range(3, STEPS):
        resumed.step(gradient(step, dtype), step, STEPS)
    assert same_tensors(resumed.snapshot(), calm.snapshot()) and not same_tensors(calm.snapshot(), theta(dtype))
    ours, theirs = (parted(each.state()) for each in (resumed, calm))
    assert same_tensors(ours[1], theirs[1]) and json.dumps(ours[0]) == json.dumps(theirs[0])


@pytest.mark.parametrize("factor", [math.nan, math.inf, -1.0, "half"])
def test_a_schedule_that_gives_no_factor_is_a_mistake_and_theta_stays(factor: Any) -> None:
    climbing = Ascent(theta(torch.float64), TeacherOptimizer(schedule=lambda step, steps: factor))
    with pytest.raises(UserError, match=r"the teacher's schedule gives .* at outer step 2: a factor is from 0 on"):
        climbing.step(gradient(0, torch.float64), 2, STEPS)
    assert same_tensors(climbing.snapshot(), theta(torch.float64))


def test_a_teacher_that_leaves_the_finite_numbers_ends_its_training() -> None:
    climbing = Ascent(theta(torch.float32), TeacherOptimizer(make=maker_of("SGD", 1e38)))
    with pytest.raises(Diverged, match="the teacher is no longer finite after outer step 1"):
        climbing.step({name: 1e6 * tensor for name, tensor in gradient(0, torch.float32).items()}, 1, STEPS)


@pytest.mark.parametrize("name", ["Adam", "SGD", "Adam[maximize=true]", "SGD[maximize=true]"])
def test_theta_climbs_whichever_way_the_optimiser_goes(name: str) -> None:
    climbing = ascent(name, torch.float64)
    before = climbing.snapshot()
    d_theta = gradient(0, torch.float64)
    moved = climbing.step(d_theta, 0, STEPS)
    after = climbing.snapshot()
    assert sum(float(((after[key] - before[key]) * d_theta[key]).sum()) for key in before) > 0
    assert moved == pytest.approx(float(torch.cat([(after[k] - before[k]).flatten() for k in before]).norm()))


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.75, 0.5, 0.25]),
        ("cosine", [1.0, 0.853553390593, 0.5, 0.146446609406]),
        (lambda outer_step, outer_steps: 1 / (1 + outer_step), [1.0, 1 / 2, 1 / 3, 1 / 4]),
    ],
    ids=["constant", "linear", "cosine", "own"],
)
def test_the_schedule_multiplies_the_optimisers_own_lr(schedule: object, factors: list[float]) -> None:
    settings = TeacherOptimizer(schedule=schedule, make=lambda t: torch.optim.SGD(t, lr=0.5))  # type: ignore[arg-type]
    climbing = Ascent({"a": torch.zeros(1)}, settings)
    moved = [climbing.step({"a": torch.ones(1)}, step, 4) for step in range(4)]
    assert moved == pytest.approx([0.5 * factor for factor in factors], rel=1e-6)
