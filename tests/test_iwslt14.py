"""IWSLT-14: what becomes of the original files, and what is said of files that are not the originals."""

import dataclasses
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from types import MappingProxyType

import pytest

import l2t_bench as l2t
from l2t_bench.data.catalogue import DATA_SETS, prepare
from l2t_bench.data.checksums import data_record
from l2t_bench.data.iwslt14_fetch import fetch
from l2t_bench.data.iwslt14_files import IWSLT14, IWSLT14_MIXER, LANGUAGES, Iwslt14
from l2t_bench.data.iwslt14_prepare import prepare_iwslt14, split_every, told
from l2t_bench.data.iwslt14_source import segments, training_lines
from l2t_bench.data.moses import moses_tokenizer
from l2t_bench.data.root import VARIABLE
from l2t_bench.data.subwords import Subwords
from l2t_bench.data.text_files import alike_in_length

LINES = 100


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root that does not exist yet."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture
def original() -> Path:
    """The folder of the original test sets; their standard preparation lies above it."""
    place = Path(os.environ.get(VARIABLE, "nowhere")) / "iwslt14"
    if not (place / "de-en").is_dir():
        pytest.skip(f"needs the original test sets: set {VARIABLE} to a data root that has iwslt14/de-en")
    return place / "de-en"


def tagged(language: str) -> str:
    """Training text of a hundred sentences, some too long or unlike, with what is said about a talk."""
    sentences = [f"Satz {number}, und noch {'sehr ' * (number % 5)}viel." for number in range(LINES)]
    sentences[40] = "kurz" if language == "de" else "much too long for such a short sentence"
    sentences[41] = "Wort " * 200
    sentences[42] = ""
    head = [
        "<url>http://example.org/talk</url>",
        "<keywords>a, b</keywords>",
        "<talkid>1</talkid>",
        "<title>Ein Titel &amp; mehr</title>",
        "<description>Eine Beschreibung.</description>",
    ]
    return "\n".join([*head, *(f" {sentence} " for sentence in sentences)]) + "\n"


@pytest.fixture
def small(tmp_path: Path) -> tuple[Iwslt14, Path]:
    """A recipe whose originals are small, and the folder that has them."""
    folder = tmp_path / "source" / "de-en"
    folder.mkdir(parents=True)
    for number, name in enumerate(IWSLT14.sums):
        lines = [
            f'<doc docid="{number}"><title>Titel</title>',
            f'<seg id="1"> It\u2019s {name[:14]} {number} etc. </seg>',
        ]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for code in LANGUAGES:
        (folder / f"train.tags.de-en.{code}").write_text(tagged(code), encoding="utf-8")
    sums = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in IWSLT14.sums}
    return dataclasses.replace(IWSLT14, sums=MappingProxyType(sums), subwords=60), folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- the real test sets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [IWSLT14, IWSLT14_MIXER], ids=lambda recipe: recipe.name)
def test_the_test_set_is_line_for_line_the_standard_one(
    recipe: Iwslt14, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    prepared = prepare(recipe.name, original)
    for code in LANGUAGES:
        ours, standard = (recipe.file("tokenized", "test", code), original.parent / f"test.{code}")
        assert ours.read_bytes() == standard.read_bytes()
        assert ours.read_text(encoding="utf-8").count("\n") == 6_750
    assert "&apos;" in recipe.file("tokenized", "test", "en").read_text(encoding="utf-8")
    assert "without train, valid, bpe: train.tags.de-en.de, train.tags.de-en.en are not in the source" in prepared.note
    assert told(recipe).endswith("without train, valid, bpe")


# -- from tags to tokens -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "line", "tokens"),
    [
        ("en", "those are all the roads in the U.S.A.", "those are all the roads in the U.S.A ."),
        ("en", "in the U.S.A. and so on...", "in the U.S.A. and so on ..."),
        ("de", "die letzten 75.", "die letzten 75 ."),
        ("en", 'It\'s "so" & not [that] way', "It &apos;s &quot; so &quot; &amp; not &#91; that &#93; way"),
        ("de", "Jaguar-Schamanen, usw.", "Jaguar-Schamanen , usw ."),
    ],
)
def test_lines_are_tokenised_as_by_moses(language: str, line: str, tokens: str) -> None:
    assert moses_tokenizer(language)(line) == tokens


def test_a_test_sets_sentences_are_its_segments_with_plain_apostrophes() -> None:
    xml = ["<title>no</title>", '<seg id="1"> It\u2019s &amp; one. </seg>', '  <seg id="2">Two.</seg>', "</doc>"]
    assert list(segments(xml)) == ["It's &amp; one.", "Two."]


def test_titles_and_descriptions_are_sentences_and_metadata_are_not() -> None:
    assert list(training_lines(tagged("de").splitlines()))[:3] == [
        "Ein Titel &amp; mehr",
        "Eine Beschreibung.",
        "Satz 0, und noch viel.",
    ]


def test_every_23rd_pair_counted_from_one_is_for_valid() -> None:
    pairs = [(str(number), str(number)) for number in range(1, 101)]
    parts = split_every(pairs, 23)
    assert [pair[0] for pair in parts["valid"]] == ["23", "46", "69", "92"]
    assert sorted([*parts["train"], *parts["valid"]]) == sorted(pairs)


def test_pairs_are_kept_up_to_the_length_and_the_ratio_and_not_beyond() -> None:
    words = ["a"] * 200
    assert alike_in_length((words[:175], words[:175]), 175, 1.5)
    assert not alike_in_length((words[:176], words[:176]), 175, 1.5)
    assert alike_in_length((words[:2], words[:3]), 175, 1.5) and alike_in_length((words[:3], words[:2]), 175, 1.5)
    assert not alike_in_length((words[:3], words[:5]), 175, 1.5)
    assert not alike_in_length((words[:0], words[:1]), 175, 1.5)


# -- the whole way -----------------------------------------------------------------------------------------------------


def test_a_whole_source_gives_three_parts_in_tokens_and_in_joint_subwords(
    root: Path, small: tuple[Iwslt14, Path]
) -> None:
    recipe, folder = small
    prepared = prepare_iwslt14(recipe, folder)
    count = {"train": 95, "valid": 4, "test": 5}  # of 102 lines, three do not pass
    assert json.loads((recipe.place / "prepared.json").read_text())["pairs"] == count
    assert "3 too long or too unlike in length dropped" in prepared.note and "joint" in prepared.note
    subwords = Subwords((recipe.place / "bpe" / "bpe.model").read_bytes())
    for part, pairs in count.items():
        for code in LANGUAGES:
            tokens = recipe.file("tokenized", part, code).read_text(encoding="utf-8").splitlines()
            pieces = recipe.file("bpe", part, code).read_text(encoding="utf-8").splitlines()
            assert len(tokens) == len(pieces) == pairs
            assert tokens == [line.lower() for line in tokens]
            assert [subwords.join(line.split()) for line in pieces] == tokens
    assert (recipe.place / "tokenized" / "test.en").read_text().startswith("it &apos;s iwslt14.ted.de 1 etc .\n")
    assert {path.name for path in root.rglob("*") if path.is_dir()} == {"iwslt14", "tokenized", "bpe"}


def test_what_is_there_and_sound_stays_and_what_is_damaged_is_made_anew(
    root: Path, small: tuple[Iwslt14, Path]
) -> None:
    recipe, folder = small
    prepare_iwslt14(recipe, folder)
    before = contents(root)
    again = prepare_iwslt14(recipe, folder)
    assert "nothing was done" in again.note and again.added == again.replaced == ()
    file = recipe.file("bpe", "train", "de")
    file.write_bytes(file.read_bytes()[:-9])
    assert prepare_iwslt14(recipe, folder).replaced == ("bpe/train.de",)
    assert contents(root) == before


def test_a_root_without_training_text_is_completed_from_a_source_that_has_it(
    root: Path, small: tuple[Iwslt14, Path]
) -> None:
    recipe, folder = small
    for code in LANGUAGES:
        (folder / f"train.tags.de-en.{code}").rename(folder.parent / f"aside.{code}")
    assert set(prepare_iwslt14(recipe, folder).added) == {"tokenized/test.de", "tokenized/test.en"}
    for code in LANGUAGES:
        (folder.parent / f"aside.{code}").rename(folder / f"train.tags.de-en.{code}")
    assert "bpe/train.de" in prepare_iwslt14(recipe, folder).added
    assert told(recipe) == "IWSLT-14 de-en (160k recipe, pairs of up to 175 tokens), joint BPE of 60"


@pytest.mark.usefixtures("root")
def test_the_mixer_recipe_drops_what_is_longer_than_fifty_tokens(small: tuple[Iwslt14, Path]) -> None:
    recipe, folder = small
    for code in LANGUAGES:
        with (folder / f"train.tags.de-en.{code}").open("a", encoding="utf-8") as file:
            file.write("wort " * 51 + "\n" + "wort " * 50 + "\n")
    mixer = dataclasses.replace(recipe, name=IWSLT14_MIXER.name, longest=IWSLT14_MIXER.longest)
    prepare_iwslt14(recipe, folder), prepare_iwslt14(mixer, folder)
    lengths = [
        max(len(line.split()) for line in each.file("tokenized", "train", "de").read_text().splitlines())
        for each in (recipe, mixer)
    ]
    assert lengths == [51, 50]


@pytest.mark.parametrize("layout", ["archive", "folder of the archive", "folder above"])
@pytest.mark.usefixtures("root")
def test_the_archive_and_the_folder_above_serve_too(layout: str, small: tuple[Iwslt14, Path], tmp_path: Path) -> None:
    recipe, folder = small
    source = folder.parent
    if layout != "folder above":
        source = tmp_path / "packed"
        source.mkdir()
        with tarfile.open(source / "de-en.tgz", "w:gz") as archive:
            archive.add(folder, "de-en")
    prepare_iwslt14(recipe, source / "de-en.tgz" if layout == "archive" else source)
    assert recipe.file("bpe", "test", "en").is_file()


# -- what is not the original ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt", "de-en/../../outside.txt"])
def test_an_archive_whose_paths_leave_its_folder_is_refused(
    name: str, small: tuple[Iwslt14, Path], root: Path, tmp_path: Path
) -> None:
    recipe, folder = small
    archive = tmp_path / "de-en.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(folder, "de-en")
        member = tarfile.TarInfo(name)
        member.size = 3
        packed.addfile(member, io.BytesIO(b"bad"))
    with pytest.raises(l2t.UserError, match="is refused, nothing was taken from it"):
        prepare_iwslt14(recipe, archive)
    assert not root.exists() and not list(tmp_path.rglob("outside.txt"))


def damage_archive(folder: Path) -> Path:
    archive = folder.parent / "de-en.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(folder, "de-en")
    archive.write_bytes(archive.read_bytes()[:-200])
    return archive


def drop_a_test_set(folder: Path) -> Path:
    (folder / "IWSLT14.TED.tst2011.de-en.en.xml").unlink()
    return folder


def drop_one_language(folder: Path) -> Path:
    (folder / "train.tags.de-en.en").unlink()
    return folder


def change_a_test_set(folder: Path) -> Path:
    (folder / "IWSLT14.TED.tst2011.de-en.en.xml").write_text('<seg id="1"> another </seg>\n')
    return folder


def make_unequal(folder: Path) -> Path:
    with (folder / "train.tags.de-en.en").open("a") as file:
        file.write("one more\n")
    return folder


def write_latin1(folder: Path) -> Path:
    with (folder / "train.tags.de-en.de").open("ab") as file:
        file.write("größer\n".encode("latin-1"))
    return folder


@pytest.mark.parametrize(
    ("spoil", "answer"),
    [
        (damage_archive, "de-en.tgz cannot be unpacked"),
        (drop_a_test_set, "tst2011.de-en.en.xml missing in"),
        (drop_one_language, "train.tags.de-en.en missing in"),
        (change_a_test_set, "is damaged, or not the original: its md5 is"),
        (make_unequal, "the training text has 102 sentences in de and 103 in en: it is not parallel"),
        (write_latin1, "train.tags.de-en.de, line 106, is not UTF-8"),
        (lambda folder: folder.parent / "nowhere", "there is no .*nowhere: name de-en.tgz, or the folder"),
        (lambda folder: folder.parents[1], "IWSLT-14 is neither in .* nor in its de-en"),
    ],
)
def test_a_source_that_is_not_the_original_is_an_error_and_nothing_is_written(
    spoil: object, answer: str, small: tuple[Iwslt14, Path], root: Path
) -> None:
    recipe, folder = small
    with pytest.raises(l2t.UserError, match=answer):
        prepare_iwslt14(recipe, spoil(folder))  # type: ignore[operator]
    assert not root.exists()


def test_where_there_is_no_network_the_way_without_is_told(tmp_path: Path) -> None:
    with pytest.raises(l2t.UserError, match=r"could not be downloaded: .*--from takes de-en\.tgz"):
        fetch(tmp_path, "http://127.0.0.1:9/de-en.tgz")


@pytest.mark.usefixtures("root")
def test_results_name_the_data_and_the_sums_of_what_was_read(
    small: tuple[Iwslt14, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = small
    assert data_record("iwslt14/lstm1") == {"data set": IWSLT14.told}
    prepare_iwslt14(recipe, folder)
    record = data_record("iwslt14/lstm1")
    assert set(record) == {"data set", *(file.name for file in recipe.read)}
    assert {"iwslt14", "iwslt14-mixer"} < set(DATA_SETS)
