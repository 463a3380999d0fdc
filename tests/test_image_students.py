"""ResNet, Wide ResNet and DenseNet-BC: published sizes, formulas, and gradients by every exact backend."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import l2t_bench as l2t
from l2t_bench.augmentation import CropFlip
from l2t_bench.batches import Examples, IndexedBatches
from l2t_bench.losses.dynamic import bilinear_sigmoid
from l2t_bench.objectives import ExpectedAccuracy
from l2t_bench.students.densenet import DenseLayer, DenseNetBC, Transition
from l2t_bench.students.resnet import ResidualBlock, ResNet
from l2t_bench.students.wide_resnet import WideBlock, WideResNet
from l2t_bench.teachers import AttentionTeacher


def parameters(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


# -- sizes -------------------------------------------------------------------------------------------------------------

PUBLISHED = [
    ("ResNet-20", lambda: ResNet(20), 0.27, 2),  # He et al. 2016, table 6
    ("ResNet-32", lambda: ResNet(32), 0.46, 2),
    ("ResNet-56", lambda: ResNet(56), 0.85, 2),
    ("ResNet-110", lambda: ResNet(110), 1.7, 1),
    ("WRN-40-1", lambda: WideResNet(40, 1), 0.6, 1),  # Zagoruyko and Komodakis 2016, tables 3 to 5
    ("WRN-16-2", lambda: WideResNet(16, 2), 0.7, 1),
    ("WRN-16-4", lambda: WideResNet(16, 4), 2.7, 1),
    ("WRN-28-10", lambda: WideResNet(28, 10), 36.5, 1),
    ("WRN-40-10", lambda: WideResNet(40, 10), 55.8, 1),
    ("DenseNet-BC-100-12", lambda: DenseNetBC(100, 12), 0.8, 1),  # Huang et al. 2017, table 2
    ("DenseNet-BC-250-24", lambda: DenseNetBC(250, 24), 15.3, 1),
    ("DenseNet-BC-190-40", lambda: DenseNetBC(190, 40), 25.6, 1),
]


@pytest.mark.parametrize(("build", "millions", "digits"), [row[1:] for row in PUBLISHED], ids=[r[0] for r in PUBLISHED])
def test_a_student_has_the_published_number_of_parameters(build: object, millions: float, digits: int) -> None:
    with torch.device("meta"):
        student = build()  # type: ignore[operator]
    assert round(parameters(student) / 1e6, digits) == millions


@pytest.mark.parametrize(
    "build",
    [
        lambda: ResNet(8, classes=100, filters=2),
        lambda: WideResNet(10, 2, classes=100, filters=2),
        lambda: DenseNetBC(10, 2, classes=100),
    ],
)
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (3, 12)])
def test_a_student_gives_one_row_of_logits_per_image(build: object, channels: int, size: int) -> None:
    student = build().eval()  # type: ignore[operator]
    images = torch.rand(3, channels, size, size)
    logits = student(images)
    assert logits.shape == (3, 100)
    torch.testing.assert_close(student(images[1:2]), logits[1:2])


@pytest.mark.parametrize(
    ("build", "answer"),
    [
        (lambda: ResNet(18), r"a ResNet for CIFAR has 6n \+ 2 layers .* not 18"),
        (lambda: ResNet(2), r"a ResNet for CIFAR has 6n \+ 2 layers .* not 2"),
        (lambda: ResNet(8, filters=0), "at least one filter, not 0"),
        (lambda: ResNet(8, nonlinearity="sine"), "no nonlinearity 'sine'"),
        (lambda: WideResNet(18, 2), r"a Wide ResNet has 6n \+ 4 layers .* not 18"),
        (lambda: WideResNet(16, 0), "must be at least 1, not 0 and 16"),
        (lambda: DenseNetBC(41, 12), r"a DenseNet-BC has 6n \+ 4 layers .* not 41"),
        (lambda: DenseNetBC(40, 0), "growth rate must be at least 1, not 0"),
    ],
)
def test_a_student_that_cannot_be_built_says_why(build: object, answer: str) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        build()  # type: ignore[operator]


# -- formulas ----------------------------------------------------------------------------------------------------------


def test_a_shortcut_where_the_shape_changes_is_every_other_pixel_between_maps_of_zeros() -> None:
    maps = torch.randn(2, 4, 6, 6)
    found = ResidualBlock(4, 8, 2).shortcut(maps)
    assert found.shape == (2, 8, 3, 3)
    assert torch.equal(found[:, 2:6], maps[:, :, ::2, ::2])
    assert not found[:, :2].any() and not found[:, 6:].any()
    assert ResidualBlock(4, 4, 1).shortcut(maps) is maps


def test_a_residual_block_whose_last_scale_is_zero_is_its_shortcut() -> None:
    block = ResidualBlock(4, 8, 2)
    nn.init.zeros_(block.second_norm.weight)
    maps = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(block(maps), F.relu(block.shortcut(maps)))


def test_a_wide_block_is_normalised_before_each_convolution() -> None:
    block, maps = WideBlock(4, 6, 2), torch.randn(5, 4, 6, 6)
    norm = lambda x: F.relu(F.batch_norm(x, None, None, training=True))  # noqa: E731
    ready = norm(maps)
    inner = F.conv2d(norm(F.conv2d(ready, block.first.weight, stride=2, padding=1)), block.second.weight, padding=1)
    assert block.projection is not None
    torch.testing.assert_close(block(maps), inner + F.conv2d(ready, block.projection.weight, stride=2))
    assert WideBlock(4, 4, 1).projection is None, "the identity where the shape stays"


def test_a_dense_layer_keeps_its_input_and_a_transition_halves_maps_and_image() -> None:
    maps = torch.randn(5, 6, 4, 4)
    layer = DenseLayer(6, 3)
    grown = layer(maps)
    assert grown.shape == (5, 9, 4, 4) and torch.equal(grown[:, :6], maps)
    assert layer.first.weight.shape == (12, 6, 1, 1), "a bottleneck of four times the growth rate"
    assert Transition(9, 4)(grown).shape == (5, 4, 2, 2)


def test_convolutions_start_at_the_variance_of_he_et_al() -> None:
    weight = small_problem(ResNet(8, classes=3)).init_student(0).params["blocks.2.second.weight"]
    assert weight.shape == (64, 64, 3, 3)
    assert float(weight.std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


# -- teacher gradients -------------------------------------------------------------------------------------------------

EXACT = [
    *("higher", "torchopt", "torchopt[api=meta]", "functorch"),
    *("rmd[store=sqrt]", "rmd[hvp=for]", "truncated[window=3]"),
]
SMALL = {
    "resnet": lambda: ResNet(8, classes=3, filters=2),
    "wide-resnet": lambda: WideResNet(10, 2, classes=3, filters=1),
    "densenet": lambda: DenseNetBC(10, 2, classes=3),
}


def small_problem(student: nn.Module) -> l2t.TeachingProblem:
    """Augmented 8x8 images of three classes, train-mode BatchNorm, ReLU, in float64."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(24, 3, 8, 8, generator=generator, dtype=torch.float64)
    targets = torch.randint(3, (24,), generator=generator)
    return l2t.TeachingProblem(
        student=student.double(),
        teacher=AttentionTeacher(3, features=1, keys=2, noise=0.3).double(),
        loss=bilinear_sigmoid,
        objective=ExpectedAccuracy(),
        optimizer=l2t.SGD(lr=0.1, momentum=0.9),
        train=IndexedBatches(Examples(images[:16], targets[:16]), 8, CropFlip(2)),
        dev=(images[16:], targets[16:]),
    )


@pytest.mark.parametrize("kind", SMALL)
def test_every_exact_backend_gives_the_same_teacher_gradient(kind: str) -> None:
    problem = small_problem(SMALL[kind]())
    theta = problem.init_teacher(0)
    reference = l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=3, seed=0)
    scale = max(float(tensor.norm()) for tensor in reference.d_theta.values())
    assert scale > 1e-6, "the sample must reach the teacher"
    for spec in EXACT:
        found = l2t.load_backend(spec).teacher_gradient(problem, theta, steps=reference.steps)
        assert found.value == pytest.approx(reference.value, rel=1e-12)
        for name, tensor in reference.d_theta.items():
            away = float((found.d_theta[name] - tensor).norm())
            assert away < 1e-11 * scale, (spec, name, away / scale)


@pytest.mark.parametrize("kind", SMALL)
def test_batch_norm_and_augmentation_replay_bit_for_bit(kind: str) -> None:
    problem = small_problem(SMALL[kind]())
    theta = problem.init_teacher(0)
    first, second = (l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=3, seed=1) for _ in range(2))
    again = l2t.load_backend("rmd").teacher_gradient(problem, theta, steps=first.steps, seed=1)
    for other in (second, again):
        assert all(torch.equal(other.d_theta[name], tensor) for name, tensor in first.d_theta.items())
        assert all(torch.equal(other.final.buffers[name], held) for name, held in first.final.buffers.items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_the_compiled_engine_agrees(kind: str) -> None:
    problem = small_problem(SMALL[kind]())
    theta = problem.init_teacher(0)
    plain = l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=3, seed=0)
    compiled = l2t.load_backend("rmd[engine=compiled]").teacher_gradient(problem, theta, steps=plain.steps)
    for name, tensor in plain.d_theta.items():
        torch.testing.assert_close(compiled.d_theta[name], tensor, rtol=1e-9, atol=1e-12)
