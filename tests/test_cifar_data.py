"""CIFAR from the data root and into it: the original files, their archive, a download, the packed copy."""

import dataclasses
import hashlib
import io
import os
import pickle
import shutil
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import l2t_bench as l2t
from l2t_bench.data.catalogue import DATA_SETS, prepare
from l2t_bench.data.checksums import data_record
from l2t_bench.data.cifar import load_cifar
from l2t_bench.data.cifar_files import CIFAR10, CIFAR100, Cifar
from l2t_bench.data.cifar_prepare import prepare_cifar
from l2t_bench.data.root import VARIABLE

BOTH = pytest.mark.parametrize("cifar", [CIFAR10, CIFAR100], ids=["cifar10", "cifar100"])


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root that does not exist yet."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "root"))
    return tmp_path / "root"


def pixels(count: int, seed: int) -> np.ndarray:
    """Rows of 3072, as CIFAR stores an image: red, green, blue."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def make_original(cifar: Cifar, folder: Path) -> None:
    """The data set's files in their form: four images in each."""
    folder.mkdir(parents=True)
    fine = cifar is CIFAR100
    for number, name in enumerate(cifar.files[:-1]):
        labels = [(number + each) % (100 if fine else 10) for each in range(4)]
        entry = {"data": pixels(4, number), "fine_labels" if fine else "labels": labels}
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / cifar.files[-1]).write_bytes(pickle.dumps({"fine_label_names" if fine else "label_names": ["a", "b"]}))


@pytest.fixture
def originals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A folder with a small data set of each name; its files are what torchvision takes for the original ones."""
    import torchvision.datasets

    made = {}
    for cifar in (CIFAR10, CIFAR100):
        source = tmp_path / "source" / cifar.name
        folder = source / cifar.folder
        make_original(cifar, folder)
        with tarfile.open(source / cifar.archive, "w:gz") as archive:
            archive.add(folder, cifar.folder)
        known = getattr(torchvision.datasets, cifar.torchvision)
        sums = [[name, md5(folder / name)] for name in cifar.files]
        monkeypatch.setattr(known, "train_list", sums[:-2])
        monkeypatch.setattr(known, "test_list", sums[-2:-1])
        monkeypatch.setattr(known, "meta", {**known.meta, "md5": sums[-1][1]})
        monkeypatch.setattr(known, "tgz_md5", md5(source / cifar.archive))
        made[cifar.name] = source
    return made


@pytest.fixture
def served(tmp_path: Path, originals: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that torchvision downloads from; both archives are in it."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}).start()
        monkeypatch.setenv("no_proxy", "*")
        for cifar in (CIFAR10, CIFAR100):
            shutil.copy(originals[cifar.name] / cifar.archive, folder)
            url = f"http://127.0.0.1:{running.server_port}/{cifar.archive}"
            monkeypatch.setattr(f"torchvision.datasets.{cifar.torchvision}.url", url)
        yield folder
        running.shutdown()


# -- the original ------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("way", ["folder", "folder of its name", "the files' own folder", "archive", "download"])
def test_the_original_comes_into_the_data_root_and_is_read(
    way: str, cifar: Cifar, originals: dict[str, Path], served: Path, root: Path
) -> None:
    source = originals[cifar.name]
    if way == "archive":
        shutil.rmtree(source / cifar.folder)
    places = {"download": None, "folder of its name": source.parent, "the files' own folder": source / cifar.folder}
    prepared = prepare(cifar.name, places.get(way, source))
    verb = "downloaded" if way == "download" else "copied"
    assert prepared.note == f"{len(cifar.files)} files {verb} and found sound; results call it {cifar.title}"
    assert prepared.place == root / cifar.name / cifar.folder
    assert sorted(path.name for path in prepared.place.iterdir()) == sorted(cifar.files)
    assert [path.name for path in (root / cifar.name).iterdir()] == [cifar.folder], "nothing else is kept"
    train, test = load_cifar(cifar)
    batches = len(cifar.files) - 2
    expected = np.concatenate([pixels(4, number) for number in range(batches)])
    assert train.images.dtype == np.uint8 and np.array_equal(train.images.reshape(-1, 3072), expected)
    assert train.labels.tolist() == [number + each for number in range(batches) for each in range(4)]
    assert np.array_equal(test.images.reshape(-1, 3072), pixels(4, batches))
    record = data_record(f"{cifar.name}/resnet8")
    assert record.pop("data set") == cifar.title and set(record) == set(cifar.files)


@BOTH
def test_sound_files_are_kept_and_a_damaged_one_alone_is_replaced(
    cifar: Cifar, originals: dict[str, Path], root: Path
) -> None:
    source = originals[cifar.name]
    prepare(cifar.name, source)
    kept = {path: path.stat().st_ino for path in cifar.originals()}
    assert "nothing was copied" in prepare(cifar.name, source).note
    assert {path: path.stat().st_ino for path in cifar.originals()} == kept
    damaged = cifar.originals()[0]
    damaged.write_bytes(b"no pickle")
    prepared = prepare(cifar.name, source)
    assert (prepared.added, prepared.replaced) == ((), (damaged.name,))
    assert md5(damaged) == md5(source / cifar.folder / damaged.name)
    assert all(path.stat().st_ino == inode for path, inode in kept.items() if path != damaged)


@BOTH
@pytest.mark.parametrize("cut", ["file", "archive", "download"])
def test_what_is_cut_short_is_refused_by_its_checksum_and_nothing_is_made(
    cut: str, cifar: Cifar, originals: dict[str, Path], served: Path, root: Path
) -> None:
    source = originals[cifar.name]
    file = {"file": source / cifar.folder / cifar.files[0], "archive": source / cifar.archive}.get(cut)
    file = file or served / cifar.archive
    file.write_bytes(file.read_bytes()[:-20])
    if cut == "archive":
        shutil.rmtree(source / cifar.folder)
    with pytest.raises(l2t.UserError, match=r"is damaged, or not the original|not found or corrupted") as caught:
        prepare(cifar.name, None if cut == "download" else source)
    assert "\n" not in str(caught.value)
    assert cut != "file" or cifar.files[0] in str(caught.value)
    assert not root.exists()


@BOTH
def test_damaged_files_are_not_unpickled(cifar: Cifar, originals: dict[str, Path], root: Path) -> None:
    prepare(cifar.name, originals[cifar.name])
    cifar.originals()[0].write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(l2t.UserError, match=rf"files in .* are damaged .*run `l2t-bench prepare {cifar.name}`"):
        load_cifar(cifar)


@BOTH
def test_missing_files_are_answered_with_what_to_do(cifar: Cifar, root: Path) -> None:
    with pytest.raises(
        l2t.UserError, match=f"{cifar.name} is not in the data root: .*`l2t-bench prepare {cifar.name}`"
    ):
        l2t.build_problem(f"{cifar.name}/resnet8").train(0, 0)
    assert not root.exists()


def test_without_a_network_the_answer_names_the_other_ways(served: Path, root: Path) -> None:
    (served / CIFAR10.archive).unlink()
    with pytest.raises(
        l2t.UserError, match=r"no network, --from DIR takes it from a folder: .* or the packed copy"
    ) as caught:
        prepare("cifar10")
    assert "\n" not in str(caught.value) and not root.exists()


def test_a_source_that_has_nothing_or_not_all_is_told_what_was_looked_for(
    originals: dict[str, Path], tmp_path: Path, root: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        l2t.UserError, match=r"CIFAR-10 is neither in .*empty nor in its cifar10: looked for cifar-10-b"
    ):
        prepare("cifar10", tmp_path / "empty")
    with pytest.raises(
        l2t.UserError, match=r"there is no folder .*nowhere: name the folder that holds cifar-100-python"
    ):
        prepare("cifar100", tmp_path / "nowhere")
    source = originals["cifar10"]
    (source / CIFAR10.archive).unlink()
    (source / CIFAR10.folder / "test_batch").unlink()
    with pytest.raises(l2t.UserError, match=r"test_batch missing in .*: CIFAR-10 needs all of its files"):
        prepare("cifar10", source)
    assert not root.exists()


def test_a_data_root_that_cannot_be_written_is_named(originals: dict[str, Path], root: Path) -> None:
    root.write_text("a file")
    with pytest.raises(
        l2t.UserError, match=rf"CIFAR-10 could not be prepared in .*{root}: .*; set {VARIABLE} to a folder"
    ):
        prepare("cifar10", originals["cifar10"])
    assert root.read_text() == "a file"


# -- the packed copy ---------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> tuple[Cifar, Path]:
    """A packed copy of six training and four test images, the second of each kept without loss, and its folder."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for part, count in (("train", 6), ("test", 4)):
        images = pixels(count, 50 + count).reshape(-1, 32, 32, 3)
        images[...] = images[:, :1, :1]  # one colour each: nearly the same after JPEG
        encoded = []
        for image in images:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=75)
            encoded.append(buffer.getvalue())
        (folder / f"{part}.jpegs").write_bytes(b"".join(encoded))
        np.savez(
            folder / f"{part}.npz",
            labels=np.arange(count, dtype=np.uint8),
            jpeg_offsets=np.cumsum([0, *map(len, encoded)]),
            lossless_index=np.array([1]),
            lossless_images=np.full((1, 32, 32, 3), 7, np.uint8),
        )
    return dataclasses.replace(CIFAR10, packed={name: md5(folder / name) for name in CIFAR10.packed}), folder


def test_a_packed_copy_is_prepared_read_and_named_for_what_it_is(copy: tuple[Cifar, Path], root: Path) -> None:
    cifar, folder = copy
    prepared = prepare_cifar(cifar, folder)
    assert prepared.note == "4 files copied and found sound; results call it CIFAR-10 (JPEG copy)"
    assert prepared.place == root / "cifar10" and contents(root / "cifar10") == contents(folder)
    train, test = load_cifar(cifar)
    assert train.images.shape == (6, 3, 32, 32) and test.images.shape == (4, 3, 32, 32)
    assert train.labels.tolist() == list(range(6)) and train.images.dtype == np.uint8
    assert (train.images[1] == 7).all(), "the original pixels where they are kept"
    colours = pixels(6, 56).reshape(-1, 32, 32, 3)[:, 0, 0].astype(int)
    away = abs(train.images[[0, 2, 3, 4, 5]].astype(int) - colours[[0, 2, 3, 4, 5], :, None, None])
    assert away.max() <= 6
    assert cifar.told == "CIFAR-10 (JPEG copy)" and [path.name for path in cifar.read] == sorted(cifar.packed)


def test_where_both_are_the_original_is_read(copy: tuple[Cifar, Path], originals: dict[str, Path], root: Path) -> None:
    cifar, folder = copy
    prepare_cifar(cifar, folder)
    prepare_cifar(cifar, originals["cifar10"])
    assert cifar.told == "CIFAR-10" and len(load_cifar(cifar)[0].labels) == 20


@pytest.mark.parametrize("name", CIFAR10.packed)
def test_a_cut_file_of_a_packed_copy_is_refused(name: str, copy: tuple[Cifar, Path], root: Path) -> None:
    cifar, folder = copy
    prepare_cifar(cifar, folder)
    for place in (folder, root / "cifar10"):
        (place / name).write_bytes((place / name).read_bytes()[:-9])
    with pytest.raises(l2t.UserError, match=f"{name} is damaged, or not the original: its md5 is"):
        prepare_cifar(cifar, folder)
    with pytest.raises(l2t.UserError, match=f"{name} is damaged, or not the original: its md5 is"):
        load_cifar(cifar)


def test_a_packed_copy_that_is_not_in_its_form_is_refused(copy: tuple[Cifar, Path], root: Path) -> None:
    cifar, folder = copy
    np.savez(folder / "test.npz", labels=np.arange(4))
    odd = dataclasses.replace(cifar, packed={name: md5(folder / name) for name in cifar.packed})
    prepare_cifar(odd, folder)
    with pytest.raises(l2t.UserError, match=r"packed copy test.npz, test.jpegs in .* is damaged"):
        load_cifar(odd)


def test_there_is_no_packed_copy_of_cifar100(copy: tuple[Cifar, Path], root: Path) -> None:
    with pytest.raises(l2t.UserError, match="CIFAR-100 is neither in"):
        prepare("cifar100", copy[1])


@pytest.fixture
def packed_root() -> Path:
    """The data root, where it holds the packed copy; the test is skipped where it does not."""
    place = Path(os.environ.get(VARIABLE, "nowhere")) / "cifar10"
    if not all((place / name).is_file() for name in CIFAR10.packed):
        pytest.skip(f"needs the packed copy of CIFAR-10: the data root {VARIABLE} has none")
    return place.parent


def test_the_real_copy_is_sound_and_a_problem_names_it(packed_root: Path) -> None:
    assert "nothing was copied" in DATA_SETS["cifar10"].prepare(packed_root).note
    assert data_record("cifar10/resnet20[dev=100]")["data set"] == "CIFAR-10 (JPEG copy)"


@pytest.mark.slow
def test_a_student_is_taught_on_the_real_copy(packed_root: Path) -> None:
    problem = l2t.build_problem("cifar10/resnet8[filters=4,refresh=2,train_batches=1,dev=1000]")
    counts = np.bincount(np.concatenate([targets.numpy() for _, targets in problem.dev_batches]))
    assert counts.tolist() == [100] * 10
    assert sum(len(targets) for _, targets in problem.test_batches) == 10_000
    mean = problem.train.examples.inputs.mean(0)  # type: ignore[attr-defined]
    assert float(mean.abs().max()) < 1e-4
    found = l2t.load_backend("rmd").teacher_gradient(problem, problem.init_teacher(0), horizon=3)
    assert found.steps[0].features.shape == (13,)
