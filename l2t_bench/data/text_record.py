"""What a result keeps of the text of a translation problem: its name, what was left out, its files. Needs no torch."""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from l2t_bench.data.iwslt14_files import LANGUAGES, RECIPES
from l2t_bench.data.iwslt14_prepare import told
from l2t_bench.data.parallel_files import LONGEST, Language, parallel_files, place_of
from l2t_bench.data.text_files import read_parallel


class TextRecord(NamedTuple):
    """What to call a text, and its files that are there."""

    told: str
    files: list[Path]


def numbers_record(options: Mapping[str, str]) -> TextRecord:
    """Numbers are made and not read: what makes them is told."""
    del options
    return TextRecord(f"numbers in words (num2words {version('num2words')})", [])


def iwslt14_record(options: Mapping[str, str]) -> TextRecord:
    """The recipe's files that are in the data root."""
    recipe = RECIPES.get(options.get("recipe", "160k"), RECIPES["160k"])
    return _record(told(recipe), recipe.place / "bpe", Language(*LANGUAGES), options)


def parallel_record(options: Mapping[str, str]) -> TextRecord:
    """One's own files; their names, never their folder."""
    path = place_of(options.get("path", ""))
    ends = Language(options.get("source", "de"), options.get("target", "en"))
    return _record(f"parallel text of {path.name}", path, ends, options)


def _record(name: str, path: Path, ends: Language, options: Mapping[str, str]) -> TextRecord:
    """Files that are there, and of train how many pairs it gives and how many were left out."""
    parts = parallel_files(path, ends)
    files = [file for pair in parts.values() for file in pair if file.is_file()]
    first = next(iter(parts.values()))
    if not all(file.is_file() for file in first):
        return TextRecord(name, files)
    return TextRecord(f"{name}; {read_parallel(*first, int(options.get('longest', LONGEST))).told}", files)


RECORDS: Mapping[str, Callable[[Mapping[str, str]], TextRecord]] = MappingProxyType(
    {"numbers": numbers_record, "iwslt14": iwslt14_record, "parallel-text": parallel_record}
)
