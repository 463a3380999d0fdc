"""Several ranks find what one process finds: gradients, trainings, and what is wrong, each the same on all of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from ranks_at_work import GRADIENTS, GROUPS, TRAININGS, Found, worked

from l2t_bench.distributed.ranks import ALONE
from l2t_bench.modules import same_tensors, tensor_leaves


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Found]]:
    """What two ranks find, by rank."""
    return worked("all", 2, tmp_path_factory.mktemp("two"))


def apart(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to the largest entry."""
    pairs = zip(tensor_leaves(ours), tensor_leaves(theirs), strict=True)
    return max(float((left - right).abs().max() / right.abs().max().clamp_min(1e-300)) for left, right in pairs)


def tensors(found: Found) -> dict[str, Any]:
    return {name: torch.tensor(value) if isinstance(value, float) else value for name, value in found.items()}


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_gradient_of_batches_that_two_ranks_share_is_that_of_one_process(
    of_two: list[dict[str, Found]], name: str
) -> None:
    alone = tensors(GRADIENTS[name](ALONE))
    first, second = (tensors(found[name]) for found in of_two)
    assert apart(first, alone) < 1e-12
    assert same_tensors(first, second), "both ranks hold the same bits"


@pytest.mark.parametrize("name", [name for name in TRAININGS if name.startswith("students")])
def test_a_training_whose_students_two_ranks_share_is_that_of_one_process_bit_for_bit(
    of_two: list[dict[str, Found]], name: str
) -> None:
    alone = TRAININGS[name](ALONE)
    for found in of_two:
        assert same_tensors(found[name]["theta"], alone["theta"]) and same_tensors(found[name]["last"], alone["last"])
        assert found[name]["curve"] == alone["curve"] and found[name]["selection"] == alone["selection"]


@pytest.mark.parametrize("by", ["batch", "students"])
def test_a_training_that_one_rank_stops_ends_on_both_and_goes_on_bit_for_bit(
    of_two: list[dict[str, Found]], by: str
) -> None:
    assert of_two[0][f"{by}, resumed"]["files"] == ["checkpoint-00000002.safetensors"], "the first rank wrote it"
    for found in of_two:
        gone_on = found[f"{by}, resumed"]
        assert same_tensors(gone_on["theta"], found[by]["theta"]) and gone_on["selection"] == found[by]["selection"]


def test_students_that_diverge_are_counted_over_all_ranks(of_two: list[dict[str, Found]]) -> None:
    counts = [record.diverged for record in of_two[0]["students, some diverge"]["curve"]]
    assert counts == [record.diverged for record in of_two[0]["batch, some diverge"]["curve"]] == [1, 2, 1]


@pytest.mark.parametrize("name", [name for name in TRAININGS if name.startswith("batch")])
def test_a_training_whose_batches_two_ranks_share_is_that_of_one_process(
    of_two: list[dict[str, Found]], name: str
) -> None:
    alone, (first, second) = TRAININGS[name](ALONE), (found[name] for found in of_two)
    assert apart(first["theta"], alone["theta"]) < 1e-12
    assert same_tensors(first["last"], second["last"]) and first["curve"] == second["curve"]
    for ours, theirs in zip(first["curve"], alone["curve"], strict=True):
        assert ours.value == pytest.approx(theirs.value, rel=1e-12)
        assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-10)
        assert ours.noise == pytest.approx(theirs.noise, rel=1e-10)
    assert first["selection"] == second["selection"]


SAID: dict[str, tuple[str, str]] = {
    "other code": ("UserError", "rank 1 (there) and rank 0 (here) are not of one training: code is '0123456789ab'"),
    "other data": ("UserError", "rank 1 (there) and rank 0 (here) are not of one training: data is"),
    "another loss": ("UserError", "rank 1 and rank 0 are not of one training: the first step's loss is"),
    "another seed": ("UserError", "seed is 1 there and 0 here"),
    "students that do not divide": ("UserError", "3 students of an outer step cannot be divided among 2 ranks"),
    "a batch that does not divide": ("UserError", "step 0 has 9 examples, which 2 ranks cannot divide evenly"),
    "another library's backend": ("Refused", "higher takes batches whole"),
}


@pytest.mark.parametrize("name", SAID)
def test_ranks_that_are_not_of_one_training_all_say_so(of_two: list[dict[str, Found]], name: str) -> None:
    kind, said = SAID[name]
    for found in of_two:
        assert found[name]["error"] == kind and said in found[name]["said"]


def test_where_one_rank_fails_the_others_end_with_its_reason(of_two: list[dict[str, Found]]) -> None:
    others, own = (found["one rank fails"] for found in of_two)
    assert (own["error"], own["said"]) == ("RuntimeError", "the disk of this rank is gone")
    assert others["error"] == "RankError" and "rank 1: RuntimeError: the disk of this rank is gone" in others["said"]


@pytest.mark.slow
def test_sentences_that_are_padded_are_shared_out(tmp_path: Path) -> None:
    first, second = (tensors(found["translation"]) for found in worked("translation", 2, tmp_path))
    assert apart(first, tensors(GROUPS["translation"]["translation"](ALONE))) < 1e-12
    assert same_tensors(first, second)


@pytest.mark.slow
def test_four_ranks_find_it_too(tmp_path: Path) -> None:
    by_rank = worked("four", 4, tmp_path)
    for name, case in GROUPS["four"].items():
        alone, found = case(ALONE), [rank[name] for rank in by_rank]
        assert apart([found[0][part] for part in ("d_theta", "theta") if part in alone], alone_part(alone)) < 1e-12
        assert all(same_tensors(each, found[0]) for each in found)


def alone_part(alone: Found) -> list[Any]:
    return [alone[part] for part in ("d_theta", "theta") if part in alone]
