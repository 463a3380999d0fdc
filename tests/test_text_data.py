"""Text: numbers in words, anybody's parallel files, and the batches that are made of them."""

import os
import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchtext.data import Field

import l2t_bench as l2t
from l2t_bench.data.numbers import NumberSizes, english, german, load_numbers, number_values
from l2t_bench.data.parallel_files import Language
from l2t_bench.data.parallel_parts import TextParts, file_parts, folder_parts, in_subwords, some
from l2t_bench.data.root import VARIABLE
from l2t_bench.data.specials import BEGIN, END, PAD, SPECIALS
from l2t_bench.data.splits import SplitSizes
from l2t_bench.data.subwords import learn_subwords
from l2t_bench.data.text_batches import (
    PairDataset,
    TextBatch,
    TextBatches,
    TextForm,
    TextSplits,
    check_vocabulary,
    make_fields,
)
from l2t_bench.data.text_files import Pair, ParallelText, as_parallel, read_parallel
from l2t_bench.modules import same_tensors

CPU = torch.device("cpu")
ENDS = Language("de", "en")

# -- numbers -----------------------------------------------------------------------------------------------------------


def test_numbers_are_said_in_german_and_english() -> None:
    assert german(21) == "einundzwanzig" and german(0) == "null"
    assert english(1021) == ("one", "thousand", "and", "twenty", "-", "one")
    assert german(999_999) == "neunhundertneunundneunzigtausendneunhundertneunundneunzig"


@given(st.tuples(st.integers(1, 50), st.integers(1, 50), st.integers(0, 50)), st.integers(0, 2**31))
@settings(max_examples=30)
def test_no_number_is_in_two_parts_and_the_seed_alone_decides(counts: tuple[int, int, int], split: int) -> None:
    sizes = NumberSizes(*counts, largest=200, split=split)
    parts = number_values(sizes)
    assert tuple(map(len, parts)) == counts
    drawn = [value for part in parts for value in part]
    assert len(set(drawn)) == len(drawn) and all(0 <= value <= 200 for value in drawn)
    assert number_values(sizes) == parts


def test_every_pair_says_one_number_in_both_languages() -> None:
    sizes = NumberSizes(60, 20, 20)
    for text, values in zip(load_numbers(sizes, 40), number_values(sizes), strict=True):
        said = [("".join(pair.source).removeprefix("\u2581"), pair.target) for pair in text.pairs]
        assert said == [(german(value), english(value)) for value in values]


@pytest.mark.parametrize(
    ("sizes", "answer"),
    [
        (NumberSizes(5, 5, 0, largest=8), "train=5 and dev=5 are more than the 9 examples"),
        (NumberSizes(5, 2, 3, largest=8), "test=3 numbers cannot be unseen: train and dev leave 2"),
        (NumberSizes(5, 2, 3, largest=1_000_000), "largest must be from 1 to 999,999, not 1,000,000"),
    ],
)
def test_numbers_that_there_are_not_are_an_error(sizes: NumberSizes, answer: str) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        number_values(sizes)


def test_too_few_subwords_for_the_characters_are_an_error() -> None:
    with pytest.raises(l2t.UserError, match="no 5 sub-words can be learned of this text"):
        learn_subwords(["abcdefgh"], 5)


# -- two files ---------------------------------------------------------------------------------------------------------


def write(stem: Path, source: list[str], target: list[str]) -> tuple[Path, Path]:
    files = stem.with_suffix(".de"), stem.with_suffix(".en")
    for file, lines in zip(files, (source, target), strict=True):
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return files


def test_pairs_with_an_empty_or_too_long_side_are_counted_and_dropped(tmp_path: Path) -> None:
    text = read_parallel(*write(tmp_path / "a", ["x y", " ", "x", "x x x x"], ["z", "z", "", "z"]), longest=3)
    assert text == ParallelText((Pair(("x", "y"), ("z",)),), empty=2, too_long=1)
    assert text.told == "1 pairs, dropped: 2 empty and 1 too long"


def test_only_the_end_of_a_line_ends_it(tmp_path: Path) -> None:
    for name, line in (("a.de", "x\u2028y\x85z\r\n\ufeff\r\n"), ("a.en", "\ufeffu\nv\n")):
        (tmp_path / name).write_bytes(line.encode())
    assert read_parallel(tmp_path / "a.de", tmp_path / "a.en", 9).pairs == (
        Pair(("x", "y", "z"), ("u",)),
        Pair(("\ufeff",), ("v",)),
    )


def test_files_that_are_not_parallel_text_are_an_error_that_says_why(tmp_path: Path) -> None:
    files = write(tmp_path / "a", ["x", "y"], ["x"])
    with pytest.raises(l2t.UserError, match=r"a\.de has 2 lines and .*a\.en 1: parallel text has a line for a line"):
        read_parallel(*files, 9)
    files[1].write_bytes("gut\ngrün\n".encode("latin-1"))
    with pytest.raises(l2t.UserError, match=r"a\.en, line 2, is not UTF-8: write it anew, iconv"):
        read_parallel(*files, 9)
    with pytest.raises(l2t.UserError, match=r"b\.en cannot be read: No such file"):
        read_parallel(files[0], tmp_path / "b.en", 9)
    with pytest.raises(l2t.UserError, match="hold no pair of sentences that can be taken: 0 pairs, dropped: 2 empty"):
        read_parallel(*write(tmp_path / "c", ["", ""], ["x", "y"]), 9)


def lines(count: int, start: int = 0) -> tuple[list[str], list[str]]:
    numbers = range(start, start + count)
    return [f"wort {number}" for number in numbers], [f"word {number} it is" for number in numbers]


def test_two_files_are_split_under_a_seed_and_a_folder_by_its_names(tmp_path: Path) -> None:
    write(tmp_path / "all", *lines(20))
    parts = file_parts(tmp_path / "all", ENDS, 9, SplitSizes(9, 5, 3))
    assert [len(part.pairs) for part in parts] == [9, 5, 6]
    assert Counter(pair for part in parts for pair in part.pairs) == Counter(
        read_parallel(tmp_path / "all.de", tmp_path / "all.en", 9).pairs
    )
    for name, start in (("train", 0), ("valid", 10), ("test", 20)):
        write(tmp_path / name, *lines(10, start))
    assert [part.pairs[0].source[1] for part in folder_parts(tmp_path, ENDS, 9)] == ["0", "10", "20"]
    (tmp_path / "test.de").unlink()
    assert folder_parts(tmp_path, ENDS, 9).test.pairs == ()


def test_some_pairs_are_drawn_in_their_order_and_more_than_there_are_is_an_error() -> None:
    text = as_parallel(zip(*lines(30), strict=True), 9)
    drawn = some(text, 10, seed=1)
    rows = [text.pairs.index(pair) for pair in drawn.pairs]
    assert rows == sorted(rows) and len(set(rows)) == 10 and some(text, 10, seed=1) == drawn
    assert some(text, 10, seed=2) != drawn and some(text, 0, seed=1) == text
    with pytest.raises(l2t.UserError, match="31 pairs of sentences were asked for, and there are 30 pairs"):
        some(text, 31, seed=1)


def test_joint_subwords_are_learned_of_train_and_give_the_words_back() -> None:
    train, other = (as_parallel(zip(*lines(30, start), strict=True), 9) for start in (0, 30))
    parts = in_subwords(TextParts(train, other, ParallelText(())), 25)
    for before, after in ((train, parts.train), (other, parts.dev)):
        for words, pieces in zip(before.pairs, after.pairs, strict=True):
            assert ["".join(side).replace("\u2581", " ").split() for side in pieces] == [list(side) for side in words]


def test_the_tokenised_sample_of_iwslt_is_read_whole() -> None:
    folder = Path(os.environ.get(VARIABLE, "nowhere")) / "iwslt14"
    if not (folder / "train.de").is_file():
        pytest.skip(f"needs the tokenised sample: set {VARIABLE} to a data root that has iwslt14/train.de")
    assert [text.told for text in folder_parts(folder, ENDS, 175)] == ["14,947 pairs", "7,283 pairs", "6,750 pairs"]


# -- batches -----------------------------------------------------------------------------------------------------------


def text_of(lengths: list[int]) -> ParallelText:
    """Pairs whose first source word tells them apart."""
    return ParallelText(
        tuple(Pair((f"s{at}", *"abcde"[: n % 5]), tuple("uvwxyz"[: n % 6] + "t")) for at, n in enumerate(lengths))
    )


def splits_of(count: int, multiple: int = 1, size: int = 1000) -> TextSplits:
    text = text_of(random.Random(0).choices(range(30), k=count))
    return TextSplits(lambda: TextParts(text, text, ParallelText(())), TextForm(size, 30, multiple), CPU)


def words_of(batch: TextBatch, fields: tuple[Field, Field]) -> list[Pair]:
    (source, before), after = batch
    assert torch.equal(before[:, 1:], after[:, :-1])
    rows = []
    for row in range(len(source)):
        left, right = source[row].tolist(), after[row].tolist()
        assert before[row, 0] == BEGIN and set(left[left.index(END) + 1 :]) | set(right[right.index(END) + 1 :]) <= {
            PAD
        }
        rows.append(
            Pair(
                tuple(fields[0].vocab.itos[word] for word in left[: left.index(END)]),
                tuple(fields[1].vocab.itos[word] for word in right[: right.index(END)]),
            )
        )
    return rows


def test_an_epoch_has_every_pair_once_and_the_next_another_order() -> None:
    splits = splits_of(96)
    train = splits.train(8)
    epochs = [[words_of(train(index, 5), splits.fields) for index in range(at, at + 12)] for at in (0, 12)]
    for epoch in epochs:
        assert Counter(pair for batch in epoch for pair in batch) == Counter(splits.parts.train.pairs)
    assert epochs[0] != epochs[1]


def test_a_batch_is_a_function_of_index_and_seed_and_leaves_pythons_random_state_alone() -> None:
    train, again = splits_of(64).train(8), splits_of(64).train(8)
    state = random.getstate()
    drawn = [tuple(train(index, 1)) for index in (9, 3, 20)]
    assert random.getstate() == state
    random.seed(99)
    assert same_tensors(drawn, [tuple(again(index, 1)) for index in (9, 3, 20)])
    assert not same_tensors(tuple(train(3, 1)), tuple(train(3, 2)))


def test_batches_hold_sentences_of_like_length() -> None:
    """Padding: the buckets' at most a third of what batches in any order need."""
    splits = splits_of(512)
    padding = [int((splits.train(8)(index, 0).targets == PAD).sum()) for index in range(64)]
    chunks = [int((chunk.targets == PAD).sum()) for chunk in splits.chunks("dev", 8)]
    assert len(chunks) == len(padding) and 0 < 3 * sum(padding) < sum(chunks)


@pytest.mark.parametrize("multiple", [1, 4, 16])
def test_widths_are_padded_to_a_multiple_and_no_further(multiple: int) -> None:
    splits = splits_of(64, multiple)
    for index in range(8):
        (source, before), after = splits.train(8)(index, 0)
        assert before.shape == after.shape
        for words in (source, after):
            longest = int((words != PAD).sum(1).max())
            assert words.shape[1] == -(-longest // multiple) * multiple and words.is_contiguous()


def test_dev_comes_in_its_order_and_a_part_that_is_not_there_is_an_error() -> None:
    splits = splits_of(10)
    chunks = splits.chunks("dev", 4)
    assert [len(chunk.targets) for chunk in chunks] == [4, 4, 2]
    assert [pair for chunk in chunks for pair in words_of(chunk, splits.fields)] == list(splits.parts.dev.pairs)
    with pytest.raises(l2t.UserError, match="the text has no test part"):
        splits.chunks("test", 4)


def test_a_vocabulary_has_its_special_words_first_and_no_more_words_than_asked_for() -> None:
    fields = splits_of(64, size=10).fields
    for field, size in zip(fields, (10, 4 + len("tuvwxy")), strict=True):
        check_vocabulary(field.vocab)
        assert len(field.vocab) == size and tuple(field.vocab.itos[:4]) == SPECIALS
    assert fields[0].vocab.stoi["never seen"] == 0


def test_a_vocabulary_without_its_special_words_and_a_text_with_them_are_errors() -> None:
    bare = Field(unk_token=None, pad_token=None)
    bare.build_vocab([["a", "b"]])
    with pytest.raises(l2t.UserError, match="the vocabulary must have <unk> as number 0: it begins"):
        check_vocabulary(bare.vocab)
    with pytest.raises(l2t.UserError, match="the text has the special word </s> in 'a </s> b'"):
        make_fields(as_parallel([("x", "a </s> b")], 9), TextForm(20, 20))
    with pytest.raises(l2t.UserError, match="they cannot have 4 and 20"):
        TextForm(4, 20)


def test_fewer_pairs_than_a_batch_are_an_error() -> None:
    few = text_of([1, 2, 3])
    fields = make_fields(few, TextForm(20, 20))
    with pytest.raises(l2t.UserError, match="3 training pairs are fewer than a batch of 4"):
        TextBatches(lambda: PairDataset(few.pairs, fields), 4, CPU)(0, 0)
