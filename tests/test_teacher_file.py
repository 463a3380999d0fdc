"""A teacher as a file: what it holds, that it teaches as it did, that it is a plain loss, and what it refuses."""

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.errors import UserError
from l2t_bench.lessons import teach
from l2t_bench.losses.dynamic import bilinear_sigmoid
from l2t_bench.modules import module_at, same_tensors
from l2t_bench.problem import StudentView, TeachingProblem
from l2t_bench.teacher_file import read_teacher, theta_for, with_constants
from l2t_bench.training import TeacherOptimizer, TeacherTrainer
from l2t_bench.verification.samples import general_theta, random_problem

DIGITS = "digits/mlp[train=60,dev=40,hidden=8,keys=2,refresh=5]"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A teacher of the random problem, trained by an outer step."""
    problem = random_problem()
    trained = TeacherTrainer(problem, None, "rmd", outer_steps=1, horizon=4).train()
    l2t.save_teacher(tmp_path / "teacher.safetensors", problem, trained, horizon=4, backend="rmd")
    return tmp_path / "teacher.safetensors"


def test_a_teacher_file_holds_weights_architecture_features_loss_versions_and_curves(file: Path) -> None:
    held = read_teacher(file)
    assert same_tensors(held.theta, load_file(file)), "safetensors alone reads the weights by their names"
    assert (held.problem, held.loss, held.horizon) == ("random", "bilinear_sigmoid", 4)
    assert held.teacher["class"] == "AttentionTeacher"
    options = {"classes": 4, "features": 1, "keys": 3, "gain": 1.0, "smoothing": 0.0, "noise": 0.3}
    assert held.teacher["options"] == options
    assert held.features == {"rule": "time"}
    assert held.versions["torch"] and held.summary["outer_steps"] == 1 and held.summary["backend"] == "rmd"


def test_the_rule_of_the_features_is_kept_with_its_numbers(tmp_path: Path) -> None:
    problem = l2t.build_problem(DIGITS)
    l2t.save_teacher(tmp_path / "t.safetensors", problem, problem.init_teacher(0))
    expected = {"rule": "PaperFeatures", "every": 5, "train_batches": 10, "dev_examples": 256}
    assert read_teacher(tmp_path / "t.safetensors").features == expected


def test_the_loaded_loss_is_the_problems_with_its_gradient(file: Path) -> None:
    problem, teacher = random_problem(), l2t.load_teacher(file)
    theta = theta_for(read_teacher(file), problem)
    inputs, targets = problem.train(0, 0)
    logits = problem.student(inputs)
    for time in (0.0, 0.75):
        phi = problem.phi(theta, torch.tensor([time], dtype=torch.float64))
        (expected,) = torch.autograd.grad(bilinear_sigmoid(logits, targets, phi), logits, retain_graph=True)
        (found,) = torch.autograd.grad(teacher(logits, targets, time), logits, retain_graph=True)
        assert torch.equal(found, expected) and found.abs().max() > 1e-4
    assert not any(param.requires_grad for param in teacher.parameters())


def test_a_plain_loop_under_the_loaded_loss_trains_the_student_that_teach_trains(file: Path) -> None:
    problem, horizon = random_problem(), 12
    taught = teach(problem, theta_for(read_teacher(file), problem), horizon=horizon, seed=3)
    teacher = l2t.load_teacher(file)
    student = module_at(problem.student, problem.init_student(3).params)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.3, momentum=0.9)
    for index in range(horizon):
        inputs, targets = problem.train(index, 3)
        loss = teacher(student(inputs), targets, index / horizon)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, param in student.named_parameters():
        torch.testing.assert_close(taught.params[name], param.detach(), rtol=0, atol=1e-12)


def test_the_papers_status_of_a_loop_of_ones_own_is_that_which_the_teacher_was_trained_on() -> None:
    problem = l2t.build_problem(DIGITS)
    state = problem.init_student(0)
    view = problem.view(state, 0, 10, 0, None)
    inputs, targets = problem.train(0, 0)
    dev_inputs, dev_targets = (torch.cat(parts) for parts in zip(*problem.dev_batches, strict=True))
    ours = l2t.features.paper_status(
        0.0, (problem.predict(state, inputs), targets), (problem.predict(state, dev_inputs), dev_targets)
    )
    assert problem.features is not None and torch.equal(ours, problem.features(view))


def test_a_theta_goes_to_another_precision_with_its_problem(file: Path) -> None:
    problem = random_problem().to(dtype=torch.float32)
    theta = theta_for(read_teacher(file), problem)
    problem.check_theta(theta)
    assert {tensor.dtype for tensor in theta.values()} == {torch.float32}


@pytest.mark.parametrize(
    "kind",
    [
        l2t.StaticTeacher(4, noise=0.1),
        l2t.AttentionTeacher(4, 2, keys=3, noise=0.1),
        l2t.DiagonalTeacher(4, 2, keys=3, noise=0.1),
    ],
)
def test_our_teachers_are_built_again_from_their_file_alone(tmp_path: Path, kind: nn.Module) -> None:
    problem = dataclasses.replace(random_problem(), teacher=kind.double(), features=_two_numbers)
    theta = problem.init_teacher(1)
    l2t.save_teacher(tmp_path / "t.safetensors", problem, theta)
    loss = l2t.load_teacher(tmp_path / "t.safetensors")
    status = torch.tensor([0.5, 0.25], dtype=torch.float64)
    assert torch.equal(loss.teacher(status), problem.phi(theta, status))


def _two_numbers(view: StudentView) -> Tensor:
    return torch.tensor([view.index / view.horizon, 0.25], dtype=torch.float64)


class OwnTeacher(nn.Module):
    """A teacher of a user's own, with a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.register_buffer("shift", torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.linear(features) + self.shift
        return found


def own_loss(output: Tensor, target: Tensor, phi: Tensor) -> Tensor:
    return (phi.exp() * (output.sum(-1) - target) ** 2).mean()


def own_problem() -> TeachingProblem:
    return dataclasses.replace(random_problem(), teacher=OwnTeacher().double(), loss=own_loss, name="own")


def test_a_teacher_and_a_loss_of_ones_own_are_handed_in(tmp_path: Path) -> None:
    problem, path = own_problem(), tmp_path / "own.safetensors"
    problem.teacher.shift.fill_(0.5)  # type: ignore[union-attr, operator]
    theta = problem.init_teacher(0)
    l2t.save_teacher(path, problem, theta)
    with pytest.raises(UserError, match=r"none of ours: give a module of it as teacher="):
        l2t.load_teacher(path)
    with pytest.raises(UserError, match=r"own_loss, which is none of ours: give it as loss="):
        l2t.load_teacher(path, teacher=OwnTeacher())
    given = OwnTeacher()
    before = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    loss = l2t.load_teacher(path, teacher=given, loss=own_loss)
    assert same_tensors(dict(given.state_dict()), before), "the module handed in is not changed"
    inputs, targets = problem.train(0, 0)
    phi = problem.phi(theta, torch.tensor([0.5], dtype=torch.float64))
    assert torch.equal(loss(problem.student(inputs), targets, 0.5), own_loss(problem.student(inputs), targets, phi))
    with pytest.raises(UserError, match="not a Linear as given"):
        l2t.load_teacher(path, teacher=nn.Linear(1, 1), loss=own_loss)


def test_what_a_teacher_does_not_train_is_in_its_file_too(tmp_path: Path) -> None:
    frozen, path = OwnTeacher().double(), tmp_path / "own.safetensors"
    frozen.linear.bias.requires_grad_(False).fill_(0.7)
    problem = dataclasses.replace(own_problem(), teacher=frozen)
    theta = problem.init_teacher(0)
    assert set(theta) == {"linear.weight"}
    l2t.save_teacher(path, problem, theta)
    loss, status = l2t.load_teacher(path, teacher=OwnTeacher(), loss=own_loss), torch.tensor([0.5], dtype=torch.float64)
    assert torch.equal(loss.teacher(status), problem.phi(theta, status))


@pytest.mark.parametrize("name", ["shift", "linear.bias"])
def test_students_are_taught_with_the_constants_that_the_teacher_was_trained_with(tmp_path: Path, name: str) -> None:
    def problem(constant: float) -> TeachingProblem:
        teacher = OwnTeacher().double()
        teacher.linear.bias.requires_grad_(False).zero_()
        teacher.state_dict()[name].fill_(constant)
        return dataclasses.replace(own_problem(), teacher=teacher)

    trained, fresh = problem(0.3), problem(0.1)
    theta, status = trained.init_teacher(0), torch.tensor([0.5], dtype=torch.float64)
    l2t.save_teacher(tmp_path / "t.safetensors", trained, theta)
    file = read_teacher(tmp_path / "t.safetensors")
    with pytest.raises(UserError, match=f"trained with another {name} than the teacher of own has"):
        theta_for(file, fresh)
    same = with_constants(file, fresh)
    assert torch.equal(same.phi(theta_for(file, same), status), trained.phi(theta, status))
    assert not torch.equal(fresh.phi(theta, status), trained.phi(theta, status))
    single = problem(0.3).to(dtype=torch.float32)
    assert with_constants(file, single) is single, "a constant that was rounded is the same"


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_outputs_of_another_number_of_classes_and_features_of_another_length_are_mistakes(file: Path) -> None:
    teacher = l2t.load_teacher(file)
    targets = torch.zeros(3).long()
    with pytest.raises(UserError, match=r"trained for 4 classes, and the outputs are of shape \(3, 5\)"):
        teacher(torch.zeros(3, 5).double(), targets, 0.0)
    with pytest.raises(UserError, match=r"s_t has 2 numbers, and the teacher reads 1, by the rule time"):
        teacher(torch.zeros(3, 4).double(), targets, torch.zeros(2))
    with pytest.raises(UserError, match="looks at s_t"):
        teacher(torch.zeros(3, 4).double(), targets)


def test_a_teacher_for_another_number_of_classes_teaches_no_student(tmp_path: Path, file: Path) -> None:
    digits = l2t.build_problem("digits/mlp[features=none,keys=3]")
    with pytest.raises(UserError, match=r"trained on random, for W \(4, 4, 3\).*digits/mlp.* has W \(10, 10, 3\)"):
        theta_for(read_teacher(file), digits)
    with pytest.raises(UserError, match="coefficients of bilinear_sigmoid, and own has own_loss"):
        theta_for(read_teacher(file), own_problem())


def test_a_theta_that_is_not_the_problems_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="theta"):
        l2t.save_teacher(tmp_path / "t.safetensors", random_problem(), {"W": torch.ones(2)})
    assert not list(tmp_path.iterdir())


def test_a_teacher_that_cannot_be_written_leaves_the_one_that_is_there(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("l2t_bench.durable.os.fsync", full)
    problem = random_problem()
    with pytest.raises(UserError, match="cannot be written: No space left"):
        l2t.save_teacher(file, problem, general_theta(problem))
    assert file.read_bytes() == before and [each.name for each in file.parent.iterdir()] == [file.name]


def header_with(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    return changed


def _shape(*shape: int) -> Callable[[dict[str, Any]], None]:
    return lambda header: header["W"].update(shape=list(shape))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:-10], "is cut short"),
        (lambda content: b"", "is cut short"),
        (header_with(_shape(2**40, 2**40, 3)), "is cut short or no safetensors file"),
        (header_with(_shape(-4, -4, 3)), "is cut short or no safetensors file"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 8]), "was altered"),
    ],
    ids=["cut", "empty", "huge", "negative", "flipped"],
)
def test_a_damaged_teacher_file_is_refused(file: Path, damage: Callable[[bytes], bytes], said: str) -> None:
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=said):
        l2t.load_teacher(file)


def test_what_is_no_teacher_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no teacher file"):
        l2t.load_teacher(tmp_path / "nothing.safetensors")
    save_file({"W": torch.ones(2)}, tmp_path / "bare.safetensors")
    with pytest.raises(UserError, match="is not a teacher file of l2t_bench's"):
        l2t.load_teacher(tmp_path / "bare.safetensors")
    folder = tmp_path / "run"
    TeacherTrainer(
        random_problem(), None, "rmd", outer_steps=1, horizon=2, checkpoints=folder, optimizer=TeacherOptimizer()
    ).train()
    (checkpoint,) = folder.glob("*.safetensors")
    with pytest.raises(UserError, match="is a checkpoint file, not a teacher file"):
        l2t.load_teacher(checkpoint)
