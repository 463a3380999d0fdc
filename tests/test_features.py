"""The paper's thirteen numbers: against a computation by hand, and by the stated rule of when and on what."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import l2t_bench as l2t
from l2t_bench.features import PaperFeatures
from l2t_bench.problem import StudentView
from l2t_bench.steppers import catalogue, compiling
from l2t_bench.steppers.recording import Reruns
from l2t_bench.teachers import AttentionTeacher
from l2t_bench.verification.samples import general_theta, random_batch, random_problem

Pair = tuple[Tensor, Tensor]


def answers(predicted: list[int], truth: list[int], classes: int = 3) -> Pair:
    """A batch whose inputs are the logits of a student that predicts ``predicted``."""
    return torch.nn.functional.one_hot(torch.tensor(predicted), classes).double(), torch.tensor(truth)


def view(
    index: int, horizon: int, train: Callable[[int], Pair], dev: list[Pair], previous: Tensor | None = None
) -> StudentView:
    """A view of a student that returns its inputs as logits."""
    return StudentView(index, horizon, lambda inputs: inputs, lambda inputs: inputs, train, dev, previous)


DEV = [answers([0, 0, 0, 2], [0, 0, 1, 2]), answers([2, 0], [1, 0])]
# 0 is predicted four times, three times rightly; 1 never; 2 twice, once rightly: four of six are right
HAND = [3 / 4, 0.0, 1 / 2]


def test_the_features_are_those_of_a_computation_by_hand() -> None:
    features = PaperFeatures()(view(6, 24, lambda index: answers([0, 1, 1, 1], [0, 1, 2, 2]), DEV))
    assert features.tolist() == pytest.approx([6 / 24, 2 / 4, 4 / 6, *HAND])
    assert features.dtype == torch.float64 and features.shape == (3 + 3,)


def test_the_precision_of_a_class_that_is_never_predicted_is_zero() -> None:
    features = PaperFeatures()(view(0, 1, lambda index: DEV[0], [answers([0, 0], [1, 2])]))
    assert features[3:].tolist() == [0.0, 0.0, 0.0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30), st.integers(0, 9))
def test_every_feature_lies_between_zero_and_one(pairs: list[tuple[int, int]], index: int) -> None:
    batch = answers([predicted for predicted, _ in pairs], [truth for _, truth in pairs], classes=4)
    features = PaperFeatures(every=1)(view(index, 10, lambda at: batch, [batch]))
    assert features.shape == (7,) and bool(((features >= 0) & (features <= 1)).all())


@pytest.mark.parametrize(("index", "expected"), [(0, [0]), (3, [0, 1, 2, 3]), (20, [16, 17, 18, 19, 20])])
def test_training_accuracy_is_that_of_the_last_batches_up_to_this_step(index: int, expected: list[int]) -> None:
    asked: list[int] = []

    def train(at: int) -> Pair:
        asked.append(at)
        return answers([0], [0 if at == index else 1])  # right in the newest batch only

    features = PaperFeatures(every=1, train_batches=5)(view(index, 40, train, DEV))
    assert asked == expected
    assert float(features[1]) == pytest.approx(1 / len(expected))


@pytest.mark.parametrize(
    ("limit", "accuracy", "precisions"),
    [(0, 4 / 6, HAND), (6, 4 / 6, HAND), (2, 1.0, [1.0, 0.0, 0.0]), (5, 3 / 5, [2 / 3, 0.0, 1 / 2])],
)
def test_dev_is_measured_on_its_first_examples_across_batches(
    limit: int, accuracy: float, precisions: list[float]
) -> None:
    features = PaperFeatures(dev_examples=limit)(view(0, 1, lambda index: DEV[0], DEV))
    assert features[2:].tolist() == pytest.approx([accuracy, *precisions])


@pytest.mark.parametrize(("limit", "read"), [(2, 1), (4, 1), (5, 2), (0, 3)])
def test_no_dev_batch_is_read_behind_the_first_examples(limit: int, read: int) -> None:
    batches: list[int] = []

    def dev() -> Iterator[Pair]:
        for number, batch in enumerate([*DEV, DEV[0]]):
            batches.append(number)
            yield batch

    student: Any = view(0, 1, lambda index: DEV[0], dev())  # type: ignore[arg-type]
    PaperFeatures(dev_examples=limit)(student)
    assert batches == list(range(read))


def test_between_two_measurements_the_features_are_the_same_tensor() -> None:
    never: Any = None
    previous = torch.rand(6)
    rule = PaperFeatures(every=5)
    for index in (1, 4, 9):
        assert rule(view(index, 20, never, never, previous)) is previous
    for index in (0, 5, 10):
        measured = rule(view(index, 20, lambda at: DEV[0], DEV, previous))
        assert measured is not previous and float(measured[0]) == index / 20


def test_a_run_measures_every_so_many_steps_and_shares_the_tensor_in_between() -> None:
    problem = dataclasses.replace(
        random_problem(), features=PaperFeatures(every=3), teacher=l2t.AttentionTeacher(4, features=7).double()
    )
    steps = l2t.record(problem, general_theta(problem), horizon=8)
    held = [step.features for step in steps]
    assert [held[index] is held[index - 1] for index in range(1, 8)] == [True, True, False, True, True, False, True]
    assert [float(features[0]) for features in held] == pytest.approx([0, 0, 0, 3 / 8, 3 / 8, 3 / 8, 6 / 8, 6 / 8])


def test_the_public_rule_is_the_default_one() -> None:
    assert l2t.features.paper == PaperFeatures(every=20, train_batches=10, dev_examples=256)
    features = random_problem().step_features
    assert features(random_problem().view(random_problem().init_student(0), 0, 1, 0, None)).shape == (1,)


def test_a_student_whose_output_is_no_logits_is_refused_with_what_to_do() -> None:
    batch = random_batch(1)
    for wrong in (lambda inputs: (inputs, inputs), lambda inputs: inputs.sum(-1)):
        with pytest.raises(l2t.UserError, match=r"outputs logits \(B, C\); write your own features"):
            PaperFeatures()(dataclasses.replace(view(0, 1, lambda index: batch, [batch]), predict=wrong))


def test_batches_that_are_not_two_tensors_are_refused_with_what_to_do() -> None:
    inputs, targets = random_batch(1)
    with pytest.raises(l2t.UserError, match="needs batches of two tensors; write your own features"):
        PaperFeatures()(view(0, 1, lambda index: ((inputs, inputs), targets), [random_batch(1)]))  # type: ignore


@pytest.mark.parametrize("options", [{"every": 0}, {"train_batches": 0}, {"dev_examples": -1}])
def test_a_rule_that_measures_nothing_is_an_error(options: dict[str, int]) -> None:
    with pytest.raises(l2t.UserError, match="every and train_batches must be at least 1, dev_examples not negative"):
        PaperFeatures(**options)


class _ReadsOnTheHost(TorchDispatchMode):
    """Notes the operators whose result, or whose result's size, the host must know: on a GPU each is a wait."""

    _READS = ("_local_scalar_dense", "bincount", "nonzero", "masked_select", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if any(name in str(func) for name in self._READS):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def test_nothing_of_the_features_is_read_by_the_host() -> None:
    with _ReadsOnTheHost() as reads:
        PaperFeatures(every=1)(view(3, 12, lambda at: DEV[0], DEV))
        random_problem().step_features(view(3, 12, lambda at: DEV[0], DEV))
    assert reads.found == []


@pytest.mark.parametrize("engine", ["eager", "compiled", "graphed"])
def test_no_step_of_a_run_has_the_host_read_a_number(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There and back, s_t measured at every step; what is looked at every fifty steps is read as a list."""
    monkeypatch.setattr(compiling, "_compiled", lambda traced, random: traced.graph)
    monkeypatch.setattr(catalogue, "recorder_for", lambda device: Reruns())
    teacher = AttentionTeacher(4, features=7, keys=3, noise=0.3).double()
    problem = dataclasses.replace(random_problem(), teacher=teacher, features=PaperFeatures(every=1))
    theta, backend = general_theta(problem), l2t.load_backend(f"rmd[engine={engine}]")
    backend.teacher_gradient(problem, theta, horizon=24)  # what is looked at once for a problem
    counts = []
    for horizon in (24, 44):
        with _ReadsOnTheHost() as reads:
            backend.teacher_gradient(problem, theta, horizon=horizon)
        counts.append(len(reads.found))
    assert counts[0] == counts[1]


def test_a_host_read_would_be_found() -> None:
    with _ReadsOnTheHost() as reads:
        torch.bincount(torch.tensor([0, 1]))
        float(torch.ones(()))
    assert len(reads.found) == 2
