"""Blocks of compiled steps, recorded and replayed: the compiled steps bit for bit, here by calls in a graph's place."""

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import l2t_bench as l2t
from l2t_bench.adam import Adam
from l2t_bench.batches import Examples, IndexedBatches
from l2t_bench.features import PaperFeatures
from l2t_bench.gradient import TeacherGradient
from l2t_bench.optimizers import SGD, linear_decay
from l2t_bench.problem import StudentView, TeachingProblem
from l2t_bench.rollout import Rollout
from l2t_bench.steppers import catalogue, compiling
from l2t_bench.steppers.cuda_graphs import recorder_for
from l2t_bench.steppers.recording import Lane, Recording, Reruns, StaticCall, Tree, copy_all
from l2t_bench.teachers import AttentionTeacher
from l2t_bench.verification.ladder import section
from l2t_bench.verification.samples import general_theta, random_problem
from l2t_bench.verification.students import student_problem
from l2t_bench.verification.subject import Outcome
from l2t_bench.verification.vectors import relative_error

HORIZON = 48
"""Step 0 alone, two blocks and three steps to the middle (24), the same from there to the last step, which is alone."""
FORWARD = BACK = 4
"""Blocks forward; back the steps go in fours of ten too, from the last one on."""


@dataclass(eq=False)
class LateLane:
    """A lane as slow as can be, as a GPU's may be: nothing is copied before it is waited for."""

    log: list[str]
    waiting: list[tuple[list[Tensor], list[Tensor]]] = field(default_factory=list)

    def put(self, places: list[Tensor], tensors: list[Tensor]) -> None:
        self.log.append("put")
        self.waiting.append((places, tensors))

    def join(self) -> None:
        self.log.append("join")
        for pair in self.waiting:
            copy_all(*pair)
        self.waiting.clear()


@dataclass(eq=False)
class Watched:
    """Calls again in a graph's place, and notes what is done: as on a GPU, outputs mean nothing before a replay."""

    log: list[str] = field(default_factory=list)

    def record(self, function: Callable[[], Tree]) -> Recording:
        self.log.append("record")
        return _Noting(Reruns().record(function), self.log)

    def lane(self) -> Lane:
        return LateLane(self.log)

    @property
    def replays(self) -> int:
        """Without those by which recordings are tried."""
        return self.log.count("replay") - self.log.count("record")


@dataclass(eq=False)
class _Noting:
    inner: Recording
    log: list[str]

    @property
    def outputs(self) -> Tree:
        return self.inner.outputs

    def replay(self) -> None:
        self.log.append("replay")
        self.inner.replay()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """In place of CUDA graphs; what is compiled is the traced graph as it is."""
    recorder = Watched()
    monkeypatch.setattr(catalogue, "recorder_for", lambda device: recorder)
    monkeypatch.setattr(compiling, "_compiled", lambda traced, random: traced.graph)
    return recorder


def gradient(problem: TeachingProblem, options: str, backend: str = "rmd", **run: Any) -> TeacherGradient:
    theta = general_theta(problem)
    return l2t.load_backend(f"{backend}[{options}]").teacher_gradient(problem, theta, **{"horizon": HORIZON, **run})


def assert_same_bits(ours: TeacherGradient, theirs: TeacherGradient) -> None:
    assert ours.value == theirs.value
    pairs = [(ours.d_theta, theirs.d_theta), (ours.final.params, theirs.final.params), (ours.hyper, theirs.hyper)]
    pairs += [(ours.final.buffers, theirs.final.buffers), (ours.d_omega0 or {}, theirs.d_omega0 or {})]
    pairs += [(ours.final.slots[name], held) for name, held in theirs.final.slots.items()]
    for own, other in pairs:
        assert list(own) == list(other) and all(torch.equal(own[name], other[name]) for name in other)
    norms = [None if found.health is None else found.health.norms for found in (ours, theirs)]
    assert norms[0] == norms[1] and norms[0] is not None
    assert all(torch.equal(own.features, other.features) for own, other in zip(ours.steps, theirs.steps, strict=True))


def assert_graphed(problem: TeachingProblem, options: str = "", backend: str = "rmd") -> TeacherGradient:
    """The bits of compiled steps, and plain torch's gradient."""
    graphed, compiled, plain = (
        gradient(problem, ",".join(filter(None, (f"engine={engine}", options))), backend)
        for engine in ("graphed", "compiled", "eager")
    )
    assert not graphed.warnings, graphed.warnings
    assert_same_bits(graphed, compiled)
    assert relative_error(graphed.d_theta, plain.d_theta) <= 1e-12
    return graphed


def momentum() -> TeachingProblem:
    return random_problem(optimizer=SGD(lr=linear_decay(0.3), momentum=0.9, dampening=0.3, weight_decay=0.05))


def test_blocks_are_replayed_there_and_back_and_give_the_compiled_steps_bits(watched: Watched) -> None:
    assert_graphed(momentum())
    assert watched.log.count("record") == 2 and watched.replays == FORWARD + BACK


@pytest.mark.slow
def test_the_ladder_is_climbed_by_blocks(watched: Watched) -> None:
    found = section(l2t.load_backend("rmd[engine=graphed]"), momentum(), horizons=(HORIZON, HORIZON))
    assert not found.refused and not [check for check in found.checks if check.outcome is Outcome.FAILED]
    assert {"central differences, every entry", "forward-mode probe"} <= {check.name for check in found.checks}
    assert watched.replays > FORWARD + BACK


def test_blocks_of_code_that_a_compiler_made_do_too(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Watched()
    monkeypatch.setattr(catalogue, "recorder_for", lambda device: recorder)
    assert_graphed(momentum())
    assert recorder.replays == FORWARD + BACK


def test_batches_that_are_not_contiguous_are_compiled_and_recorded_as_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, plain = Watched(), momentum()
    monkeypatch.setattr(catalogue, "recorder_for", lambda device: recorder)

    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = plain.train(index, seed)
        return inputs.t().contiguous().t(), torch.stack([targets, targets], 1)[:, 0]

    assert_graphed(dataclasses.replace(plain, train=train))
    assert recorder.replays == FORWARD + BACK


def test_adam_whose_correction_changes_with_the_step_does_too(watched: Watched) -> None:
    assert_graphed(random_problem(optimizer=Adam(lr=linear_decay(0.03), weight_decay=0.05, clip=0.09)))
    assert watched.replays == FORWARD + BACK


@pytest.mark.parametrize(
    "options", ["hyper=true", "store=sqrt", "store=binomial,snapshots=5", "store=disk", "store=host"]
)
def test_under_every_store_and_with_hyper_gradients(watched: Watched, options: str) -> None:
    assert_graphed(momentum(), options)
    assert watched.replays == FORWARD + BACK


@pytest.mark.parametrize(
    ("options", "replays"),
    [("window=15", FORWARD + 1), ("window=15,every=20", 2 + 3), ("window=60", FORWARD + BACK)],
)
def test_truncated_windows_in_blocks(watched: Watched, options: str, replays: int) -> None:
    graphed = gradient(momentum(), f"engine=graphed,{options}", "truncated")
    compiled = gradient(momentum(), f"engine=compiled,{options}", "truncated")
    assert_same_bits(graphed, compiled)
    assert graphed.diagnostics == compiled.diagnostics and watched.replays == replays


def test_running_statistics_pass_from_step_to_step_inside_a_block(watched: Watched) -> None:
    assert_graphed(student_problem("batch norm"))
    assert watched.replays == FORWARD + BACK


def test_recorded_steps_are_taken_in_blocks(watched: Watched) -> None:
    problem = momentum()
    steps = gradient(problem, "engine=eager").steps
    again, compiled = (gradient(problem, f"engine={way}", steps=steps, horizon=None) for way in ("graphed", "compiled"))
    assert_same_bits(again, compiled)
    assert watched.replays == FORWARD + BACK


def test_students_of_a_meta_batch_are_taken_in_blocks(watched: Watched) -> None:
    problem = momentum()
    theta = general_theta(problem)
    graphed, compiled = (
        l2t.teacher_gradients(
            l2t.load_backend(f"rmd[engine={way},students=3]"), problem, theta, horizon=HORIZON, seeds=range(3)
        )
        for way in ("graphed", "compiled")
    )
    for ours, theirs in zip(graphed, compiled, strict=True):
        assert isinstance(ours, TeacherGradient) and isinstance(theirs, TeacherGradient) and not ours.warnings
        assert_same_bits(ours, theirs)
    assert watched.replays == FORWARD + BACK


def test_no_place_is_written_twice_in_one_copy(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the tensors of one copy are written at once. Slots that nobody keeps take turns at two places."""
    copies = 0

    def checked(places: list[Tensor], tensors: list[Tensor]) -> None:
        nonlocal copies
        copies += 1
        assert len({place.data_ptr() for place in places}) == len(places)
        copy_all(places, tensors)

    monkeypatch.setattr("l2t_bench.steppers.graphed.copy_all", checked)
    gradient(momentum(), "engine=graphed")
    assert copies == FORWARD + BACK


def test_runs_share_a_recording_and_leave_each_others_results_as_they_are(watched: Watched) -> None:
    problem = momentum()
    first = gradient(problem, "engine=graphed")
    before = {name: tensor.clone() for name, tensor in (first.d_theta | first.final.params).items()}
    second = gradient(problem, "engine=graphed", seed=1)
    assert all(torch.equal((first.d_theta | first.final.params)[name], tensor) for name, tensor in before.items())
    assert second.cost.seconds_compile == 0 and watched.log.count("record") == 2
    assert_same_bits(second, gradient(problem, "engine=compiled", seed=1))


def test_a_student_that_diverges_does_so_at_the_same_step(watched: Watched) -> None:
    healthy = momentum()

    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = healthy.train(index, seed)
        return (inputs * torch.nan if index == 17 else inputs), targets

    told = []
    for way in ("graphed", "compiled"):
        with pytest.raises(l2t.Diverged, match="the student's loss is not finite at step 17") as diverged:
            gradient(dataclasses.replace(healthy, train=train), f"engine={way}")
        told.append(diverged.value.history[:-1])
    assert told[0] == told[1] and watched.replays == FORWARD


# -- steps that are no block -------------------------------------------------------------------------------------------


def with_features(rule: Callable[[StudentView], Tensor]) -> TeachingProblem:
    teacher = AttentionTeacher(4, features=7, keys=3, noise=0.3).double()
    return dataclasses.replace(momentum(), teacher=teacher, features=rule)


def test_features_measured_every_twenty_steps_leave_two_blocks_between(watched: Watched) -> None:
    assert_graphed(with_features(PaperFeatures(every=20)))
    # 0; 1 to 19; 20 to 23; 24 to 39; 40 to 46; 47
    assert watched.replays == 1 + 1 + BACK


def test_a_rule_that_may_look_at_every_state_is_given_every_state_and_said(watched: Watched) -> None:
    paper = PaperFeatures(every=20)
    graphed = gradient(with_features(paper.__call__), "engine=graphed")  # a function: nothing says until when it holds
    assert_same_bits(graphed, gradient(with_features(paper), "engine=compiled"))
    assert len(graphed.warnings) == 1 and "no 10 steps in a row are known" in graphed.warnings[0]
    assert watched.replays == BACK


def test_a_rule_that_looks_where_it_said_that_it_would_not_is_an_error() -> None:
    class Liar(PaperFeatures):
        def held_until(self, index: int) -> int:
            return index - index % 40 + 40

    for engine in ("eager", "graphed"):
        with pytest.raises(l2t.UserError, match="looks at the student at step 20, which its held_until"):
            gradient(with_features(Liar(every=20)), f"engine={engine}")


@pytest.mark.parametrize(
    ("index", "most", "known"),
    [(0, 20, 1), (1, 20, 19), (1, 10, 10), (20, 20, 4), (24, 20, 16), (40, 20, 7), (47, 20, 1)],
)
def test_steps_are_known_ahead_up_to_those_that_need_a_state(index: int, most: int, known: int) -> None:
    problem = with_features(PaperFeatures(every=20))
    assert Rollout(problem, general_theta(problem), horizon=HORIZON).known_ahead(index, most) == known


def test_steps_of_another_shape_break_their_block_only(watched: Watched) -> None:
    plain = momentum()

    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = plain.train(index, seed)
        return (inputs[:5], targets[:5]) if index == 14 else (inputs, targets)

    problem = dataclasses.replace(plain, train=train)
    graphed, compiled = (gradient(problem, f"engine={way}") for way in ("graphed", "compiled"))
    assert_same_bits(graphed, compiled)
    assert len(graphed.warnings) == 1 and "1 of 48 steps, the first of them step 14" in graphed.warnings[0]
    assert watched.replays == FORWARD + BACK - 2


@pytest.mark.parametrize("student", ["dropout", "augmentation"])
def test_steps_that_draw_random_numbers_are_taken_one_by_one_and_said(watched: Watched, student: str) -> None:
    problem = student_problem(student)
    graphed, compiled = (gradient(problem, f"engine={way}") for way in ("graphed", "compiled"))
    assert_same_bits(graphed, compiled)
    assert ["draw random numbers" in warning for warning in graphed.warnings] == [True]
    assert watched.log == []


def test_expanded_batches_are_taken_one_by_one_and_said(watched: Watched) -> None:
    plain = momentum()

    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = plain.train(index, seed)
        return inputs, targets[:1].expand(len(targets))

    problem = dataclasses.replace(plain, train=train)
    graphed, compiled = (gradient(problem, f"engine={way}") for way in ("graphed", "compiled"))
    assert_same_bits(graphed, compiled)
    assert ["made by expand" in warning for warning in graphed.warnings] == [True] and watched.log == []


@pytest.mark.parametrize("lie", ["apart", "as one"])
def test_rows_of_a_data_set_are_blocks_however_the_features_lie(watched: Watched, lie: str) -> None:
    plain = with_features(PaperFeatures(every=20))
    drawn = [plain.train(index, 0) for index in range(HORIZON)]
    examples = Examples(*(torch.cat(column) for column in zip(*drawn, strict=True)))
    problem = dataclasses.replace(plain, train=IndexedBatches(examples, len(drawn[0][1])))
    steps = gradient(problem, "engine=eager").steps
    if lie == "apart":
        steps = tuple(dataclasses.replace(s, features=torch.stack([s.features] * 2, 1)[:, 0]) for s in steps)
    graphed, compiled = (
        gradient(problem, f"engine={way}", steps=steps, horizon=None) for way in ("graphed", "compiled")
    )
    assert_same_bits(graphed, compiled)
    assert not graphed.warnings and watched.replays == FORWARD + BACK


@pytest.mark.parametrize("step", [1, 5])
def test_a_run_that_diverges_at_once_or_in_its_first_block_does_not_keep_the_next_one_from_blocks(
    watched: Watched, step: int
) -> None:
    healthy = momentum()

    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = healthy.train(index, seed)
        return (inputs * torch.nan if (index, seed) == (step, 0) else inputs), targets

    problem = dataclasses.replace(healthy, train=train)
    with pytest.raises(l2t.Diverged, match=f"not finite at step {step}"):
        gradient(problem, "engine=graphed")
    watched.log.clear()
    assert not gradient(problem, "engine=graphed", seed=1).warnings
    assert watched.replays == FORWARD + BACK


def test_a_run_too_short_for_a_block_needs_no_warning(watched: Watched) -> None:
    assert not gradient(momentum(), "engine=graphed", horizon=12).warnings


# -- where nothing can be recorded -------------------------------------------------------------------------------------


def test_without_a_cuda_device_the_steps_are_compiled_and_it_is_said() -> None:
    problem = momentum()
    graphed, compiled = (gradient(problem, f"engine={way}", horizon=8) for way in ("graphed", "compiled"))
    assert_same_bits(graphed, compiled)
    assert graphed.warnings == (
        "engine=graphed: CUDA graphs need a CUDA device, and the problem is on cpu; "
        "steps were taken one by one, compiled",
    )
    assert not compiled.warnings and recorder_for(torch.device("cuda")) is not None


def test_a_student_that_cannot_be_compiled_goes_in_plain_torch(watched: Watched) -> None:
    found = gradient(student_problem("unused"), "engine=graphed")
    assert len(found.warnings) == 1 and found.warnings[0].startswith("engine=graphed: its steps cannot be traced")


@dataclass(frozen=True)
class _Failing(Reruns):
    asked: list[int] = field(default_factory=list, hash=False)

    def record(self, function: Callable[[], Tree]) -> Recording:
        self.asked.append(1)
        raise RuntimeError("operation not permitted when stream is capturing\nand more of it")


@dataclass(frozen=True)
class _Deaf(Reruns):
    """What an input was when it was recorded is in the recording for ever, as what the host read would be."""

    def record(self, function: Callable[[], Tree]) -> Recording:
        recording = Reruns().record(function)
        return _Once(recording.outputs)


@dataclass
class _Once:
    outputs: Tree

    def replay(self) -> None:
        """Nothing changes."""


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (
            _Failing(),
            "a block of its steps cannot be recorded: RuntimeError: operation not permitted",
        ),
        (_Deaf(), "a recorded block of its steps differs from the plain one by"),
    ],
)
def test_a_recording_that_fails_or_is_wrong_is_told_once_and_tried_no_more(
    monkeypatch: pytest.MonkeyPatch, recorder: Reruns, reason: str
) -> None:
    monkeypatch.setattr(catalogue, "recorder_for", lambda device: recorder)
    monkeypatch.setattr(compiling, "_compiled", lambda traced, random: traced.graph)
    problem = momentum()
    for _ in range(2):
        graphed = gradient(problem, "engine=graphed")
        assert [reason in warning for warning in graphed.warnings] == [True], graphed.warnings
        assert graphed.warnings[0].endswith("; steps were taken one by one, compiled")
        assert_same_bits(graphed, gradient(problem, "engine=compiled"))
    assert not isinstance(recorder, _Failing) or len(recorder.asked) == 1


def test_auto_does_not_choose_it() -> None:
    problem = random_problem()
    assert catalogue.engine_at("auto", problem, catalogue.PAYS_FROM) == "compiled"


@pytest.mark.parametrize("store", ["graph", "reversible"])
def test_stores_that_take_their_own_steps_say_that_it_does_not_go_with_them(store: str) -> None:
    with pytest.raises(l2t.UserError, match=f"store={store} goes with engine=eager only"):
        l2t.load_backend(f"rmd[store={store},engine=graphed]")


# -- a recorded call ---------------------------------------------------------------------------------------------------


def scaled(ahead: Tree, now: Tree) -> Tree:
    """Writes into its second argument, as a step back does into the adjoint."""
    now["x"].mul_(ahead[0])
    return {"x": now["x"], "sum": now["x"].sum()}


def ones(value: float) -> tuple[list[Tensor], dict[str, Tensor]]:
    return [torch.tensor(value)], {"x": torch.ones(3)}


def test_the_next_inputs_are_staged_before_the_work_begins_and_read_when_they_are_there() -> None:
    watched = Watched()
    (two, start), (three, _) = ones(2.0), ones(3.0)
    call = StaticCall(scaled, two, start, watched)
    watched.log.clear()
    first = float(call(two, start, three)["sum"])
    second = float(call(three, start)["sum"])
    assert (first, second) == (6.0, 9.0) and torch.equal(start["x"], torch.ones(3))
    assert watched.log == ["put", "join", "put", "replay", "join", "replay"]


def test_inputs_that_were_staged_for_another_call_are_not_taken_for_this_one() -> None:
    (two, start), (three, _), (five, _) = ones(2.0), ones(3.0), ones(5.0)
    call = StaticCall(scaled, two, start, Watched())
    call(two, start, three)
    assert float(call(five, start)["sum"]) == 15.0


def test_inputs_keep_their_strides_and_a_call_of_another_form_raises() -> None:
    across = torch.arange(6.0).reshape(2, 3).t()
    seen: list[tuple[int, ...]] = []

    def function(ahead: Tree, now: Tree) -> Tree:
        seen.append(ahead[0].stride())
        return [ahead[0].sum() + now[0]]

    call = StaticCall(function, [across], [torch.zeros(())], Reruns())
    assert float(call([across + 1], [torch.ones(())])[0]) == 22.0 and set(seen) == {across.stride()}
    with pytest.raises(ValueError, match="0 tensors for 1 places"):
        call([across], [])


# -- on a GPU ----------------------------------------------------------------------------------------------------------

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def waits_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mode is a prototype, says torch
        torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@on_a_gpu
@pytest.mark.parametrize("options", ["", "hyper=true", "store=sqrt"])
def test_graphs_on_a_gpu_give_plain_torchs_gradient(options: str) -> None:
    problem = momentum().to("cuda")
    for seed in range(2):  # the second run replays what the first one recorded
        ways = (",".join(filter(None, (f"engine={engine}", options))) for engine in ("graphed", "eager"))
        graphed, plain = (gradient(problem, way, seed=seed) for way in ways)
        assert not graphed.warnings, graphed.warnings
        assert relative_error(graphed.d_theta, plain.d_theta) <= 1e-10
        assert relative_error(graphed.final.params, plain.final.params) <= 1e-10


@on_a_gpu
def test_graphs_on_a_gpu_give_what_the_same_blocks_give_when_they_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = with_features(PaperFeatures(every=20)).to("cuda")
    graphed = gradient(problem, "engine=graphed")
    monkeypatch.setattr(catalogue, "recorder_for", lambda device: Reruns())
    called = gradient(problem, "engine=graphed", steps=graphed.steps, horizon=None)
    assert not graphed.warnings and relative_error(graphed.d_theta, called.d_theta) <= 1e-10


@on_a_gpu
def test_a_block_that_waits_for_the_device_falls_back_and_leaves_the_device_usable() -> None:
    recorder = recorder_for(torch.device("cuda"))
    assert recorder is not None
    with pytest.raises(Exception, match="captur"):
        recorder.record(lambda: [torch.full((), float(torch.ones((), device="cuda").sum()), device="cuda")])
    assert float(torch.ones(3, device="cuda").sum()) == 3.0


@on_a_gpu
def test_features_on_a_gpu_wait_for_nothing(waits_are_errors: None) -> None:
    del waits_are_errors
    dev = [(torch.eye(4, device="cuda"), torch.arange(4, device="cuda"))]
    view = StudentView(3, 12, lambda inputs: inputs, lambda inputs: inputs, lambda at: dev[0], dev, None)
    assert PaperFeatures(every=1)(view).shape == (7,)
