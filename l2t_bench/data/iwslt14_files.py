"""Where the text of IWSLT-14 German-English is, how it is called, and by which recipe it was made. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from l2t_bench.data.root import data_root

LANGUAGES = ("de", "en")
PARTS = ("train", "valid", "test")
FORMS = ("tokenized", "bpe")
MANIFEST = "prepared.json"
MODEL = "bpe.model"

_TEST_SETS = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
_SUMS = (
    *("7a7a40e6f3746d2fc7d7fc5aa10e89ef", "f5271f97f402b9caa74600566faaf5b3"),
    *("a9c485ced5a611115caeaa3e4221c6f5", "c6e509d46c0fa8663abf143340aeef1c"),
    *("56b1e444102da9e47e767034729a2ef3", "254ffac6c13f9ea1c3a9b4c8b152ba20"),
    *("c346ea94a67f1fa660cafecad9c7e0bf", "4c38f9462499a7e4f7fc4597a0be3696"),
    *("88aba8b0180148f0a0db1ac28b89e6b4", "c3151e1e894e418dc3f08149b4cfcc9c"),
)


def xml_name(test_set: str, language: str) -> str:
    """The original file of one of the test sets in one language."""
    return f"IWSLT14.{test_set}.de-en.{language}.xml"


def train_name(language: str) -> str:
    """The original file of the training text in one language."""
    return f"train.tags.de-en.{language}"


TEST_SUMS: Mapping[str, str] = MappingProxyType(
    dict(zip((xml_name(each, code) for each in _TEST_SETS for code in LANGUAGES), _SUMS, strict=True))
)
"""File name -> md5 of the originals of the test sets, in the order in which they make up test."""


@dataclass(frozen=True)
class Iwslt14:
    """A recipe: how long and how unlike in length the pairs of train may be, and what is to come of it.

    ``pairs`` is what the recipe is known to give of the whole original; ``sums`` has the md5 of the files of the test
    sets, in their order. A tokenised pair of train is kept with 1 to ``longest`` tokens a side, the longer side of at
    most ``ratio`` times the other's; every ``every``-th one goes to valid.
    """

    name: str
    longest: int
    pairs: Mapping[str, int]
    sums: Mapping[str, str]
    ratio: float = 1.5
    every: int = 23
    subwords: int = 25_000

    @property
    def place(self) -> Path:
        """The data set's folder in the data root. It need not exist."""
        return data_root() / self.name

    def file(self, form: str, part: str, language: str) -> Path:
        """A prepared file, ``form`` one of ``FORMS``; it need not be there."""
        return self.place / form / f"{part}.{language}"

    @property
    def read(self) -> list[Path]:
        """The files that are read from the data root, sub-words where there are any; they need not be there."""
        files = [[self.file(form, part, code) for part in PARTS for code in LANGUAGES] for form in ("bpe", "tokenized")]
        return files[0] if any(file.is_file() for file in files[0]) else files[1]

    @property
    def told(self) -> str:
        """What a result must call the data: the recipe, how the sub-words were made."""
        return f"{self.title}, joint BPE of {self.subwords:,}"

    @property
    def title(self) -> str:
        """The recipe in words."""
        return f"IWSLT-14 de-en ({self.pairs['train'] // 1000}k recipe, pairs of up to {self.longest} tokens)"


IWSLT14 = Iwslt14("iwslt14", 175, MappingProxyType({"train": 160_239, "valid": 7_283, "test": 6_750}), TEST_SUMS)
"""The preparation of most published results since 2017: 160k pairs."""

IWSLT14_MIXER = Iwslt14(
    "iwslt14-mixer", 50, MappingProxyType({"train": 153_326, "valid": 6_969, "test": 6_750}), TEST_SUMS
)
"""That of MIXER (Ranzato et al. 2016): 153k pairs, as the paper's appendix B.3 has it."""

RECIPES: Mapping[str, Iwslt14] = MappingProxyType({"160k": IWSLT14, "153k": IWSLT14_MIXER})
