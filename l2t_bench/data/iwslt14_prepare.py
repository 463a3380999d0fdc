"""How the text of IWSLT-14 gets into the data root: tokenised, lower-cased, cleaned, split, in sub-words.

Needs no torch. The steps are those of the published preparations, in their order (Moses' tokeniser and
``clean-corpus-n``); only the sub-words are sentencepiece's.
"""

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from l2t_bench.data.iwslt14_fetch import fetch
from l2t_bench.data.iwslt14_files import FORMS, LANGUAGES, MANIFEST, MODEL, Iwslt14, train_name
from l2t_bench.data.iwslt14_source import original_files, segments, training_lines
from l2t_bench.data.moses import moses_tokenizer
from l2t_bench.data.subwords import learn_subwords
from l2t_bench.data.text_files import alike_in_length, read_lines
from l2t_bench.data.transfer import Prepared, check, md5, move_in, staging, why
from l2t_bench.errors import UserError

Lines = list[tuple[str, str]]
"""Pairs of tokenised, lower-cased lines."""

_VERSION = 1  # of what is made of the originals: files of another are made anew


@dataclass(frozen=True)
class Manifest:
    """What stands in the data root, written last: sums by file, pairs by part, what was dropped and what is missing."""

    version: int
    recipe: str
    pairs: dict[str, int]
    dropped: int
    missing: list[str]
    subwords: str
    md5: dict[str, str]


def prepare_iwslt14(recipe: Iwslt14, source: Path | None = None) -> Prepared:
    """Bring IWSLT-14 into the data root by this recipe; what is there, whole and sound stays as it is.

    ``source`` is the archive, or a folder that has it or its files; without it the archive is downloaded. A source
    without the training text is prepared as far as it goes: test, in tokens. The note says what is missing.

    Raises ``UserError`` for a source without the test sets, or with others than the originals, for training text that
    is not parallel, and where the download fails or the data root cannot be written.
    """
    before = read_manifest(recipe)
    sound = before is not None and not _damaged(recipe, before)
    if before is not None and sound and not before.missing:
        return Prepared(recipe.place, "its files were there and are sound, nothing was done; " + _note(recipe, before))
    damaged = () if before is None else tuple(_damaged(recipe, before))
    try:
        with staging(recipe.place) as stage, tempfile.TemporaryDirectory() as unpacked:
            offered = original_files(source or fetch(Path(unpacked)), recipe, Path(unpacked))
            for name, expected in recipe.sums.items():
                check(offered[name], expected)
            made = _write(stage, recipe, offered)
            added = tuple(name for name in made.md5 if not (recipe.place / name).is_file())
            _move(stage, recipe, made)
    except OSError as error:
        raise UserError(f"IWSLT-14 could not be prepared in {recipe.place}: {why(error)}") from error
    return Prepared(recipe.place, _note(recipe, made), added, damaged)


def read_manifest(recipe: Iwslt14) -> Manifest | None:
    """What stands in the data root; ``None`` where nothing does, or what another version made."""
    try:
        return Manifest(**json.loads((recipe.place / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def told(recipe: Iwslt14) -> str:
    """What results call the data that are there: the recipe, the sub-words, and what is missing."""
    there = read_manifest(recipe)
    return recipe.told if there is None or not there.missing else f"{recipe.title}, without {', '.join(there.missing)}"


def _damaged(recipe: Iwslt14, there: Manifest) -> list[str]:
    if there.version != _VERSION:
        return list(there.md5)
    files = {name: recipe.place / name for name in there.md5}
    return [name for name, file in files.items() if not file.is_file() or md5(file) != there.md5[name]]


# -- what is made ------------------------------------------------------------------------------------------------------


def _write(stage: Path, recipe: Iwslt14, offered: Mapping[str, Path]) -> Manifest:
    """All files in ``stage``, as they will lie in the data root."""
    parts = {"test": _test(recipe, offered)}
    dropped = 0
    if train_name(LANGUAGES[0]) in offered:
        pairs = _train(offered)
        kept = [
            pair for pair in pairs if alike_in_length([side.split() for side in pair], recipe.longest, recipe.ratio)
        ]
        dropped = len(pairs) - len(kept)
        parts |= split_every(kept, recipe.every)
    written = _write_parts(stage / "tokenized", parts)
    if "train" in parts:
        written += _write_subwords(stage, recipe, parts)
    return Manifest(
        version=_VERSION,
        recipe=recipe.title,
        pairs={name: len(lines) for name, lines in parts.items()},
        dropped=dropped,
        missing=[] if "train" in parts else ["train", "valid", "bpe"],
        subwords=f"joint, sentencepiece BPE of {recipe.subwords}" if "train" in parts else "none",
        md5={str(file.relative_to(stage)): md5(file) for file in written},
    )


def _test(recipe: Iwslt14, offered: Mapping[str, Path]) -> Lines:
    sides: list[list[str]] = []
    for code in LANGUAGES:
        files = [offered[name] for name in recipe.sums if name.endswith(f".{code}.xml")]
        sides.append(_tokens(code, (text for file in files for text in segments(read_lines(file)))))
    return _paired(sides, "the test sets")


def _train(offered: Mapping[str, Path]) -> Lines:
    sides = [_tokens(code, training_lines(read_lines(offered[train_name(code)]))) for code in LANGUAGES]
    return _paired(sides, "the training text")


def _tokens(language: str, lines: Iterable[str]) -> list[str]:
    tokenize = moses_tokenizer(language)
    return [tokenize(line).lower() for line in lines]


def _paired(sides: Sequence[Sequence[str]], what: str) -> Lines:
    first, second = sides
    if len(first) != len(second):
        raise UserError(f"{what} has {len(first):,} sentences in de and {len(second):,} in en: it is not parallel")
    return list(zip(first, second, strict=True))


def split_every(pairs: Lines, every: int) -> dict[str, Lines]:
    """``valid`` is every ``every``-th pair, counted from 1; ``train`` is the rest."""
    return {
        "train": [pair for number, pair in enumerate(pairs, 1) if number % every],
        "valid": pairs[every - 1 :: every],
    }


def _write_parts(folder: Path, parts: Mapping[str, Iterable[tuple[str, str]]]) -> list[Path]:
    folder.mkdir()
    written = []
    for part, pairs in parts.items():
        for code, side in zip(LANGUAGES, zip(*pairs, strict=True), strict=True):
            file = folder / f"{part}.{code}"
            file.write_text("".join(f"{line}\n" for line in side), encoding="utf-8", newline="\n")
            written.append(file)
    return written


def _write_subwords(stage: Path, recipe: Iwslt14, parts: Mapping[str, Lines]) -> list[Path]:
    """The parts in sub-words of both languages' training text together, and their model."""
    learned = learn_subwords((side for pair in parts["train"] for side in pair), recipe.subwords)

    def split(line: str) -> str:
        return " ".join(learned.split(line))

    pieces = {part: [(split(german), split(english)) for german, english in pairs] for part, pairs in parts.items()}
    written = _write_parts(stage / "bpe", pieces)
    model = stage / "bpe" / MODEL
    model.write_bytes(learned.model)
    return [*written, model]


def _move(stage: Path, recipe: Iwslt14, made: Manifest) -> None:
    """The files of ``stage`` into the data root, their manifest after them: without it they count for nothing."""
    (recipe.place / MANIFEST).unlink(missing_ok=True)
    for form in FORMS:
        files = [stage / name for name in made.md5 if name.startswith(f"{form}/")]
        if files:
            (recipe.place / form).mkdir(exist_ok=True)
            move_in(files, recipe.place / form)
    (stage / MANIFEST).write_text(json.dumps(asdict(made), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    move_in([stage / MANIFEST], recipe.place)


def _note(recipe: Iwslt14, made: Manifest) -> str:
    counts = ", ".join(f"{part} {count:,}" for part, count in made.pairs.items())
    note = f"{recipe.title}: {counts} pairs"
    if made.dropped:
        note += f", {made.dropped:,} too long or too unlike in length dropped"
    if made.missing:
        gone = ", ".join(map(train_name, LANGUAGES))
        return f"{note}; without {', '.join(made.missing)}: {gone} are not in the source"
    unlike = [part for part, count in recipe.pairs.items() if made.pairs[part] != count]
    note += f"; sub-words: {made.subwords}"
    if unlike:
        note += "; the original gives other numbers: " + ", ".join(f"{p} {recipe.pairs[p]:,}" for p in unlike)
    return note
