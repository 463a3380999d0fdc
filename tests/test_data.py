"""The data sets: what is read, how it is split, and what a user is told when it is not there."""

import gzip
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import l2t_bench as l2t
from l2t_bench.data.digits import load_digits
from l2t_bench.data.mnist import load_mnist
from l2t_bench.data.mnist_files import FILES
from l2t_bench.data.root import VARIABLE, data_root
from l2t_bench.data.splits import Arrays, ImageSplits, SplitSizes, split_rows

# -- splits ------------------------------------------------------------------------------------------------------------

sizes = st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(0, 40), st.integers(0, 2**31))


@given(sizes)
def test_train_dev_and_the_rest_partition_the_examples(size: tuple[int, int, int, int]) -> None:
    train, dev, rest, seed = size
    parts = split_rows(train + dev + rest, SplitSizes(train, dev, seed))
    assert [len(part) for part in parts] == [train, dev, rest]
    assert sorted(np.concatenate(parts).tolist()) == list(range(train + dev + rest))


@given(sizes)
def test_a_split_is_a_function_of_its_sizes_and_seed_alone(size: tuple[int, int, int, int]) -> None:
    train, dev, rest, seed = size
    first, again = (split_rows(train + dev + rest, SplitSizes(train, dev, seed)) for _ in range(2))
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(first, again, strict=True))


def test_another_seed_splits_otherwise() -> None:
    trains = {tuple(split_rows(100, SplitSizes(50, 20, seed))[0].tolist()) for seed in range(50)}
    assert len(trains) == 50


@pytest.mark.parametrize(
    ("train", "dev", "seed", "answer"),
    [
        (0, 5, 0, "train and dev must each hold an example, not 0 and 5"),
        (5, -1, 0, "train and dev must each hold an example, not 5 and -1"),
        (5, 5, -1, "the seed of the split must not be negative, not -1"),
        (6, 5, 0, "train=6 and dev=5 are more than the 10 examples there are"),
    ],
)
def test_sizes_that_cannot_be_are_an_error(train: int, dev: int, seed: int, answer: str) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        split_rows(10, SplitSizes(train, dev, seed))


def numbered(count: int) -> Arrays:
    """Image i is i everywhere, its label i modulo 10."""
    images = np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None, None], (count, 1, 2, 2))
    return Arrays(images.copy(), np.arange(count) % 10)


@pytest.mark.parametrize("own_test", [True, False])
def test_images_keep_their_labels_and_dev_is_never_taken_from_a_test_set(own_test: bool) -> None:
    pool, test = numbered(20), Arrays(-numbered(7).images - 1, numbered(7).labels)
    load: Callable[[], tuple[Arrays, Arrays | None]] = lambda: (pool, test if own_test else None)  # noqa: E731
    splits = ImageSplits(load, SplitSizes(9, 5), torch.device("cpu"), torch.float64)
    seen = {name: part() for name, part in (("train", splits.train), ("dev", splits.dev), ("test", splits.test))}
    for examples in seen.values():
        assert examples.inputs.dtype == torch.float64 and examples.targets.dtype == torch.int64
    rows = {name: examples.inputs[:, 0, 0, 0].long() for name, examples in seen.items()}
    for name in ("train", "dev") if own_test else ("train", "dev", "test"):
        assert torch.equal(seen[name].targets, rows[name] % 10)
    taken = rows["train"].tolist() + rows["dev"].tolist()
    assert len(set(taken)) == 14 and min(taken) >= 0
    assert rows["test"].tolist() == ([-1, -2, -3, -4, -5, -6, -7] if own_test else rows["test"].tolist())
    assert not set(taken) & set(rows["test"].tolist())
    assert len(rows["test"]) == (7 if own_test else 6)


# -- digits ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sklearn_digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits as sklearn_load

    found = sklearn_load()
    return found.images, found.target


def test_the_digits_are_scikit_learns(sklearn_digits: tuple[np.ndarray, np.ndarray]) -> None:
    (images, labels), test = load_digits()
    theirs, their_labels = sklearn_digits
    assert test is None
    assert images.shape == (1797, 1, 8, 8) and images.dtype == np.float32 and labels.dtype == np.int64
    assert np.array_equal(images[:, 0] * 16, theirs) and np.array_equal(labels, their_labels)
    assert images.min() == 0 and images.max() == 1


def test_where_the_file_has_moved_scikit_learns_own_loader_is_asked(
    sklearn_digits: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Moved:
        def locate_file(self, name: str) -> Path:
            return tmp_path / name

    monkeypatch.setattr("l2t_bench.data.digits_files.distribution", lambda name: Moved())
    (images, labels), _ = load_digits()
    assert np.array_equal(images[:, 0] * 16, sklearn_digits[0]) and np.array_equal(labels, sklearn_digits[1])


@pytest.mark.parametrize("name", ["digits/mlp", "digits/lenet"])
def test_a_digits_problems_train_dev_and_test_are_disjoint_and_all_there_is(name: str) -> None:
    problem = l2t.build_problem(f"{name}[train=900,dev=400]", dtype="float64")
    parts = {
        "train": torch.cat([next(iter(problem.train(index, 0))) for index in range(45)]),  # an epoch
        "dev": torch.cat([inputs for inputs, _ in problem.dev_batches]),
        "test": torch.cat([inputs for inputs, _ in problem.test_batches]),
    }
    assert {part: len(images) for part, images in parts.items()} == {"train": 900, "dev": 400, "test": 497}
    together = Counter(image.numpy().tobytes() for images in parts.values() for image in images)
    assert together == Counter(image.astype(np.float64).tobytes() for image in load_digits()[0].images)


def test_a_large_dev_set_comes_in_chunks() -> None:
    problem = l2t.build_problem("digits/mlp[dev=450,dev_chunk=200]")
    assert [len(targets) for _, targets in problem.dev_batches] == [200, 200, 50]


# -- MNIST -------------------------------------------------------------------------------------------------------------

TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def listing(root: Path) -> list[tuple[str, int]]:
    return sorted((str(path.relative_to(root)), path.stat().st_size) for path in root.rglob("*"))


def test_mnist_is_read_as_it_is_and_nothing_is_written_to_the_data_root(mnist_root: Path) -> None:
    before = listing(mnist_root)
    train, test = load_mnist()
    assert train.images.shape == (60_000, 1, 28, 28) and test.images.shape == (10_000, 1, 28, 28)
    assert train.images.dtype == np.float32 and (train.images.min(), train.images.max()) == (0, 1)
    assert np.bincount(train.labels).tolist() == TRAIN_COUNTS and np.bincount(test.labels).tolist() == TEST_COUNTS
    assert train.labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert float(train.images.mean()) == pytest.approx(0.1307, abs=5e-5)
    assert listing(mnist_root) == before


@pytest.mark.usefixtures("mnist_root")
def test_an_mnist_problem_trains_on_mnist_and_its_dev_set_is_the_papers() -> None:
    problem = l2t.build_problem("mnist/mlp[dev_chunk=2500,refresh=3]")
    assert [len(targets) for _, targets in problem.dev_batches] == [2500] * 4
    assert sum(len(targets) for _, targets in problem.test_batches) == 10_000
    assert len(problem.train.examples.targets) == 50_000  # type: ignore[attr-defined]
    found = l2t.load_backend("rmd").teacher_gradient(problem, problem.init_teacher(0), horizon=4)
    assert 0.05 < found.value < 0.3
    assert bool((found.steps[0].features[1:] > 0).any()), "an untaught student is right now and then"


def put(raw: Path, name: str, shape: tuple[int, ...], content: bytes | None = None) -> None:
    """An idx file of the original form; ``content`` in the place of zeros."""
    raw.mkdir(parents=True, exist_ok=True)
    body = bytes(int(np.prod(shape))) if content is None else content
    with gzip.open(raw / f"{name}.gz", "wb") as file:
        file.write(struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + body)


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the MNIST files below a data root of their own; four sound files are in it."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    folder = tmp_path / "mnist" / "MNIST" / "raw"
    for name in FILES:
        put(folder, name, (4, 28, 28) if "images" in name else (4,))
    return folder


def test_the_data_root_is_what_the_variable_names(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_root() == tmp_path
    assert len(load_mnist()[0].labels) == 4
    monkeypatch.delenv(VARIABLE)
    assert data_root() == Path.home() / ".cache" / "l2t_bench"


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_answered_with_its_place_and_what_to_do(name: str, raw: Path, tmp_path: Path) -> None:
    (raw / f"{name}.gz").unlink()
    before = listing(tmp_path)
    problem = l2t.build_problem("mnist/mlp")
    with pytest.raises(l2t.UserError) as caught:
        problem.train(0, 0)
    message = str(caught.value)
    assert f"mnist/MNIST/raw/{name}.gz is missing below {tmp_path}" in message
    assert "run `l2t-bench prepare mnist`, or set L2T_BENCH_DATA" in message
    assert listing(tmp_path) == before


def test_a_data_root_that_does_not_exist_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(l2t.UserError, match="mnist is not in the data root"):
        _ = l2t.build_problem("mnist/lenet").dev_batches
    assert list(tmp_path.iterdir()) == []


def cut(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-12])


def no_archive(archive: Path) -> None:
    archive.write_bytes(b"<html>404</html>")


def empty(archive: Path) -> None:
    archive.write_bytes(b"")


def wrong_checksum(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[-6] ^= 0xFF
    archive.write_bytes(bytes(content))


def scrambled(archive: Path) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[:-14] + b"\xff" * 6 + content[-8:])  # the end of the packed data, before the checksum


def too_few(archive: Path) -> None:
    put(archive.parent, archive.stem, (4, 28, 28) if "images" in archive.name else (4,), content=b"\0\1")


def another_kind(archive: Path) -> None:
    with gzip.open(archive, "wb") as file:
        file.write(b"a text, and no idx file at all")


def another_number_type(archive: Path) -> None:
    with gzip.open(archive, "wb") as file:
        file.write(struct.pack(">HBBI", 0, 10, 1, 4) + bytes(4))  # 10 stands for no type


def another_size(archive: Path) -> None:
    put(archive.parent, archive.stem, (4, 14, 14) if "images" in archive.name else (4, 1))


def another_count(archive: Path) -> None:
    put(archive.parent, archive.stem, (3, 28, 28) if "images" in archive.name else (3,))


DAMAGES = (
    *(cut, no_archive, empty, wrong_checksum, scrambled, too_few),
    *(another_kind, another_number_type, another_size, another_count),
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_answered_with_what_to_do(
    damage: Callable[[Path], None], name: str, raw: Path, tmp_path: Path
) -> None:
    damage(raw / f"{name}.gz")
    before = listing(tmp_path)
    with pytest.raises(l2t.UserError, match=r"damaged.*run `l2t-bench prepare mnist`"):
        load_mnist()
    assert listing(tmp_path) == before
