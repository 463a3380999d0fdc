"""A student's run that is left at any step, forward or back, and gone on with from files gives the same gradient."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.backend import Backend
from l2t_bench.errors import Refused
from l2t_bench.gradient import TeacherGradient
from l2t_bench.kept_run import KeptRun, WayBack
from l2t_bench.modules import same_tensors
from l2t_bench.optimizers import SGD
from l2t_bench.problem import StudentView, TeachingProblem
from l2t_bench.tensors import TensorDict
from l2t_bench.trainer import within as within_module
from l2t_bench.trainer.run_files import read_run, state_of, state_tree, write_run
from l2t_bench.training import Callback, Checkpoints, Selection, TeacherTrainer
from l2t_bench.verification.samples import general_theta, random_problem

HORIZON = 8
KEY: Mapping[str, Any] = {"theta": "t", "seed": 0, "horizon": HORIZON}


class Killed(Exception):
    """Stands for a kill."""


class KillingKeeper:
    """Keeps the run wherever it can be, and is killed after the ``last``-th time."""

    def __init__(self, folder: Path, last: int, found: KeptRun | None = None) -> None:
        self.folder, self.last, self.found, self.kept = folder, last, found, 0

    def due(self) -> bool:
        return True

    def keep(self, run: KeptRun) -> None:
        write_run(self.folder, KEY, run)
        self.kept += 1
        if self.kept == self.last:
            raise Killed


def features_that_change(view: StudentView) -> Tensor:
    """Measured at the student every three steps; until then the very tensor."""
    if view.previous is not None and view.index % 3:
        return view.previous
    accuracy = (view.predict(view.dev[0][0]).argmax(-1) == view.dev[0][1]).double().mean()
    return torch.stack([torch.tensor(view.index / view.horizon, dtype=torch.float64), accuracy])


def sample(student: nn.Module | None = None, optimizer: Any = None) -> TeachingProblem:
    plain = random_problem(student=student, optimizer=optimizer)
    teacher = l2t.AttentionTeacher(4, features=2, keys=3, noise=0.3).double()
    return dataclasses.replace(plain, teacher=teacher, features=features_that_change)


STUDENTS: dict[str, Any] = {
    "momentum": {"optimizer": SGD(lr=0.3, momentum=0.9, nesterov=True, weight_decay=0.01)},
    "Adam": {"optimizer": l2t.Adam(lr=0.05)},
    "BatchNorm and dropout": {
        "student": nn.Sequential(
            nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.3), nn.Tanh(), nn.Linear(5, 4, bias=False)
        )
    },
    "parameters that lie transposed": {"student": nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 4))},
}
METHODS = (
    "rmd[store=sqrt]",
    "rmd[store=binomial,snapshots=2]",
    "rmd[store=binomial,snapshots=1]",
    "rmd[store=sqrt,hvp=for]",
    "truncated[window=7,store=sqrt]",
    "truncated[window=5,store=binomial,snapshots=2]",
)


def problem_of(name: str) -> TeachingProblem:
    problem = sample(**STUDENTS[name])
    if "transposed" not in name:
        return problem

    def init(seed: int) -> TensorDict:
        plain = sample().init_student(seed).params
        return {key: t.t().contiguous().t() if t.ndim == 2 else t for key, t in plain.items()}

    return dataclasses.replace(problem, init=init)


def gradient(method: str, problem: TeachingProblem, keeper: Any = None) -> TeacherGradient:
    backend = l2t.load_backend(method)
    assert isinstance(backend, Backend)
    return backend.teacher_gradient(problem, general_theta(problem), horizon=HORIZON, keeper=keeper)


PAIRS = [
    pytest.param(method, student, marks=() if "momentum" in student or "snapshots=2]" in method else pytest.mark.slow)
    for method in METHODS
    for student in STUDENTS
]


@pytest.mark.parametrize(("method", "student"), PAIRS)
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
def test_a_run_left_anywhere_and_gone_on_with_gives_the_same_gradient_bit_for_bit(
    tmp_path: Path, method: str, student: str
) -> None:
    problem = problem_of(student)
    calm = gradient(method, problem)
    places = []
    for last in range(1, 100):
        folder = tmp_path / str(last)
        folder.mkdir()
        keeper = KillingKeeper(folder, last)
        try:
            gradient(method, problem, keeper)
        except Killed:
            pass
        else:
            break
        found = read_run(folder, KEY, problem.device)
        assert found is not None
        places.append((type(found.at), found.at.index))
        again = gradient(method, problem_of(student), KillingKeeper(folder, -1, found))
        assert same_tensors(again.d_theta, calm.d_theta) and again.value == calm.value, places[-1]
        assert again.health == calm.health and again.warnings == calm.warnings
        assert same_tensors(again.final.params, calm.final.params)
    kinds = [kind for kind, _ in places]
    assert 0 < kinds.count(WayBack) < len(kinds), "the sample must be left on both ways"


def test_a_run_is_killed_and_gone_on_with_twice(tmp_path: Path) -> None:
    problem = sample()
    calm, found = gradient("rmd[store=binomial,snapshots=2]", problem), None
    for last in (3, 6):
        with pytest.raises(Killed):
            gradient("rmd[store=binomial,snapshots=2]", problem, KillingKeeper(tmp_path, last, found))
        found = read_run(tmp_path, KEY, problem.device)
    again = gradient("rmd[store=binomial,snapshots=2]", problem, KillingKeeper(tmp_path, -1, found))
    assert same_tensors(again.d_theta, calm.d_theta)


def test_the_files_are_those_of_the_states_that_are_held(tmp_path: Path) -> None:
    problem = sample()
    with pytest.raises(Killed):
        gradient("rmd[store=binomial,snapshots=2]", problem, KillingKeeper(tmp_path, 9))
    found = read_run(tmp_path, KEY, problem.device)
    assert found is not None and isinstance(found.at, WayBack)
    names = {f"state-{index:08d}.safetensors" for index in found.states}
    assert {file.name for file in tmp_path.iterdir()} == names | {"run.safetensors"}


def test_a_state_keeps_strides_dtypes_and_bits() -> None:
    params = {"a": torch.randn(3, 4).t(), "b": torch.randn(2, 2).double()}
    state = l2t.StudentState(
        params, {"n": torch.tensor(3)}, {"momentum": {"a": torch.randn(4, 3), "b": torch.ones(2, 2)}}
    )
    back = state_of(state_tree(state), torch.device("cpu"))
    assert same_tensors(back.params, params) and back.params["a"].stride() == params["a"].stride()
    assert same_tensors(back.buffers, state.buffers) and same_tensors(back.slots, state.slots)


@pytest.mark.parametrize(
    ("method", "why"),
    [
        ("rmd", "store=all cannot be gone on with"),
        ("rmd[store=disk]", "its file has no name, and goes with the process"),
        ("rmd[store=host]", "store=host cannot"),
        ("rmd[store=graph]", "store=graph cannot"),
        ("rmd[store=reversible]", "store=reversible cannot"),
        ("rmd[store=sqrt,engine=compiled]", "with these options"),
        ("rmd[store=sqrt,hyper=true]", "with these options"),
        ("rmd[store=sqrt,students=2]", "with these options"),
        ("truncated[every=3]", "every="),
        ("functorch", "keeps nothing of a run on its way"),
        ("evolution", "keeps nothing of a run on its way"),
    ],
)
def test_a_method_that_cannot_be_left_on_its_way_is_refused_before_it_starts(
    tmp_path: Path, method: str, why: str
) -> None:
    with pytest.raises(Refused) as raised:
        gradient(method, sample(), KillingKeeper(tmp_path, 1))
    assert why in str(raised.value)
    trainer = TeacherTrainer(
        sample(), None, method, outer_steps=1, horizon=4, checkpoints=Checkpoints(tmp_path, within="1s")
    )
    with pytest.raises(Refused):
        trainer.train()
    assert not list(tmp_path.iterdir())


# -- in a teacher's training -------------------------------------------------------------------------------------------


class Notes(Callback):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_note(self, note: str) -> None:
        self.notes.append(note)


def trainer(folder: Path | None, callback: Callback | None = None) -> TeacherTrainer:
    return TeacherTrainer(
        sample(),
        None,
        "rmd[store=binomial,snapshots=2]",
        outer_steps=2,
        horizon=HORIZON,
        students=3,
        selection=Selection(every=1, students=1, measure="objective"),
        checkpoints=folder and Checkpoints(folder, within="1s"),
        callbacks=[callback] if callback else [],
    )


def killed_at(folder: Path, monkeypatch: pytest.MonkeyPatch, last: int) -> bool:
    """Train until a run has been kept ``last`` times, at every step at which it can be; whether it came to that."""
    kept = [0]

    def keep(*arguments: Any) -> None:
        write_run(*arguments)
        kept[0] += 1
        if kept[0] == last:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(within_module, "write_run", keep)
        patched.setattr(within_module._Keeper, "due", lambda self: True)
        try:
            trainer(folder).train(resume=True)
        except Killed:
            return True
    return False


@pytest.mark.parametrize("last", [1, 10, 17, 30, 50, 80])
def test_an_outer_step_that_is_killed_goes_on_in_the_middle_of_a_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    calm = trainer(None).train()
    assert killed_at(tmp_path, monkeypatch, last)
    resumed = trainer(tmp_path).train(resume=True)
    assert same_tensors(resumed.theta, calm.theta) and resumed.selection == calm.selection
    ours, theirs = ([dataclasses.replace(record, seconds=0.0) for record in t.curve] for t in (resumed, calm))
    assert ours == theirs
    assert not list((tmp_path / "within").iterdir()), "what a checkpoint holds is not kept twice"


def test_the_students_before_the_kill_are_not_taught_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert killed_at(tmp_path, monkeypatch, 20)
    done = sorted(file.name for file in (tmp_path / "within").glob("student-*"))
    assert done == ["student-0.safetensors"]
    taken: list[int] = []
    plain = Backend.teacher_gradient

    def counted(self: Backend, *arguments: Any, seed: int = 0, **options: Any) -> TeacherGradient:
        taken.append(seed)
        return plain(self, *arguments, seed=seed, **options)

    monkeypatch.setattr(Backend, "teacher_gradient", counted)
    trainer(tmp_path).train(resume=True)
    assert taken == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["run.safetensors", "state-*.safetensors", "student-*.safetensors"])
def test_what_is_damaged_within_an_outer_step_is_said_and_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    calm = trainer(None).train()
    assert killed_at(tmp_path, monkeypatch, 20)
    file = min((tmp_path / "within").glob(name))
    file.write_bytes(file.read_bytes()[:-9])
    notes = Notes()
    resumed = trainer(tmp_path, notes).train(resume=True)
    assert same_tensors(resumed.theta, calm.theta)
    assert len(notes.notes) == 1 and "is cut short" in notes.notes[0]
