"""A training that is killed goes on bit for bit; what it cannot go on from is refused, and nothing is written over."""

import dataclasses
import errno
import json
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from l2t_bench.engine.lock import held
from l2t_bench.errors import UserError
from l2t_bench.kept_run import KeptRun
from l2t_bench.modules import same_tensors
from l2t_bench.problem import TeachingProblem
from l2t_bench.teachers import AttentionTeacher
from l2t_bench.trainer.logs import CsvLog
from l2t_bench.trainer.run_files import write_run
from l2t_bench.trainer.within import _Keeper
from l2t_bench.training import (
    Callback,
    Checkpoints,
    OuterStep,
    Progress,
    Selection,
    TeacherOptimizer,
    TeacherTrainer,
    TeacherTraining,
)
from l2t_bench.verification.samples import random_problem

HORIZON, OUTER_STEPS = 6, 7


class Killed(Exception):
    """Stands for a kill: nothing of ours is run after it."""


class KillAfter(Callback):
    """Ends the process, as it were, after so many outer steps."""

    def __init__(self, outer_step: int) -> None:
        self._last = outer_step

    def on_outer_step(self, record: OuterStep, progress: Progress) -> None:
        if record.outer_step == self._last:
            raise Killed


class Notes(Callback):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_note(self, note: str) -> None:
        self.notes.append(note)


def trainer(folder: Path | None, problem: TeachingProblem | None = None, **options: Any) -> TeacherTrainer:
    settings: dict[str, Any] = {
        "outer_steps": OUTER_STEPS,
        "horizon": HORIZON,
        "students": 2,
        "selection": Selection(every=2, students=2, measure="objective"),
        "optimizer": TeacherOptimizer(lr=0.05),
        "checkpoints": folder and Checkpoints(folder, every=2),
        **options,
    }
    return TeacherTrainer(problem or random_problem(), None, "rmd", **settings)


def begun(folder: Path, last: int = 4, **options: Any) -> None:
    """A training that was killed after outer step ``last``."""
    with pytest.raises(Killed):
        trainer(folder, callbacks=[KillAfter(last)], **options).train()


@pytest.fixture(scope="module")
def calm() -> TeacherTraining:
    """What comes of the training that nobody disturbs."""
    return trainer(None).train()


def without_clock(record: OuterStep) -> OuterStep:
    return dataclasses.replace(record, seconds=0.0)


OPTIMIZERS: dict[str, TeacherOptimizer] = {
    "Adam": TeacherOptimizer(lr=0.05),
    "Adam, cosine": TeacherOptimizer(lr=0.05, schedule="cosine"),
    "AdamW with amsgrad": TeacherOptimizer(make=lambda t: torch.optim.AdamW(t, lr=0.05, amsgrad=True)),
    "SGD with momentum": TeacherOptimizer(make=lambda t: torch.optim.SGD(t, lr=0.05, momentum=0.9)),
    "RMSprop, centred": TeacherOptimizer(make=lambda t: torch.optim.RMSprop(t, lr=0.05, centered=True)),
    "Rprop": TeacherOptimizer(make=lambda t: torch.optim.Rprop(t, lr=0.05)),
    "NAdam": TeacherOptimizer(make=lambda t: torch.optim.NAdam(t, lr=0.05)),
}


@pytest.mark.parametrize(
    ("name", "last"),
    [
        pytest.param(name, last, marks=() if last == 3 or name == "Adam" else pytest.mark.slow)
        for name in OPTIMIZERS
        for last in (0, 3, 6)
    ],
)
def test_a_training_that_goes_on_finds_the_undisturbed_ones_teacher_bit_for_bit(
    tmp_path: Path, name: str, last: int
) -> None:
    optimizer = OPTIMIZERS[name]
    calm = trainer(None, optimizer=optimizer).train()
    begun(tmp_path, last, optimizer=optimizer)
    resumed = trainer(tmp_path, optimizer=optimizer).train(resume=True)
    assert same_tensors(resumed.theta, calm.theta) and same_tensors(resumed.last_theta, calm.last_theta)
    assert resumed.selection == calm.selection and resumed.selected_outer_step == calm.selected_outer_step
    assert [*map(without_clock, resumed.curve)] == [*map(without_clock, calm.curve)]


def test_a_training_that_ends_by_patience_ends_at_the_same_place_when_it_goes_on(tmp_path: Path) -> None:
    selection = Selection(every=1, students=1, patience=2, measure="objective")
    no_better = TeacherOptimizer(schedule=lambda outer_step, outer_steps: 0.0)
    options: dict[str, Any] = {"selection": selection, "optimizer": no_better, "outer_steps": 20}
    calm = trainer(None, **options).train()
    ended = len(calm.curve)
    assert ended == 2, "the untrained teacher was judged as good twice"
    begun(tmp_path, ended - 1, **options)
    resumed = trainer(tmp_path, **options).train(resume=True)
    assert len(resumed.curve) == ended and same_tensors(resumed.theta, calm.theta)


def test_global_generators_go_on_from_where_they_were(tmp_path: Path) -> None:
    class Draws(Callback):
        def __init__(self) -> None:
            self.drawn: list[tuple[float, float]] = []

        def on_outer_step(self, record: OuterStep, progress: Progress) -> None:
            self.drawn.append((float(torch.rand(())), random.random()))

    calm, before, after = Draws(), Draws(), Draws()
    torch.manual_seed(1)
    random.seed(1)
    trainer(None, callbacks=[calm]).train()
    torch.manual_seed(1)
    random.seed(1)
    with pytest.raises(Killed):
        trainer(tmp_path, callbacks=[before, KillAfter(3)]).train()
    torch.manual_seed(99)
    random.seed(99)
    trainer(tmp_path, callbacks=[after]).train(resume=True)
    assert before.drawn == calm.drawn[:4]
    assert after.drawn == calm.drawn[2:], "the last checkpoint was that of the second outer step"


def killed_and_resumed(repository: Path, kills: int, outer_steps: int, within: str = "") -> int:
    """The trial of ``train_kill.py``, which says what went wrong; how many kills met a training that was going on."""
    command = [sys.executable, str(repository / "tests" / "train_kill.py"), str(kills), str(outer_steps)]
    command += [within] if within else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[0])


@pytest.mark.slow
def test_killed_twice_by_the_system_and_resumed_the_teacher_is_the_undisturbed_one(repository: Path) -> None:
    assert killed_and_resumed(repository, kills=2, outer_steps=25) >= 1


@pytest.mark.slow
def test_killed_in_the_middle_of_rollouts_and_resumed_the_teacher_is_the_undisturbed_one(repository: Path) -> None:
    assert killed_and_resumed(repository, kills=3, outer_steps=12, within="0.02s") >= 1


@pytest.mark.slow
def test_killed_ten_times_by_the_system_and_resumed_the_teacher_is_the_undisturbed_one(repository: Path) -> None:
    assert killed_and_resumed(repository, kills=10, outer_steps=120) >= 8


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    trainer(tmp_path, checkpoints=Checkpoints(tmp_path, every=1, keep=2)).train()
    assert [file.name for file in sorted(tmp_path.glob("*.safetensors"))] == [
        f"checkpoint-{number:08d}.safetensors" for number in (OUTER_STEPS - 1, OUTER_STEPS)
    ]


def test_a_training_that_has_ended_and_goes_on_gives_its_result_again(tmp_path: Path) -> None:
    first = trainer(tmp_path).train()
    again = trainer(tmp_path).train(resume=True)
    assert same_tensors(first.theta, again.theta) and first.selection == again.selection


def test_resuming_where_nothing_has_begun_begins(tmp_path: Path, calm: TeacherTraining) -> None:
    assert same_tensors(trainer(tmp_path).train(resume=True).theta, calm.theta)


def test_a_folder_with_checkpoints_is_not_begun_in_again(tmp_path: Path) -> None:
    begun(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.glob("*.safetensors")}
    with pytest.raises(UserError, match="--resume"):
        trainer(tmp_path).train()
    assert before == {file.name: file.read_bytes() for file in tmp_path.glob("*.safetensors")}


# -- bad input ---------------------------------------------------------------------------------------------------------


def newest(folder: Path) -> Path:
    return max(folder.glob("checkpoint-*.safetensors"))


def with_header(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Rewrite a file's header as JSON that ``change`` has changed."""

    def damage(file: Path) -> None:
        content = file.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return damage


def _size(value: int) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header["theta/W"]["shape"] = [value, *header["theta/W"]["shape"][1:]]

    return change


def _metadata(**values: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        record = json.loads(header["__metadata__"]["l2t_bench"])
        header["__metadata__"]["l2t_bench"] = json.dumps({**record, **values})

    return change


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (lambda file: file.write_bytes(file.read_bytes()[:-50]), "is cut short"),
    "cut in its header": (lambda file: file.write_bytes(file.read_bytes()[:40]), "is cut short"),
    "empty": (lambda file: file.write_bytes(b""), "is cut short"),
    "a header of 2^60 bytes": (
        lambda file: file.write_bytes(struct.pack("<Q", 2**60) + file.read_bytes()[8:]),
        "is cut short or no safetensors file",
    ),
    "a huge size": (with_header(_size(2**62)), "is cut short or no safetensors file"),
    "a negative size": (with_header(_size(-3)), "is cut short or no safetensors file"),
    "another size": (with_header(_size(1)), "is cut short or no safetensors file"),
    "another schema": (with_header(_metadata(schema=99)), "has schema 99, this version reads 1"),
    "another kind": (with_header(_metadata(kind="teacher")), "is a teacher file, not a checkpoint file"),
    "a record that was edited": (with_header(_metadata(outer_step=1)), "was altered"),
    "a bit that has flipped": (
        lambda file: file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1])),
        "was altered",
    ),
    "of somebody else": (lambda file: save_file({"W": torch.ones(2)}, file), "is not a checkpoint file of l2t_bench's"),
    "a pickle": (lambda file: torch.save({"theta": torch.ones(2)}, file), "is cut short or no safetensors file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_taken(
    tmp_path: Path, calm: TeacherTraining, damage: str
) -> None:
    harm, said = DAMAGES[damage]
    begun(tmp_path)
    harm(newest(tmp_path))
    bad, notes = newest(tmp_path).read_bytes(), Notes()
    resumed = trainer(tmp_path, callbacks=[notes]).train(resume=True)
    assert same_tensors(resumed.theta, calm.theta)
    (note,) = notes.notes
    assert said in note and "damaged-1" in note
    (aside,) = tmp_path.glob("*.damaged-1.safetensors")
    assert aside.read_bytes() == bad, "what is damaged is kept for who wants to look at it"


def test_where_every_checkpoint_is_damaged_nothing_is_begun_or_renamed(tmp_path: Path) -> None:
    begun(tmp_path)
    for file in tmp_path.glob("checkpoint-*.safetensors"):
        file.write_bytes(b"nothing")
    names = sorted(file.name for file in tmp_path.glob("*.safetensors"))
    for _ in range(2):
        with pytest.raises(UserError, match=r"no checkpoint can be gone on from.*is cut short"):
            trainer(tmp_path).train(resume=True)
    assert sorted(file.name for file in tmp_path.glob("*.safetensors")) == names


def _other_data() -> TeachingProblem:
    problem = random_problem()
    return dataclasses.replace(problem, train=lambda index, seed: problem.train(index + 1, seed))


def _with(**numbers: Any) -> TeachingProblem:
    problem = random_problem()
    return dataclasses.replace(problem, optimizer=dataclasses.replace(problem.optimizer, **numbers))  # type: ignore[type-var]


def _with_features() -> TeachingProblem:
    return dataclasses.replace(random_problem(), features=lambda view: torch.ones(1, dtype=torch.float64))


def _with_loss() -> TeachingProblem:
    problem = random_problem()

    def another(output: Any, target: Any, phi: Any) -> torch.Tensor:
        return 2 * problem.loss(output, target, phi)

    another.__qualname__ = "another"
    return dataclasses.replace(problem, loss=another)


def _scaled(factor: float) -> TeachingProblem:
    problem = random_problem()
    return dataclasses.replace(problem, loss=lambda *given: factor * problem.loss(*given))


def test_a_number_in_a_loss_that_no_name_tells_is_seen_by_the_first_steps_loss(tmp_path: Path) -> None:
    begun(tmp_path, problem=_scaled(1.0))
    with pytest.raises(UserError, match="of another training: the first step's loss is"):
        trainer(tmp_path, problem=_scaled(1.01)).train(resume=True)
    trainer(tmp_path, problem=_scaled(1.0)).train(resume=True)


def test_a_number_in_a_schedule_that_no_name_tells_is_seen_by_what_it_gives(tmp_path: Path) -> None:
    def falling(number: float) -> TeacherOptimizer:
        return TeacherOptimizer(lr=0.05, schedule=lambda outer_step, outer_steps: number**outer_step)

    begun(tmp_path, optimizer=falling(0.9))
    with pytest.raises(UserError, match="is of another training: optimizer: factors is"):
        trainer(tmp_path, optimizer=falling(0.8)).train(resume=True)


def _beside_a_frozen_bias(value: float) -> TeachingProblem:
    student = torch.nn.Linear(6, 4).double()
    torch.nn.init.constant_(student.bias.requires_grad_(requires_grad=False), value)
    return random_problem(student=student)


def test_a_frozen_parameter_of_another_value_is_another_training(tmp_path: Path) -> None:
    begun(tmp_path, problem=_beside_a_frozen_bias(0.1))
    with pytest.raises(UserError, match="is of another training: constants is"):
        trainer(tmp_path, problem=_beside_a_frozen_bias(0.2)).train(resume=True)
    trainer(tmp_path, problem=_beside_a_frozen_bias(0.1)).train(resume=True)


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "horizon": ({"horizon": 5}, "horizon is 6 there and 5 here"),
    "outer steps": ({"outer_steps": 9}, "outer_steps is 7 there and 9 here"),
    "students": ({"students": 3}, "students is 2 there and 3 here"),
    "seed": ({"seed": 1}, "seed is 0 there and 1 here"),
    "lr": ({"optimizer": TeacherOptimizer(lr=0.1)}, "optimizer: lr is '0.05' there and '0.1' here"),
    "optimiser": (
        {"optimizer": TeacherOptimizer(make=lambda t: torch.optim.SGD(t, lr=0.05))},
        "optimizer: name is 'Adam' there and 'SGD' here",
    ),
    "selection": ({"selection": None}, "selection is"),
    "student": ({"problem": random_problem(student=torch.nn.Linear(6, 4).double())}, "student is"),
    "data": ({"problem": _other_data()}, "data is"),
    "the student's lr": ({"problem": _with(lr=0.1)}, "student's optimizer: lr is 'from 0.3 to 0.3"),
    "the student's schedule": ({"problem": _with(lr=lambda t, T: 0.3 / (1 + t))}, "student's optimizer: lr is"),
    "the student's momentum": ({"problem": _with(momentum=0.5)}, "student's optimizer: momentum is '0.9' there"),
    "features": ({"problem": _with_features()}, "features: rule is 'time' there"),
    "loss": ({"problem": _with_loss()}, "loss is 'bilinear_sigmoid' there and 'another' here"),
    "precision": ({"problem": random_problem().to(dtype=torch.float32)}, "student is"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_another_training_is_refused_and_says_what_differs(tmp_path: Path, other: str) -> None:
    options, said = OTHERS[other]
    begun(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.glob("*.safetensors")}
    with pytest.raises(UserError, match="is of another training: ") as raised:
        trainer(tmp_path, **options).train(resume=True)
    assert said in str(raised.value)
    assert before == {file.name: file.read_bytes() for file in tmp_path.glob("*.safetensors")}


def _killed_on_the_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that was killed in its first outer step, when the run of its second student was on the disk."""
    kept: list[int] = []

    def keep(self: _Keeper, run: KeptRun) -> None:
        write_run(self._within.folder, self._key, run)
        kept.append(self._key["seed"])
        if 1 in kept:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(_Keeper, "due", lambda self: True)
        patched.setattr(_Keeper, "keep", keep)
        with pytest.raises(Killed):
            on_its_way(folder).train()


def on_its_way(folder: Path, problem: TeachingProblem | None = None) -> TeacherTrainer:
    return TeacherTrainer(
        problem or random_problem(),
        None,
        "rmd[store=sqrt]",
        outer_steps=1,
        horizon=HORIZON,
        students=2,
        checkpoints=Checkpoints(folder, within="1m"),
    )


def test_a_first_outer_step_on_its_way_is_gone_on_with_by_its_own_training_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _killed_on_the_way(tmp_path, monkeypatch)
    with pytest.raises(UserError, match="is there already"):
        on_its_way(tmp_path).train()
    with pytest.raises(UserError, match="is of another training: student's optimizer"):
        on_its_way(tmp_path, _with(lr=0.1)).train(resume=True)
    resumed, calm = on_its_way(tmp_path).train(resume=True), on_its_way(tmp_path / "calm").train()
    assert same_tensors(resumed.theta, calm.theta)


def test_what_was_kept_on_the_way_of_a_training_whose_checkpoints_are_gone_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _killed_on_the_way(tmp_path, monkeypatch)
    for file in tmp_path.glob("checkpoint-*"):
        file.unlink()
    other = _with(lr=0.1)
    found, calm = on_its_way(tmp_path, other).train(), on_its_way(tmp_path / "calm", other).train()
    assert same_tensors(found.theta, calm.theta)


def test_going_on_with_another_number_of_threads_is_said_not_to_be_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    notes = Notes()
    trainer(tmp_path, callbacks=[notes]).train(resume=True)
    assert notes.notes == ["this goes on under other conditions, and not bit for bit: threads is 1 there and 7 here"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"every": 0}, "every and keep must be at least 1"),
        ({"keep": 0}, "every and keep must be at least 1"),
        ({"every": "5 parsecs"}, "a duration is written"),
        ({"every": 2.5}, r"checkpoints: every must be a whole number, not 2\.5"),
        ({"keep": 1.5}, r"checkpoints: keep must be a whole number, not 1\.5"),
        ({"keep": "3"}, "checkpoints: keep must be a whole number, not '3'"),
        ({"every": "2.5"}, r"every is outer steps, or a time with its unit, '10m', not '2\.5'"),
        ({"within": 30}, "within is a time with its unit, such as '30m', not 30"),
    ],
)
def test_checkpoints_that_make_no_sense_are_mistakes(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Checkpoints(tmp_path, **wrong)


def test_a_training_is_of_whole_numbers() -> None:
    for wrong in ({"outer_steps": 2.5}, {"students": 1.5}, {"students": "2"}, {"outer_steps": 0}, {"horizon": 2.5}):
        ((name, value),) = wrong.items()
        with pytest.raises(UserError, match=f"{name} must be a .*, not {value!r}"):
            trainer(None, **wrong)
    for wrong in ({"every": 2.5}, {"students": 1.5}, {"patience": 0.5}):
        with pytest.raises(UserError, match=r"selection: .* must be a whole number"):
            Selection(**wrong)  # type: ignore[arg-type]


def test_a_folder_that_another_training_holds_is_not_written_to(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(UserError, match=f"is in use by process {os.getpid()}"):
        trainer(tmp_path).train()
    assert not list(tmp_path.glob("*.safetensors"))


class Removes(Callback):
    """Somebody who removes a training's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_outer_step(self, record: OuterStep, progress: Progress) -> None:
        shutil.rmtree(self.folder)


def test_a_training_whose_folder_is_removed_says_so_and_makes_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UserError, match="run was removed while its training was going"):
        trainer(folder, checkpoints=Checkpoints(folder), callbacks=[Removes(folder)]).train()
    with pytest.raises(UserError, match=r"outer_steps\.csv cannot be written: No such file"):
        trainer(folder, callbacks=[Removes(folder), CsvLog(folder)]).train()
    assert not folder.exists()


def test_a_full_disk_stops_the_training_with_the_checkpoints_before_it(
    tmp_path: Path, calm: TeacherTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fills(Callback):
        def on_outer_step(self, record: OuterStep, progress: Progress) -> None:
            if record.outer_step == 4:
                monkeypatch.setattr("l2t_bench.durable.os.fsync", full)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"no checkpoint can be written to .*: No space left on device"):
        trainer(tmp_path, callbacks=[Fills()]).train()
    monkeypatch.undo()
    assert not list(tmp_path.glob(".*.tmp"))
    assert same_tensors(trainer(tmp_path).train(resume=True).theta, calm.theta)


def test_a_module_as_teacher_takes_the_place_of_the_problems_and_is_where_theta_begins(tmp_path: Path) -> None:
    module = AttentionTeacher(4, features=1, keys=2, noise=0.5).double()
    before = {name: param.detach().clone() for name, param in module.named_parameters()}
    own = TeacherTrainer(random_problem(), module, "rmd", outer_steps=2, horizon=HORIZON)
    trained = own.train()
    assert own.problem.teacher is not module and same_tensors(dict(module.named_parameters()), before)
    given = TeacherTrainer(own.problem, before, "rmd", outer_steps=2, horizon=HORIZON).train()
    assert same_tensors(trained.theta, given.theta) and not same_tensors(trained.theta, before)
    with pytest.raises(UserError, match="theta"):
        TeacherTrainer(random_problem(), before, "rmd", outer_steps=2, horizon=HORIZON)


def test_a_backend_that_would_compile_on_the_way_is_settled_when_the_training_begins() -> None:
    """One that changed after so many steps would change after others in a process that goes on."""
    long, short = (
        TeacherTrainer(random_problem(), None, "rmd[engine=auto]", outer_steps=steps, horizon=10)
        for steps in (1000, 10)
    )
    assert str(long._plan.backend) == "rmd[engine=compiled]" and str(short._plan.backend) == "rmd"


def test_resuming_without_checkpoints_is_a_mistake() -> None:
    with pytest.raises(UserError, match="checkpoints="):
        trainer(None).train(resume=True)


def test_an_optimiser_that_evaluates_the_objective_itself_is_refused() -> None:
    with pytest.raises(UserError, match="LBFGS"):
        trainer(None, optimizer=TeacherOptimizer(make=torch.optim.LBFGS)).train()


def test_a_stop_ends_the_training_after_the_step_at_hand_with_a_checkpoint(
    tmp_path: Path, calm: TeacherTraining
) -> None:
    class Stop(Callback):
        def on_outer_step(self, record: OuterStep, progress: Progress) -> None:
            stopped.stop()

    stopped = trainer(tmp_path, checkpoints=Checkpoints(tmp_path, every=100), callbacks=[Stop()])
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    assert load_file(newest(tmp_path)), "a checkpoint was written"
    assert same_tensors(
        trainer(tmp_path, checkpoints=Checkpoints(tmp_path, every=100)).train(resume=True).theta, calm.theta
    )


def test_a_trainer_that_was_stopped_can_itself_go_on(tmp_path: Path, calm: TeacherTraining) -> None:
    class StopOnce(Callback):
        def on_outer_step(self, record: OuterStep, progress: Progress) -> None:
            if record.outer_step == 0:
                stopped.stop()

    stopped = trainer(tmp_path, callbacks=[StopOnce()])
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    assert same_tensors(stopped.train(resume=True).theta, calm.theta)
