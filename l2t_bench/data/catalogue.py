"""The data sets by name: the files that each is made of, and how they get to where they are read. Needs no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from l2t_bench.data.cifar_files import CIFAR10, CIFAR100, Cifar
from l2t_bench.data.cifar_prepare import prepare_cifar
from l2t_bench.data.digits_files import digits_files, prepare_digits
from l2t_bench.data.iwslt14_files import IWSLT14, IWSLT14_MIXER, Iwslt14
from l2t_bench.data.iwslt14_prepare import prepare_iwslt14
from l2t_bench.data.iwslt14_prepare import told as iwslt14_told
from l2t_bench.data.mnist_files import mnist_files, prepare_mnist
from l2t_bench.data.transfer import Prepared
from l2t_bench.names import unknown


@dataclass(frozen=True)
class DataSet:
    """``files()`` says where its files are looked for, ``prepare(source)`` brings them there.

    ``told()`` is what results call the data that are there now: a copy that is not the original says so.
    """

    files: Callable[[], list[Path]]
    prepare: Callable[[Path | None], Prepared]
    told: Callable[[], str]


def _cifar(cifar: Cifar) -> DataSet:
    return DataSet(lambda: cifar.read, partial(prepare_cifar, cifar), lambda: cifar.told)


def _iwslt14(recipe: Iwslt14) -> DataSet:
    return DataSet(lambda: recipe.read, partial(prepare_iwslt14, recipe), partial(iwslt14_told, recipe))


DATA_SETS: Mapping[str, DataSet] = MappingProxyType(
    {
        "digits": DataSet(digits_files, prepare_digits, lambda: "scikit-learn digits, 8x8"),
        "mnist": DataSet(mnist_files, prepare_mnist, lambda: "MNIST"),
        "cifar10": _cifar(CIFAR10),
        "cifar100": _cifar(CIFAR100),
        IWSLT14.name: _iwslt14(IWSLT14),
        IWSLT14_MIXER.name: _iwslt14(IWSLT14_MIXER),
    }
)


def prepare(data_set: str, source: Path | None = None) -> Prepared:
    """Make a data set ready to be read: from the folder ``source``, else by download. What is ready already is kept.

    Raises ``UnknownNameError`` with the nearest name for a data set that there is not, and ``UserError`` where
    ``source`` lacks what is needed, the download fails, or the data root cannot be written.
    """
    if data_set not in DATA_SETS:
        raise unknown("data set", data_set, DATA_SETS)
    return DATA_SETS[data_set].prepare(source)
