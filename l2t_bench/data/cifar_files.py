"""Where the CIFAR files are: the original ones, or of CIFAR-10 a packed copy. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from l2t_bench.data.root import data_root


@dataclass(frozen=True)
class Cifar:
    """One of the two data sets: how torchvision's class, the folder and the files of the original are called."""

    name: str
    title: str
    torchvision: str
    folder: str
    archive: str
    files: tuple[str, ...]
    packed: Mapping[str, str]  # name -> md5 of the packed copy's files

    @property
    def place(self) -> Path:
        """The data set's folder in the data root. It need not exist."""
        return data_root() / self.name

    def originals(self, place: Path | None = None) -> list[Path]:
        """The original files below ``place``, else below the data root; they need not be there."""
        return [(place or self.place) / self.folder / name for name in self.files]

    def copies(self, place: Path | None = None) -> list[Path]:
        """The same of the packed copy; none for CIFAR-100, of which there is no copy."""
        return [(place or self.place) / name for name in self.packed]

    @property
    def is_copy(self) -> bool:
        """Whether the packed copy is what is read: it is there, and not all of the original."""
        return not _all_there(self.originals()) and _all_there(self.copies())

    @property
    def read(self) -> list[Path]:
        """The files that are read from the data root, in the order of their names; they need not be there."""
        return sorted(self.copies() if self.is_copy else self.originals())

    @property
    def told(self) -> str:
        """What a result must call the data set: a copy is not the data set, and its accuracies are not comparable."""
        return f"{self.title} (JPEG copy)" if self.is_copy else self.title


CIFAR10 = Cifar(
    name="cifar10",
    title="CIFAR-10",
    torchvision="CIFAR10",
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    files=(*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
    packed=MappingProxyType(
        {
            "train.npz": "e465efbbec2475c51ec87e2c9c5806dd",
            "train.jpegs": "a275b8dfc4f8a81767c2c19d0fdbe516",
            "test.npz": "ef46288e1827378c2b24abe5ea58c63a",
            "test.jpegs": "38e6c130a36fb2085c713562021c4880",
        }
    ),
)
CIFAR100 = Cifar(
    name="cifar100",
    title="CIFAR-100",
    torchvision="CIFAR100",
    folder="cifar-100-python",
    archive="cifar-100-python.tar.gz",
    files=("train", "test", "meta"),
    packed=MappingProxyType({}),
)


def _all_there(files: list[Path]) -> bool:
    return bool(files) and all(file.is_file() for file in files)
