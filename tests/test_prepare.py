"""``prepare``: how the files of a data set get into the data root, and what a user is told where they do not."""

import dataclasses
import errno
import gzip
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

import l2t_bench as l2t
from l2t_bench.cli.main import main
from l2t_bench.data.catalogue import DATA_SETS, prepare
from l2t_bench.data.checksums import data_checksums
from l2t_bench.data.mnist import load_mnist
from l2t_bench.data.mnist_files import ARCHIVES, FILES
from l2t_bench.data.root import VARIABLE
from l2t_bench.errors import UnknownNameError

LAYOUTS = ("", "raw", "MNIST/raw", "mnist/MNIST/raw")
NAMED = pytest.mark.parametrize("name", ARCHIVES)


def contents(folder: Path) -> dict[str, bytes | None]:
    """All below ``folder``, hidden files too: path -> content, ``None`` for a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root that does not exist yet."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture
def target(root: Path) -> Path:
    """Where the MNIST files belong."""
    return root / "mnist" / "MNIST" / "raw"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an MNIST of four images: its files are what torchvision takes for the original ones."""
    folder = tmp_path / "small"
    folder.mkdir()
    for number, name in enumerate(FILES):
        shape = (4, 28, 28) if "images" in name else (4,)
        body = bytes(i % (number + 3) for i in range(4 * 784 if "images" in name else 4))
        with gzip.open(folder / f"{name}.gz", "wb") as file:
            file.write(struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + body)
    sums = [(name, md5(folder / name)) for name in ARCHIVES]
    assert len({md5 for _, md5 in sums}) == 4, "files that are taken for each other must be told apart"
    monkeypatch.setattr("torchvision.datasets.MNIST.resources", sums)
    return folder


@pytest.fixture
def server(tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[str]]]:
    """The folder that torchvision downloads from, with the four files, and the names of the files that it has sent."""
    folder, sent = Path(shutil.copytree(small, tmp_path / "served")), []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append(self.path.lstrip("/"))
            super().do_GET()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}).start()
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [f"http://127.0.0.1:{running.server_port}/"])
        yield folder, sent
        running.shutdown()


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for a download is a failure."""

    def refuse(dataset: object) -> None:
        pytest.fail("a download was asked for")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", refuse)


def answer(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What the command line answers, in this process: the MNIST of four images is known here only."""
    monkeypatch.setattr("sys.argv", ["l2t-bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return subprocess.CompletedProcess(arguments, ended.value.code, printed.out, printed.err)


# -- from a folder -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_mnist_is_taken_from_a_folder_in_every_layout_and_can_be_loaded(
    layout: str, mnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    (source / layout).mkdir(parents=True)
    for name in ARCHIVES:
        (source / layout / name).symlink_to(mnist_root.resolve() / "mnist" / "MNIST" / "raw" / name)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "root"))
    prepared = prepare("mnist", source)
    assert prepared.place == tmp_path / "root" / "mnist" / "MNIST" / "raw"
    assert sorted(path.name for path in prepared.place.iterdir()) == sorted(ARCHIVES)
    assert not any(path.is_symlink() for path in prepared.place.iterdir()), "the source may go away"
    assert prepared.added == ARCHIVES and prepared.replaced == ()
    if layout == "":
        train, test = load_mnist()
        assert (len(train.labels), len(test.labels)) == (60_000, 10_000)
        assert train.labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]


@pytest.mark.usefixtures("no_download")
def test_a_source_is_left_as_it_is_and_the_copies_are_readable_as_any_new_file(
    small: Path, target: Path, tmp_path: Path
) -> None:
    before = contents(small)
    prepare("mnist", small)
    assert contents(small) == before and contents(target) == before
    (tmp_path / "new").touch()
    assert {path.stat().st_mode for path in target.iterdir()} == {(tmp_path / "new").stat().st_mode}


@pytest.mark.usefixtures("no_download")
def test_the_fullest_place_of_a_source_is_taken(small: Path, target: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(small, tmp_path / "source" / "raw")).parent
    (source / ARCHIVES[0]).write_bytes(b"one alone")
    prepare("mnist", source)
    assert contents(target) == contents(small)


@NAMED
def test_a_file_that_a_source_lacks_is_named_and_nothing_is_made(name: str, small: Path, root: Path) -> None:
    (small / name).unlink()
    with pytest.raises(l2t.UserError) as caught:
        prepare("mnist", small)
    assert str(caught.value) == f"{name} is missing in {small}"
    assert not root.exists()


def test_a_source_without_any_of_the_files_is_told_where_they_were_looked_for(tmp_path: Path, root: Path) -> None:
    with pytest.raises(l2t.UserError) as caught:
        prepare("mnist", tmp_path)
    message = str(caught.value)
    assert all(part in message for part in (f"neither in {tmp_path}", *LAYOUTS, *ARCHIVES))
    assert not root.exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_unpacked_files_are_answered_with_what_is_needed(layout: str, tmp_path: Path, root: Path) -> None:
    place = tmp_path / "source" / layout
    place.mkdir(parents=True)
    for name in FILES:
        (place / name).write_bytes(b"unpacked")
    with pytest.raises(l2t.UserError, match=r"unpacked files do not serve.* original \.gz files") as caught:
        prepare("mnist", tmp_path / "source")
    assert all(name in str(caught.value) for name in (f"are missing in {place};", *ARCHIVES))
    assert not root.exists()


def test_a_source_that_is_no_folder_is_told_so(tmp_path: Path, root: Path) -> None:
    with pytest.raises(l2t.UserError, match=f"there is no folder {tmp_path / 'nowhere'}: name the folder"):
        prepare("mnist", tmp_path / "nowhere")
    (tmp_path / "mnist.zip").touch()
    with pytest.raises(l2t.UserError, match=f"{tmp_path / 'mnist.zip'} is a file: name the folder"):
        prepare("mnist", tmp_path / "mnist.zip")
    assert not root.exists()


@NAMED
def test_a_damaged_source_is_answered_with_both_sums_and_replaces_nothing(
    name: str, small: Path, target: Path, tmp_path: Path
) -> None:
    shutil.copytree(small, target)
    expected = md5(small / name)
    damage(small / name)
    for file in target.iterdir():
        damage(file)
    before = contents(target)
    with pytest.raises(l2t.UserError) as caught:
        prepare("mnist", small)
    message = str(caught.value)
    assert f"{small / name} is damaged" in message and f"md5 is {md5(small / name)}, not {expected}" in message
    assert md5(small / name) != expected
    assert contents(target) == before


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_data_root_as_its_own_source_is_checked_and_not_touched(
    layout: str, small: Path, root: Path, target: Path
) -> None:
    shutil.copytree(small, target)
    source = Path(str(target)[: len(str(target)) - len(layout)])
    before = {path: path.stat() for path in root.rglob("*")}
    prepared = prepare("mnist", source)
    assert (prepared.added, prepared.replaced) == ((), ())
    assert {path: path.stat() for path in root.rglob("*")} == before
    damage(target / ARCHIVES[2])
    damaged = contents(root)
    with pytest.raises(l2t.UserError, match=f"{ARCHIVES[2]} is damaged"):
        prepare("mnist", source)
    assert contents(root) == damaged


# -- what is there already ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize("offered", [True, False])
def test_sound_files_are_kept_and_said_to_be_there(offered: bool, small: Path, target: Path) -> None:
    shutil.copytree(small, target)
    before = {path: path.stat().st_ino for path in target.iterdir()}
    prepared = prepare("mnist", small if offered else None)
    assert "were there and are sound" in prepared.note
    assert (prepared.added, prepared.replaced) == ((), ())
    assert {path: path.stat().st_ino for path in target.iterdir()} == before


@NAMED
@pytest.mark.parametrize("offered", [True, False])
def test_of_four_files_the_damaged_one_alone_is_named_and_replaced(
    name: str, offered: bool, small: Path, server: tuple[Path, list[str]], target: Path
) -> None:
    shutil.copytree(small, target)
    damage(target / name)
    kept = {path: path.stat().st_ino for path in target.iterdir() if path.name != name}
    prepared = prepare("mnist", small if offered else None)
    assert (prepared.added, prepared.replaced) == ((), (name,))
    assert f"in the place of the damaged {name}" in prepared.note
    assert contents(target) == contents(small)
    assert {path: path.stat().st_ino for path in target.iterdir() if path.name != name} == kept
    assert set(server[1]) == (set() if offered else {name})


# -- downloaded --------------------------------------------------------------------------------------------------------


def test_mnist_is_downloaded_by_torchvision_and_only_the_four_files_are_kept(
    small: Path, server: tuple[Path, list[str]], root: Path, target: Path
) -> None:
    prepared = prepare("mnist")
    assert set(server[1]) == set(ARCHIVES)
    assert contents(target) == contents(small)
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir()) == [
        *("mnist", "mnist/MNIST", "mnist/MNIST/raw")
    ]
    assert (prepared.place, prepared.added, prepared.replaced) == (target, ARCHIVES, ())
    assert len(load_mnist()[0].labels) == 4


@pytest.mark.parametrize("there", [True, False])
def test_a_server_that_sends_something_else_is_not_believed(
    there: bool, small: Path, server: tuple[Path, list[str]], root: Path, target: Path
) -> None:
    if there:
        shutil.copytree(small, target)
        damage(target / ARCHIVES[3])
    before = contents(root)
    (server[0] / ARCHIVES[3]).write_bytes(b"<html>log in to use this network</html>")
    with pytest.raises(l2t.UserError, match=rf"prepared in {target}: Error downloading {ARCHIVES[3]}"):
        prepare("mnist")
    assert server[1][-1] == ARCHIVES[3]
    assert contents(root) == before and root.exists() == there


def test_without_a_network_the_answer_is_one_line_and_names_the_other_way(
    server: tuple[Path, list[str]], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as gone:
        port = gone.server_port  # closed after this block
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [f"http://127.0.0.1:{port}/"] * 2)
    with pytest.raises(
        l2t.UserError, match=r"Error downloading .* refused.*; where .* no network, --from DIR "
    ) as caught:
        prepare("mnist")
    assert "\n" not in str(caught.value)
    assert not root.exists()


# -- a disk that does not take them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("occupied", ["root", "root/mnist", "root/mnist/MNIST/raw"])
@pytest.mark.parametrize("offered", [True, False])
def test_a_file_where_a_folder_belongs_is_named(
    occupied: str, offered: bool, small: Path, server: tuple[Path, list[str]], root: Path, target: Path, tmp_path: Path
) -> None:
    (tmp_path / occupied).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / occupied).write_text("a file")
    before = contents(tmp_path)
    with pytest.raises(l2t.UserError) as caught:
        prepare("mnist", small if offered else None)
    message = str(caught.value)
    assert message.startswith(f"MNIST could not be prepared in {target}: {tmp_path / occupied}: ")
    assert message.endswith(f"; set {VARIABLE} to a folder that can be written")
    assert contents(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_data_root_that_may_not_be_written_is_named(small: Path, root: Path) -> None:
    root.mkdir(mode=0o500)
    with pytest.raises(l2t.UserError, match=f"{root / 'mnist'}: Permission denied; set {VARIABLE}"):
        prepare("mnist", small)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_data_root_that_cannot_be_written_leaves_no_empty_folders(
    number: int, small: Path, root: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> str:
        raise OSError(number, os.strerror(number), str(target))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(l2t.UserError, match=f"{target}: {os.strerror(number)}; set {VARIABLE} to a folder that can"):
        prepare("mnist", small)
    assert not root.exists()


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("offered", [True, False])
def test_a_full_disk_is_said_and_leaves_the_data_root_as_it_was(
    there: bool,
    offered: bool,
    small: Path,
    server: tuple[Path, list[str]],
    root: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if there:
        shutil.copytree(small, target)
        for file in target.iterdir():
            damage(file)
    before = contents(root)
    written: list[Path] = []

    def write(path: Path, content: bytes) -> Path:
        """The third file no longer fits."""
        written.append(path)
        assert target in path.parent.parents, "on the same disk, and not under its own name"
        path.write_bytes(content if len(written) < 3 else content[:20])
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return path

    monkeypatch.setattr("shutil.copyfile", lambda file, copied: write(Path(copied), Path(file).read_bytes()))
    retrieve: Callable[[str, str], Path] = lambda url, copied: write(  # noqa: E731
        Path(copied), (small / Path(copied).name).read_bytes()
    )
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
    with pytest.raises(l2t.UserError, match=rf"No space left on device; make room, or set {VARIABLE}"):
        prepare("mnist", small if offered else None)
    assert len(written) == 3
    assert contents(root) == before and root.exists() == there


class Cut(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("call", range(12))
def test_a_cut_before_any_call_leaves_each_name_with_its_old_file_or_its_new_one(
    call: int, small: Path, root: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four copies, four synchronised files, four renames, in this order."""
    shutil.copytree(small, target)
    for file in target.iterdir():
        damage(file)
    (target / ARCHIVES[1]).unlink()
    old, new = contents(target), contents(small)
    calls: list[str] = []

    def cutting(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counted(*arguments: Any) -> Any:
            if len(calls) == call:
                raise Cut
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(owner, name, counted)

    cutting(shutil, "copyfile")
    cutting(os, "fsync")
    cutting(Path, "replace")
    with pytest.raises(Cut):
        prepare("mnist", small)
    assert calls == [*["copyfile"] * 4, *["fsync"] * 4, *["replace"] * 4][:call]
    found = contents(target)
    assert set(found) <= set(ARCHIVES), "nothing else is left"
    for name in ARCHIVES:
        renamed = name in ARCHIVES[: max(0, call - 8)]
        assert found.get(name) == (new if renamed else old).get(name)


def test_a_source_that_changes_while_it_is_copied_is_not_believed(
    small: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.copyfile

    def copy(source: Path, copied: Path) -> Path:
        damage(real(source, copied))
        return copied

    monkeypatch.setattr("shutil.copyfile", copy)
    with pytest.raises(l2t.UserError, match="is damaged"):
        prepare("mnist", small)
    assert not root.exists()


# -- names -------------------------------------------------------------------------------------------------------------


def test_digits_are_where_scikit_learn_has_them_and_nothing_is_made(root: Path) -> None:
    prepared = prepare("digits")
    assert prepared.place == Path(str(distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")))
    assert prepared.place.is_file() and "scikit-learn" in prepared.note
    assert not root.exists()
    with pytest.raises(l2t.UserError, match=r"digits come with scikit-learn.*leave --from out"):
        prepare("digits", root)


@pytest.mark.parametrize(("name", "meant"), [("mnits", "mnist"), ("digit", "digits")])
def test_an_unknown_data_set_is_answered_with_the_nearest_one(name: str, meant: str) -> None:
    with pytest.raises(UnknownNameError, match=f"no data set '{name}': did you mean '{meant}'?"):
        prepare(name)


def test_an_unknown_data_set_near_none_is_answered_with_all_there_are() -> None:
    with pytest.raises(
        UnknownNameError, match="no data set 'zzz'; there are cifar10, cifar100, digits, iwslt14, iwslt14-mixer, mnist"
    ):
        prepare("zzz")


def test_a_data_set_is_an_entry_of_one_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its files get checksums and it can be prepared, by its entry alone."""
    (tmp_path / "mine.csv").write_text("1,2")
    entry = dataclasses.replace(DATA_SETS["digits"], files=lambda: [tmp_path / "mine.csv", tmp_path / "not there"])
    for module in ("catalogue", "checksums"):
        monkeypatch.setattr(f"l2t_bench.data.{module}.DATA_SETS", {"mine": entry})
    assert data_checksums("mine") == {"mine.csv": f"sha256:{hashlib.sha256(b'1,2').hexdigest()}"}
    assert data_checksums("mnist") == {}
    assert prepare("mine") == entry.prepare(None)


def test_the_checksums_of_mnist_are_those_of_its_four_files_alone(small: Path, target: Path) -> None:
    shutil.copytree(small, target)
    (target / "other-ubyte.gz").touch()
    assert data_checksums("mnist") == {
        name: f"sha256:{hashlib.sha256((small / name).read_bytes()).hexdigest()}" for name in ARCHIVES
    }


# -- at the command line -----------------------------------------------------------------------------------------------


def test_the_command_says_what_was_done_and_where_the_files_are(
    small: Path, target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prepare", "mnist", "--from", str(small)]
    done = answer(command, monkeypatch, capsys)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"mnist: 4 files copied and found sound\n  {target}\n"
    assert contents(target) == contents(small)

    damage(target / ARCHIVES[0])
    (target / ARCHIVES[1]).unlink()
    done = answer(command, monkeypatch, capsys)
    assert done.stdout == (
        f"mnist: 2 files copied and found sound, in the place of the damaged {ARCHIVES[0]}\n  {target}\n"
    )
    done = answer(["prepare", "mnist"], monkeypatch, capsys)
    assert done.stdout == f"mnist: its four files were there and are sound, nothing was downloaded\n  {target}\n"


def test_the_command_takes_mnist_as_it_is_from_a_data_root(mnist_root: Path, tmp_path: Path) -> None:
    done = run(["mnist", "--from", str(mnist_root)], tmp_path / "root")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"mnist: 4 files copied and found sound\n  {tmp_path / 'root' / 'mnist' / 'MNIST' / 'raw'}\n"
    )
    held, copied = (contents(place / "mnist" / "MNIST" / "raw") for place in (mnist_root, tmp_path / "root"))
    assert copied == {name: held[name] for name in ARCHIVES}


def run(arguments: list[str], root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "l2t_bench.cli.main", "prepare", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {VARIABLE: str(root)},
    )


def test_the_command_needs_no_torch_for_digits(root: Path) -> None:
    script = (
        "import sys; sys.argv = ['l2t-bench', 'prepare', 'digits']; from l2t_bench.cli.main import main\n"
        "try: main()\nexcept SystemExit as end: code = end.code\n"
        "sys.exit(code or ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "scikit-learn" in done.stdout and "digits.csv.gz" in done.stdout
    assert not root.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["mnits"], "did you mean 'mnist'?"),
        (["digits", "--from", "SOURCE"], "leave --from out"),
        (["mnist", "--from", "SOURCE/nowhere"], "there is no folder SOURCE/nowhere"),
        (["mnist", "--from", f"SOURCE/{ARCHIVES[0]}"], "is a file: name the folder"),
        (["mnist", "--from", "SOURCE/.."], "MNIST is neither in SOURCE/.. nor in its raw, MNIST/raw"),
        (["mnist", "--from", "SOURCE"], f"SOURCE/{ARCHIVES[1]} is damaged"),
    ],
)
def test_the_command_answers_a_mistake_in_a_line_with_exit_code_2(
    arguments: list[str],
    told: str,
    small: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(small / ARCHIVES[1])
    before = contents(small.parent)
    given = [argument.replace("SOURCE", str(small)) for argument in arguments]
    done = answer(["prepare", *given], monkeypatch, capsys)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("l2t-bench: ") and done.stderr.count("\n") == 1
    assert told.replace("SOURCE", str(small)) in done.stderr
    assert contents(small.parent) == before


def test_a_file_that_is_not_torchvisions_original_is_a_mistake_of_the_installed_command_too(
    small: Path, tmp_path: Path
) -> None:
    done = run(["mnist", "--from", str(small)], tmp_path / "root")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"md5 is {md5(small / ARCHIVES[0])}, not f68b3c2dcbeaaa9fbdd348bbdeb94873" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "root").exists()
