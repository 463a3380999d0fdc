"""The original files of IWSLT-14 as lines of text: what is a sentence, and what only says something about one."""

import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from l2t_bench.data.iwslt14_files import LANGUAGES, Iwslt14, train_name
from l2t_bench.errors import UserError

FOLDER = "de-en"
ARCHIVE = "de-en.tgz"

_SEGMENT = re.compile(r"<seg id=\"[^\"]*\">(?P<text>.*)</seg>")
_METADATA = re.compile(r"<(url|talkid|keywords|speaker|reviewer|translator)\b")
_MARKS = re.compile(r"</?(title|description)>")


def segments(xml: Iterable[str]) -> Iterator[str]:
    """The sentences of a test set's lines, one ``<seg>`` a line; entities stay as they are written.

    The typographic apostrophe becomes the plain one, in these files alone: so the published test sets have it.
    """
    for line in xml:
        if (found := _SEGMENT.search(line)) is not None:
            yield found["text"].strip().replace("\u2019", "'")


def training_lines(tagged: Iterable[str]) -> Iterator[str]:
    """The lines of the training text; titles and descriptions are sentences, addresses and key words are not.

    A line of metadata goes out in both languages alike, so that what is left stays parallel.
    """
    for line in tagged:
        if _METADATA.search(line) is None:
            yield _MARKS.sub("", line).strip()


def original_files(source: Path, recipe: Iwslt14, stage: Path) -> dict[str, Path]:
    """Name -> file of the originals that ``source`` has: a folder with them, or in its ``de-en``, or the archive.

    An archive is unpacked into ``stage``. The test sets must all be there, the training text in both languages or in
    none. Raises ``UserError`` where they are not, and for an archive that is damaged or reaches out of its folder.
    """
    try:
        if source.is_file():
            _unpack(source, stage)
            source = stage
        elif not source.is_dir():
            raise UserError(f"there is no {source}: name {ARCHIVE}, or the folder that holds its files")
        places = [source, source / FOLDER, source / "iwslt14" / FOLDER]
        place = next((each for each in places if any((each / name).is_file() for name in recipe.sums)), None)
        if place is None and (source / ARCHIVE).is_file():
            return original_files(source / ARCHIVE, recipe, stage)
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}") from error
    if place is None:
        raise UserError(f"IWSLT-14 is neither in {source} nor in its {FOLDER}: looked for {ARCHIVE} or its .xml files")
    return _complete(place, recipe)


def _complete(place: Path, recipe: Iwslt14) -> dict[str, Path]:
    wanted = [*recipe.sums, *map(train_name, LANGUAGES)]
    files = {name: place / name for name in wanted if (place / name).is_file()}
    missing = [name for name in wanted if name not in files]
    if missing and missing != [train_name(code) for code in LANGUAGES]:
        raise UserError(f"{', '.join(missing)} missing in {place}: the others are of no use without")
    return files


def _unpack(archive: Path, stage: Path) -> None:
    try:
        with tarfile.open(archive) as packed:
            for name in packed.getnames():
                if PurePosixPath(name).is_absolute():  # the filter would take the stroke away, and go on
                    raise UserError(f"{archive} is refused, nothing was taken from it: {name} is no place inside it")
            packed.extractall(stage, filter="data")  # refuses what would be written outside of the folder
    except tarfile.FilterError as error:
        raise UserError(f"{archive} is refused, nothing was taken from it: {error}") from error
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{archive} cannot be unpacked: {error}; get it again") from error
