"""The paper's students and teacher: sizes, shapes and formulas."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.students.lenet import LeNet
from l2t_bench.students.mlp import MLP
from l2t_bench.teachers import AttentionTeacher


def parameters(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


@pytest.mark.parametrize(
    ("student", "count"),
    [
        (MLP(784), 784 * 500 + 500 + 500 * 10 + 10),
        (MLP(784), 397_510),
        (LeNet(28), 431_080),
        (LeNet(28), (25 + 1) * 20 + (20 * 25 + 1) * 50 + (800 + 1) * 500 + (500 + 1) * 10),
        (MLP(64, hidden=100), 7_510),
        (LeNet(28, filters=8, hidden=100), (25 + 1) * 8 + (8 * 25 + 1) * 20 + (320 + 1) * 100 + (100 + 1) * 10),
        (LeNet(8, padding=2), (25 + 1) * 20 + (20 * 25 + 1) * 50 + (200 + 1) * 500 + (500 + 1) * 10),
    ],
)
def test_a_student_has_the_papers_number_of_parameters(student: nn.Module, count: int) -> None:
    assert parameters(student) == count


@pytest.mark.parametrize(
    ("name", "count"),
    [("digits/mlp", 7_510), ("digits/lenet", 131_080), ("mnist/mlp", 397_510), ("mnist/lenet", 431_080)],
)
def test_a_named_problem_has_the_student_of_its_name(name: str, count: int) -> None:
    assert parameters(l2t.build_problem(name).student) == count


@pytest.mark.parametrize(
    ("student", "side"),
    [(MLP(784), 28), (MLP(64, 100), 8), (LeNet(28), 28), (LeNet(8, padding=2), 8), (LeNet(8, 2, pool="average"), 8)],
)
def test_a_student_gives_one_row_of_logits_per_image(student: nn.Module, side: int) -> None:
    images = torch.rand(3, 1, side, side)
    logits = student(images)
    assert logits.shape == (3, 10)
    torch.testing.assert_close(student(images[1:2]), logits[1:2])


def test_the_mlp_is_two_linear_maps_with_a_nonlinearity_in_between() -> None:
    for name, function in (("relu", torch.relu), ("tanh", torch.tanh)):
        student = MLP(4, 3, 2, name)
        images = torch.randn(5, 1, 2, 2)
        by_hand = function(images.reshape(5, 4) @ student.hidden.weight.T + student.hidden.bias)
        torch.testing.assert_close(student(images), by_hand @ student.output.weight.T + student.output.bias)


def test_pooling_is_of_the_kind_that_was_asked_for() -> None:
    image = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert float(LeNet(8, 2, pool="max").pool(image)) == 6.0
    assert float(LeNet(8, 2, pool="average").pool(image)) == 3.0


@pytest.mark.parametrize(
    ("build", "answer"),
    [
        (lambda: MLP(4, nonlinearity="sine"), "no nonlinearity 'sine': there are relu and tanh"),
        (lambda: LeNet(28, nonlinearity="sine"), "no nonlinearity 'sine': there are relu and tanh"),
        (lambda: LeNet(28, pool="sum"), "no pooling 'sum': there are max and average"),
        (lambda: LeNet(8), "images of 8x8 are too small for LeNet with padding 0"),
        (lambda: MLP(4, hidden=0), "the hidden layer must have at least one unit, not 0"),
        (lambda: LeNet(28, filters=0), "a LeNet must have at least one filter, not 0"),
        (lambda: LeNet(28, hidden=-1), "the hidden layer must have at least one unit, not -1"),
    ],
)
def test_a_student_that_cannot_be_built_says_why(build: object, answer: str) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        build()  # type: ignore[operator]


# -- the teacher -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 6), st.integers(1, 4))
def test_phi_is_W_weighted_by_a_softmax_over_keys(seed: int, classes: int, features: int, keys: int) -> None:
    torch.manual_seed(seed)
    teacher = AttentionTeacher(classes, features, keys, noise=1.0).double()
    s = torch.rand(features, dtype=torch.float64)
    W, V = teacher.W.detach(), teacher.V.detach()
    scores = [float(V[key] @ s) for key in range(keys)]
    weights = torch.tensor(scores, dtype=torch.float64).exp()
    weights /= weights.sum()
    by_hand = sum((weights[key] * W[:, :, key] for key in range(keys)), start=torch.zeros(()))
    assert isinstance(by_hand, Tensor)
    torch.testing.assert_close(teacher(s).detach(), by_hand, rtol=1e-12, atol=1e-12)


def test_every_key_of_a_teacher_without_noise_starts_at_the_smoothed_identity() -> None:
    teacher = AttentionTeacher(4, features=7, keys=3, gain=0.3, smoothing=0.1)
    start = 0.3 * (0.9 * torch.eye(4) + 0.1 / 4)
    for key in range(3):
        torch.testing.assert_close(teacher.W[:, :, key], start)
    torch.testing.assert_close(teacher(torch.rand(7)), start)  # whatever the status: weights add up to one


def test_noise_is_a_standard_normal_times_its_size_and_V_a_standard_normal() -> None:
    torch.manual_seed(0)
    teacher = AttentionTeacher(20, features=50, keys=40, noise=0.5)
    around = teacher.W.detach() - torch.eye(20)[:, :, None]
    assert float(around.mean()) == pytest.approx(0, abs=0.02) and float(around.std()) == pytest.approx(0.5, rel=0.03)
    V = teacher.V.detach()
    assert float(V.mean()) == pytest.approx(0, abs=0.1) and float(V.std()) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("digits/mlp", {"W": (10, 10, 10), "V": (10, 13)}),
        ("digits/mlp[keys=1,features=none]", {"W": (10, 10, 1), "V": (1, 1)}),
    ],
)
def test_a_named_problems_teacher_has_the_papers_shapes(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    theta = l2t.build_problem(name).init_teacher(0)
    assert {key: tuple(tensor.shape) for key, tensor in theta.items()} == shapes


@pytest.mark.parametrize(
    "options",
    [{"keys": 0}, {"keys": -1}, {"classes": 0}, {"noise": -0.1}, {"smoothing": 1.5}, {"smoothing": -0.1}],
)
def test_a_teacher_that_cannot_be_built_says_why(options: dict[str, float]) -> None:
    with pytest.raises(l2t.UserError, match=r"must be at least 1, not|noise must not be negative and smoothing in"):
        AttentionTeacher(**{"classes": 3, "features": 2, **options})  # type: ignore[arg-type]
