"""The problems on CIFAR and on one's own arrays: students, schedules, treatment of the images, what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import l2t_bench as l2t
from l2t_bench.augmentation import CropFlip
from l2t_bench.data.checksums import data_record
from l2t_bench.data.splits import Arrays
from l2t_bench.registry import problem_class


def parameters(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cifar10/resnet8", 75_290),
        ("cifar10/resnet20", 269_722),
        ("cifar10/resnet32", 464_154),
        ("cifar100/resnet8", 75_290 + 90 * 65),
        ("cifar100/resnet20", 269_722 + 90 * 65),
        ("cifar100/resnet32", 464_154 + 90 * 65),
        ("cifar10/wrn-16-2", 691_674),
        ("cifar10/densenet-bc-40-12", 176_122),
        ("arrays/resnet8", 75_290),
        ("arrays/wrn-16-2", 691_674),
    ],
)
def test_a_named_problem_has_the_student_of_its_name(name: str, count: int) -> None:
    assert parameters(l2t.build_problem(name).student) == count


def pool(classes: int, each: int, size: int = 32, channels: int = 3, seed: int = 0) -> Arrays:
    images = np.random.default_rng(seed).integers(0, 256, (classes * each, channels, size, size), dtype=np.uint8)
    return Arrays(images, np.arange(classes * each, dtype=np.int64) % classes)


@pytest.fixture
def cifar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CIFAR-10 of 120 training and 20 test images, a CIFAR-100 of 400 and 100."""
    monkeypatch.setattr("l2t_bench.cifar_problems.load_cifar10", lambda: (pool(10, 12), pool(10, 2, seed=1)))
    monkeypatch.setattr("l2t_bench.cifar_problems.load_cifar100", lambda: (pool(100, 4), pool(100, 1, seed=1)))


def test_the_optimiser_of_cifar_is_the_papers() -> None:
    definition = problem_class("cifar10/resnet8")()
    assert (definition.batch, definition.lr, definition.momentum) == (128, 0.1, 0.9)
    problem = l2t.build_problem("cifar10/resnet8")
    epoch = 45_000 // 128
    rates = [
        problem.optimizer.lr_at(at, 80 * epoch) for at in (0, 40 * epoch - 1, 40 * epoch, 60 * epoch - 1, 60 * epoch)
    ]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    assert problem.optimizer.momentum == 0.9 and problem.optimizer.weight_decay == 0


@pytest.mark.parametrize(("name", "batch"), [("mnist/mlp", 20), ("mnist/lenet", 500)])
def test_the_optimiser_of_mnist_is_the_papers(name: str, batch: int) -> None:
    definition = problem_class(name)()
    assert (definition.batch, definition.lr, definition.momentum, definition.schedule) == (batch, 0.01, 0.9, "constant")


@pytest.mark.usefixtures("cifar")
def test_lr_drops_fall_between_the_epochs_of_the_batches_that_are_drawn() -> None:
    problem = l2t.build_problem("cifar10/resnet8[filters=1,batch=30,train=100,dev=20,first_drop=2,second_drop=3]")
    assert [problem.optimizer.lr_at(at, 12) for at in range(12)] == pytest.approx([0.1] * 6 + [0.01] * 3 + [0.001] * 3)
    rows = [problem.train(at, 0).rows for at in range(3)]
    assert len(set(torch.cat(rows).tolist())) == 90, "an epoch is three batches"


@pytest.mark.usefixtures("cifar")
def test_the_mean_image_of_train_alone_is_subtracted_from_all() -> None:
    options = "filters=1,batch=20,train=100,dev=20,dev_chunk=20"
    treated = l2t.build_problem(f"cifar10/resnet8[{options}]", dtype="float64")
    plain = l2t.build_problem(f"cifar10/resnet8[{options},subtract_mean=false]", dtype="float64")
    own, raw = treated.train.examples, plain.train.examples  # type: ignore[attr-defined]
    mean = raw.inputs.mean(0)
    assert mean.shape == (3, 32, 32) and float(mean.min()) > 0 and float(mean.max()) < 1
    torch.testing.assert_close(own.inputs, raw.inputs - mean, rtol=0, atol=1e-14)
    for part in ("dev_batches", "test_batches"):
        ((ours, _),), ((theirs, _),) = getattr(treated, part), getattr(plain, part)
        torch.testing.assert_close(ours, theirs - mean, rtol=0, atol=1e-14)


@pytest.mark.usefixtures("cifar")
def test_training_images_are_cropped_and_flipped_by_index_and_seed_and_dev_images_are_not() -> None:
    problem = l2t.build_problem("cifar10/resnet8[filters=1,batch=20,train=100,dev=20]")
    batch = problem.train(3, 1)
    inputs, targets = batch
    as_they_are, labels = (part[batch.rows] for part in problem.train.examples)  # type: ignore[attr-defined]
    assert torch.equal(inputs, CropFlip(4)(as_they_are, batch.seed)) and torch.equal(targets, labels)
    assert not torch.equal(inputs, as_they_are)
    plain = l2t.build_problem("cifar10/resnet8[filters=1,batch=20,train=100,dev=20,augment=none]")
    assert torch.equal(next(iter(plain.train(3, 1))), as_they_are)
    assert all(
        torch.equal(ours, theirs) for (ours, _), (theirs, _) in zip(problem.dev_batches, plain.dev_batches, strict=True)
    )


@pytest.mark.usefixtures("cifar")
def test_for_a_hundred_classes_the_features_have_103_entries_and_phi_is_100x100() -> None:
    problem = l2t.build_problem("cifar100/resnet8[filters=1,batch=20,train=200,dev=200,keys=2,refresh=1]")
    theta = problem.init_teacher(0)
    assert theta["W"].shape == (100, 100, 2) and theta["V"].shape == (2, 103)
    found = l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=1)
    assert found.steps[0].features.shape == (103,)
    assert problem.phi(theta, found.steps[0].features).shape == (100, 100)


# -- one's own arrays --------------------------------------------------------------------------------------------------


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def own(tmp_path: Path, *, size: int = 8, channels: int = 2, test: bool = True, **changed: np.ndarray) -> Path:
    """A file of 60 images of three classes, and 9 of a test set."""
    generator = np.random.default_rng(2)
    shape = (size, size) if channels == 1 else (size, size, channels)
    arrays = {
        "train_images": generator.integers(0, 256, (60, *shape), dtype=np.uint8),
        "train_labels": np.arange(60) % 3,
    }
    if test:
        arrays["test_images"] = generator.integers(0, 256, (9, *shape), dtype=np.uint8)
        arrays["test_labels"] = np.arange(9) % 3
    return save(tmp_path / "own.npz", **(arrays | changed))


SIZES = "size=8,channels=2,classes=3,batch=6,train=30,dev=15,features=none"


@pytest.mark.parametrize(
    "student", ["mlp", "lenet", "resnet8[filters=1]", "wrn-16-2[filters=1]", "densenet-bc-40-12[growth=1]"]
)
def test_a_student_is_taught_on_ones_own_images(student: str, tmp_path: Path) -> None:
    name, _, options = student.rstrip("]").partition("[")
    own_options = ",".join(filter(None, (f"path={own(tmp_path)}", SIZES, options)))
    problem = l2t.build_problem(f"arrays/{name}[{own_options}]", dtype="float64")
    inputs, _ = problem.train(0, 0)
    assert inputs.shape == (6, 2, 8, 8) and float(inputs.min()) >= 0 and float(inputs.max()) <= 1
    assert sum(len(labels) for _, labels in problem.test_batches) == 9
    found = l2t.load_backend("rmd").teacher_gradient(problem, problem.init_teacher(0), horizon=2)
    assert torch.isfinite(found.d_theta["W"]).all()


def test_images_keep_their_places_and_labels(tmp_path: Path) -> None:
    path = own(tmp_path, channels=1, test=False)
    problem = l2t.build_problem(f"arrays/mlp[path={path},size=8,channels=1,classes=3,batch=6,train=30,dev=15]")
    parts = [*problem.dev_batches, *problem.test_batches, problem.train.examples]  # type: ignore[attr-defined]
    with np.load(path) as held:
        expected = {
            image.tobytes(): int(label) for image, label in zip(held["train_images"], held["train_labels"], strict=True)
        }
    seen = [
        (np.rint(image[0].numpy() * 255).astype(np.uint8).tobytes(), int(label))
        for inputs, targets in parts
        for image, label in zip(inputs, targets, strict=True)
    ]
    assert len(seen) == 60 and dict(seen) == expected, "what train and dev leave is the test set"


def test_a_name_that_is_not_here_is_looked_for_in_the_data_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(tmp_path)
    monkeypatch.setenv("L2T_BENCH_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path.parent)
    problem = l2t.build_problem(f"arrays/mlp[path=own.npz,{SIZES}]")
    assert len(problem.train.examples.targets) == 30  # type: ignore[attr-defined]
    assert set(data_record(problem.name)) == {"data set", "own.npz"}


def test_a_result_names_the_file_and_not_its_folder(tmp_path: Path) -> None:
    told = data_record(f"arrays/mlp[path={own(tmp_path)},size=8]")
    assert told["data set"] == "arrays of own.npz" and told["own.npz"].startswith("sha256:")
    assert str(tmp_path) not in repr(told)
    assert data_record("digits/mlp[batch=5]")["data set"] == "scikit-learn digits, 8x8"
    assert data_record("mine/tiny") == {} == data_record("arrays/mlp")


LABELS = np.arange(60) % 3
BAD: list[tuple[Callable[[Path], Path], str]] = [
    (lambda at: own(at, size=9), "training images: images of 9x9 with 2 channels, where the problem has 8x8 with 2"),
    (lambda at: own(at, channels=3), "images of 8x8 with 3 channels, where the problem has 8x8 with 2"),
    (lambda at: own(at, train_images=np.zeros((60, 8, 8, 2))), "train_images .* must be uint8, not float64"),
    (lambda at: own(at, train_images=np.zeros((60, 64), np.uint8)), r"must be \(N, S, S\) or \(N, S, S, C\)"),
    (lambda at: own(at, train_images=np.zeros((60, 8, 6, 2), np.uint8)), "images of 8x6 with 2 channels"),
    (lambda at: own(at, train_labels=LABELS + 1), "labels from 1 to 3, where 3 classes are 0 to 2"),
    (lambda at: own(at, train_labels=LABELS - 1), "labels from -1 to 1, where 3 classes are 0 to 2"),
    (lambda at: own(at, test_labels=np.full(9, 7)), "test images: labels from 7 to 7, where 3 classes"),
    (lambda at: own(at, train_labels=LABELS / 2), "train_labels .* must be whole numbers, not float64"),
    (lambda at: own(at, train_labels=LABELS[:50]), r"are 60, and train_labels have the shape \(50,\)"),
    (lambda at: own(at, train_labels=LABELS % 2), "dev has 15 examples and none of class 2: take a larger dev"),
    (
        lambda at: own(at, train_images=np.zeros((0, 8, 8, 2), np.uint8), train_labels=LABELS[:0]),
        "train_images .* are none",
    ),
    (lambda at: save(at / "other.npz", images=np.zeros(3)), "lacks train_images; it has images and must hold"),
    (lambda at: own(at, train_labels=np.array([None] * 60, object)), r"cannot be read as a \.npz file"),
    (lambda at: at / "nowhere.npz", "there is no file .*nowhere.npz"),
]


@pytest.mark.parametrize(("make", "answer"), BAD)
def test_a_file_that_does_not_fit_is_refused_before_the_first_step(
    make: Callable[[Path], Path], answer: str, tmp_path: Path
) -> None:
    problem = l2t.build_problem(f"arrays/mlp[path={make(tmp_path)},{SIZES}]")
    with pytest.raises(l2t.UserError, match=answer):
        l2t.teach(problem, problem.init_teacher(0), horizon=2, seed=0)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"a text"])
def test_a_file_that_is_no_npz_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "own.npz").write_bytes(content)
    problem = l2t.build_problem(f"arrays/mlp[path={tmp_path / 'own.npz'}]")
    with pytest.raises(l2t.UserError, match=r"cannot be read as a \.npz file"):
        problem.train(0, 0)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = own(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(l2t.UserError, match=r"cannot be read as a \.npz file"):
        l2t.build_problem(f"arrays/mlp[path={path},{SIZES}]").train(0, 0)


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ("arrays/mlp", "arrays need the option path=FILE.npz, a file that holds train_images"),
        ("arrays/mlp[path=OWN,size=8,channels=2,classes=3,train=0]", "train and dev must each hold an example"),
        ("arrays/mlp[path=OWN,size=8,channels=2,classes=3,train=50,dev=0]", "train and dev must each hold an example"),
        ("arrays/mlp[path=OWN,size=8,channels=2,classes=3,train=50,dev=20]", "are more than the 60 examples there are"),
        ("arrays/mlp[path=OWN,size=8,channels=2,classes=1]", "at least 1 and two classes"),
        ("arrays/resnet8[path=OWN,size=0]", "size and channels of at least 1"),
        ("cifar10/resnet8[first_drop=60,second_drop=40]", "give them in order, from 1"),
    ],
)
def test_options_that_cannot_be_are_an_error(spec: str, answer: str, tmp_path: Path) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        l2t.build_problem(spec.replace("OWN", str(own(tmp_path)))).train(0, 0)


def test_a_test_set_that_train_and_dev_leave_nothing_for_is_said_to_be_empty(tmp_path: Path) -> None:
    path = own(tmp_path, test=False)
    problem = l2t.build_problem(f"arrays/mlp[path={path},size=8,channels=2,classes=3,batch=6,train=45,dev=15]")
    with pytest.raises(l2t.UserError, match="the test set is empty: train and dev take all the images there are"):
        _ = problem.test_batches


def test_digits_whose_dev_lacks_a_class_are_refused_before_the_first_step() -> None:
    """They are split by a shuffle, which may leave one out."""
    problem = l2t.build_problem("digits/mlp[dev=5]")
    with pytest.raises(l2t.UserError, match="dev has 5 examples and none of class"):
        l2t.teach(problem, problem.init_teacher(0), horizon=1, seed=0)
