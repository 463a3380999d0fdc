"""The stores of a run: each gives the very gradient of ``all``, takes what its law says, and leaves nothing behind."""

import dataclasses
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.adam import Adam
from l2t_bench.adjoint import Visit
from l2t_bench.measure import Meter
from l2t_bench.modules import same_tensors
from l2t_bench.optimizers import SGD, Optimizer
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.rollout import Rollout
from l2t_bench.sampling import standard_normal
from l2t_bench.second_order import StepGraph
from l2t_bench.stores.catalogue import STORES
from l2t_bench.stores.contract import Room, Store, Wanted, sizes_of
from l2t_bench.stores.memory import segment_length
from l2t_bench.stores.rows import layout_of
from l2t_bench.tensors import scaled
from l2t_bench.verification.samples import general_theta, random_problem

HORIZONS = (1, 2, 7, 30)
OPTIMIZERS: dict[str, Optimizer] = {"momentum": SGD(lr=0.3, momentum=0.9, clip=1.0), "Adam": Adam(lr=0.01)}
EXACT = (  # as the options of rmd and truncated; graph with room for some of the graphs, and for all
    "store=sqrt",
    "store=binomial",
    "store=binomial,snapshots=1",
    "store=binomial,snapshots=3",
    "store=binomial,budget=16KB",
    "store=disk",
    "store=host",
    "store=graph",
    "store=graph,budget=1MB",
)
STATES = tuple(options for options in EXACT if "graph" not in options)


def noisy_student(activation: nn.Module | None = None) -> nn.Module:
    """A student with all that a step must replay: BatchNorm's buffers (two floats, an integer) and dropout."""
    return nn.Sequential(nn.Linear(6, 7), nn.BatchNorm1d(7), activation or nn.Tanh(), nn.Dropout(0.3), nn.Linear(7, 4))


def problem_with(optimizer: str, **changes: Any) -> TeachingProblem:
    return random_problem(student=noisy_student(**changes), optimizer=OPTIMIZERS[optimizer])


def gradient(spec: str, problem: TeachingProblem, horizon: int, **given: Any) -> l2t.TeacherGradient:
    how = given or {"horizon": horizon}
    return l2t.load_backend(spec).teacher_gradient(problem, general_theta(problem), **how)


def assert_same_bits(found: l2t.TeacherGradient, wanted: l2t.TeacherGradient) -> None:
    for part in ("d_theta", "d_omega0", "hyper", "value"):
        ours, theirs = getattr(found, part), getattr(wanted, part)
        same = ours == theirs if part == "value" else same_tensors(dict(ours or {}), dict(theirs or {}))
        assert same, part
    assert same_tensors(dataclasses.asdict(found.final), dataclasses.asdict(wanted.final))
    assert any(bool(tensor.any()) for tensor in found.d_theta.values()), "a gradient of zeros proves nothing"


# -- the gradient ------------------------------------------------------------------------------------------------------


@cache
def from_all(method: str, optimizer: str, horizon: int) -> l2t.TeacherGradient:
    return gradient(f"{method}store=all]", problem_with(optimizer), horizon)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("options", EXACT)
def test_every_store_gives_the_gradient_of_all_bit_for_bit(options: str, optimizer: str) -> None:
    problem = problem_with(optimizer)
    for horizon in HORIZONS:
        for method in ("rmd[hyper=true,", "truncated[window=5,"):
            found = gradient(f"{method}{options}]", problem, horizon)
            assert_same_bits(found, from_all(method, optimizer, horizon))


@pytest.mark.parametrize("options", EXACT)
def test_every_store_replays_a_recorded_run_bit_for_bit(options: str) -> None:
    problem = problem_with("Adam")
    recorded = gradient("rmd", problem, 9)
    assert_same_bits(gradient(f"rmd[{options}]", problem, 9, steps=recorded.steps), recorded)


@pytest.mark.parametrize("options", ["store=binomial", "store=disk"])
def test_the_stores_of_states_go_with_forward_over_reverse(options: str) -> None:
    problem = problem_with("momentum")
    assert_same_bits(gradient(f"rmd[hvp=for,{options}]", problem, 7), gradient("rmd[hvp=for]", problem, 7))


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.GroupNorm(1, 7)], ids=["SiLU", "GroupNorm"])
def test_a_student_whose_kept_graph_has_other_bits_is_trained_as_plainly_as_any(activation: nn.Module) -> None:
    """torch has other formulas for the gradient of these layers where a second derivative may follow."""
    problem = random_problem(
        student=nn.Sequential(nn.Linear(6, 7), activation, nn.Linear(7, 4)), optimizer=OPTIMIZERS["momentum"]
    )
    assert_same_bits(gradient("rmd[store=graph]", problem, 30), gradient("rmd", problem, 30))


def zero_initialised(student: nn.Module, still: int = 0) -> TeachingProblem:
    """Behind an output layer of zeros every other gradient is zero, by any formula: for as long as it is ``still``."""
    warm = SGD(lambda index, horizon: 0.3 * (index >= still), 0.9)
    problem = random_problem(student=student, optimizer=warm)

    def init(seed: int) -> dict[str, Tensor]:
        start = scaled(0.4, standard_normal(dict(problem.student.named_parameters()), seed))
        return {name: tensor * (not name.startswith("2.")) for name, tensor in start.items()}

    return dataclasses.replace(problem, init=init)


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.GroupNorm(1, 7), nn.Tanh()], ids=["SiLU", "GroupNorm", "Tanh"])
@pytest.mark.parametrize("options", ["store=graph", "store=graph,budget=40KB"])
def test_nor_does_a_first_step_whose_gradients_are_zero_hide_that_a_kept_graph_has_other_bits(
    options: str, activation: nn.Module
) -> None:
    problem = zero_initialised(nn.Sequential(nn.Linear(6, 7), activation, nn.Linear(7, 4)))
    assert_same_bits(gradient(f"rmd[{options}]", problem, 12), gradient("rmd", problem, 12))
    assert_same_bits(
        gradient(f"truncated[window=5,{options}]", problem, 12), gradient("truncated[window=5]", problem, 12)
    )


def test_nor_do_steps_that_do_not_move_the_student_at_first() -> None:
    problem = zero_initialised(nn.Sequential(nn.Linear(6, 7), nn.SiLU(), nn.Linear(7, 4)), still=3)
    assert_same_bits(gradient("rmd[store=graph]", problem, 12), gradient("rmd", problem, 12))


def test_nor_does_a_phi_that_is_zero_at_the_first_step() -> None:
    problem = dataclasses.replace(
        random_problem(student=nn.Sequential(nn.Linear(6, 7), nn.SiLU(), nn.Linear(7, 4))),
        teacher=nn.Linear(1, 4, bias=False).double(),  # of features t/T: nothing at t = 0
        loss=lambda logits, target, phi: (
            phi[target] * nn.functional.cross_entropy(logits, target, reduction="none")
        ).mean(),
    )
    assert_same_bits(gradient("rmd[store=graph]", problem, 12), gradient("rmd", problem, 12))


def test_whether_kept_graphs_have_plain_bits_is_looked_at_once_for_a_problem() -> None:
    plain, passes = random_problem(), [0]

    def counted(logits: Tensor, target: Tensor, phi: Tensor) -> Tensor:
        passes[-1] += 1
        return plain.loss(logits, target, phi)

    problem = dataclasses.replace(plain, loss=counted)
    for store in ("all", "graph", "graph", "graph"):
        gradient(f"rmd[store={store}]", problem, 6)
        passes.append(0)
    _, first, second, third, _ = passes
    assert first - second == 8 and second == third  # two steps, at the student and away, a graph and a plain gradient


def test_a_teacher_that_looks_anew_only_now_and_then_is_chained_once_per_look_with_kept_graphs_too() -> None:
    problem = l2t.build_problem("digits/mlp[hidden=8,refresh=3,dev=50]", dtype="float64")
    assert_same_bits(gradient("rmd[store=graph]", problem, 7), gradient("rmd", problem, 7))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("options", EXACT)
def test_every_store_gives_the_same_gradient_on_a_gpu(options: str) -> None:
    problem = problem_with("Adam").to("cuda")
    wanted = gradient("rmd", problem, 30)
    assert_same_bits(gradient(f"rmd[{options}]", problem, 30), wanted)


# -- the law -----------------------------------------------------------------------------------------------------------


def store_for(problem: TeachingProblem, name: str, wanted: Wanted, room: Room) -> Store:
    rollout = Rollout(problem, general_theta(problem), horizon=wanted.horizon)
    return STORES[name](rollout, Meter(problem.device), wanted, room)


def tensors_in(thing: Any) -> Iterator[Tensor | bytearray]:
    """The tensors that an object of the stores holds; a step's batch is the record's, and not the store's."""
    if isinstance(thing, Tensor | bytearray):
        yield thing
    elif isinstance(thing, dict | list | tuple):
        for part in thing.values() if isinstance(thing, dict) else thing:
            yield from tensors_in(part)
    elif isinstance(thing, Store | Visit | StudentState | StepGraph) or (
        dataclasses.is_dataclass(thing) and not isinstance(thing, Step)
    ):
        own = {name: part for name, part in vars(thing).items() if name not in ("rollout", "meter", "_problem")}
        yield from tensors_in(own)


def held_bytes(*things: Any) -> int:
    """Each storage once: states share what a step has not changed."""
    sizes: dict[int, int] = {}
    for held in tensors_in(list(things)):
        if isinstance(held, Tensor):
            sizes[held.untyped_storage().data_ptr()] = held.untyped_storage().nbytes()
        else:
            sizes[id(held)] = len(held)
    return sum(sizes.values())


def largest_held(store: Store, start: StudentState) -> tuple[int, int]:
    """The most bytes that a store holds along a run, and what it holds when all is gone back through."""
    most = 0
    with store:
        state = store.begin(start)
        for index in range(store.wanted.horizon):
            state = store.advance(store.rollout.step(index, state), state)
            most = max(most, held_bytes(store))
        for visit in store.backwards():
            most = max(most, held_bytes(store, visit))
            del visit
        return most, held_bytes(store)


@pytest.mark.parametrize("slots", [False, True])
@pytest.mark.parametrize(("horizon", "first"), [(1, 0), (2, 0), (30, 0), (30, 1), (30, 19)])
@pytest.mark.parametrize(
    ("name", "room"),
    [
        ("all", Room()),
        ("sqrt", Room()),
        ("binomial", Room()),
        ("binomial", Room(snapshots=1)),
        ("binomial", Room(snapshots=4)),
        ("binomial", Room(bytes=20_000)),
        ("disk", Room()),
        ("host", Room()),
        ("graph", Room(bytes=1_000_000)),
    ],
)
def test_no_store_ever_holds_more_than_its_law_says(
    name: str, room: Room, horizon: int, first: int, slots: bool
) -> None:
    problem, wanted = problem_with("Adam" if slots else "momentum"), Wanted(horizon, first, slots)
    store, start = store_for(problem, name, wanted, room), problem.init_student(0)
    law = store.law(wanted, sizes_of(start, problem.optimizer.slot_names), room)
    most, left = largest_held(store, start)
    assert law.bytes is not None and most <= law.bytes
    assert left <= (law.bytes // 2 if name == "disk" else 0), "what has been visited is freed, the disk's buffer stays"
    if name == "all" and first:
        assert most == law.bytes
    if name == "binomial" and first == 1 and slots:
        assert most == law.bytes, "and no less: the slots are used"


@pytest.mark.parametrize("method", ["rmd[", "truncated[window=11,"])
@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("options", ["store=all", *STATES])
def test_the_steps_taken_again_are_those_of_the_law(options: str, horizon: int, method: str) -> None:
    problem = problem_with("momentum")
    backend = l2t.load_backend(f"{method}{options}]")
    cost = backend.teacher_gradient(problem, general_theta(problem), horizon=horizon).cost
    replayed = cost.vector_products  # each step gone back through is replayed by the sweep itself
    assert cost.recomputed_steps - replayed == backend.law(problem, horizon).recomputed  # type: ignore[attr-defined]


def test_a_kept_graph_is_not_made_a_second_time() -> None:
    problem = problem_with("momentum")
    cost = gradient("rmd[store=graph]", problem, 12).cost
    assert (cost.vector_products, cost.recomputed_steps) == (12, 0)


def graphs_kept(problem: TeachingProblem, horizon: int, budget: int) -> list[int]:
    store = store_for(problem, "graph", Wanted(horizon), Room(bytes=budget))
    with store:
        state = store.begin(store.rollout.initial())
        for index in range(horizon):
            state = store.advance(store.rollout.step(index, state), state)
        return sorted(visit.step.index for visit in store.backwards() if visit.second_order)


def test_a_budget_keeps_the_graphs_of_the_last_steps_and_more_of_them_the_larger_it_is() -> None:
    problem, horizon = problem_with("momentum"), 20
    sizes = sizes_of(problem.init_student(0), ("momentum",))
    states = horizon * (sizes.params + sizes.buffers)
    kept = [graphs_kept(problem, horizon, states + extra) for extra in (0, 500_000, 1_000_000, 10**9)]
    counts = [len(each) for each in kept]
    assert counts[0] == 0 < counts[1] < counts[2] < counts[3] == horizon
    for each in kept:
        assert each == list(range(horizon - len(each), horizon))


# -- what may be asked for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rmd[store=sqrt,budget=1GB]", "rmd: store=sqrt reads no budget; store=binomial, store=graph would"),
        ("rmd[snapshots=3]", "rmd: store=all reads no snapshots; store=binomial would"),
        ("truncated[store=host,directory=/tmp]", "truncated: store=host reads no directory; store=disk would"),
        ("rmd[store=binomial,snapshots=0]", "snapshots must be at least 1, not 0"),
        ("rmd[store=binomial,snapshots=3,budget=1GB]", "give budget= or snapshots=, not both"),
        ("rmd[store=binomial,budget=much]", "a size is written 8GB"),
        ("rmd[store=graph,hvp=for]", "store=graph goes with hvp=ror only"),
    ],
)
def test_an_option_that_the_store_does_not_read_is_a_mistake(spec: str, message: str) -> None:
    with pytest.raises(l2t.UserError, match=message):
        l2t.load_backend(spec)


def test_a_budget_that_holds_not_two_states_is_refused_with_the_least_there_is() -> None:
    problem = problem_with("Adam")
    least = 2 * sizes_of(problem.init_student(0), problem.optimizer.slot_names).snapshot
    with pytest.raises(l2t.UserError, match=f"{least:,} bytes are the least"):
        gradient(f"rmd[store=binomial,budget={least - 1}]", problem, 30)
    gradient(f"rmd[store=binomial,budget={least}]", problem, 30)


def test_a_budget_that_does_not_hold_the_states_beside_the_graphs_is_refused() -> None:
    with pytest.raises(l2t.UserError, match="the 30 states of the run take"):
        gradient("rmd[store=graph,budget=1KB]", problem_with("Adam"), 30)


def test_without_a_word_binomial_takes_no_step_more_than_twice_again_on_average() -> None:
    problem = problem_with("momentum")
    for horizon in (2, 10, 100, 2000):
        law = l2t.load_backend("rmd[store=binomial]").law(problem, horizon)  # type: ignore[attr-defined]
        assert law.recomputed <= 2 * horizon
    snapshot = sizes_of(problem.init_student(0), ("momentum",)).snapshot
    assert law.bytes == 21 * snapshot


@pytest.mark.parametrize("slots", [0, 1, 2])
@pytest.mark.parametrize("visited", [False, True])
def test_the_segments_of_sqrt_are_of_the_length_that_holds_least(slots: int, visited: bool) -> None:
    def held(length: int, steps: int) -> int:
        return (1 + slots) * math.ceil(steps / length) + length * (1 + slots if visited else 1)

    for steps in (*range(1, 300), 5000):
        least = min(range(1, steps + 1), key=lambda length: held(length, steps))
        assert segment_length(Wanted(steps, slots=visited), slots) == least, steps


# -- a state as bytes --------------------------------------------------------------------------------------------------


def tensors_of_every_kind() -> dict[str, Tensor]:
    plain = {
        str(dtype): torch.randn(3, 5).to(dtype)
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)
    }
    whole = {str(dtype): torch.arange(7).to(dtype) for dtype in (torch.bool, torch.uint8, torch.int16, torch.int64)}
    images = torch.randn(2, 3, 4, 5)
    return {
        **plain,
        **whole,
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "transposed": torch.randn(4, 6).T,
        "channels last": images.to(memory_format=torch.channels_last),
        "one channel, last": torch.randn(2, 1, 4, 5).to(memory_format=torch.channels_last),
        "a part": images[:, 1:, :2],
        "expanded": torch.randn(1, 5).expand(4, 5),
        "not a number": torch.tensor([torch.nan, torch.inf, -0.0]),
    }


def test_a_row_gives_every_kind_of_tensor_back_with_its_bits_shape_and_strides() -> None:
    tensors = tensors_of_every_kind()
    state = StudentState(tensors, {"count": torch.tensor(2)}, {"momentum": {"a": torch.randn(3)}, "empty": {}})
    layout = layout_of(state)
    row = torch.empty(layout.size, dtype=torch.uint8)
    layout.write(state, row)
    back = layout.read(row, torch.device("cpu"))
    row.zero_()  # what was read must be a copy
    assert list(back.params) == list(tensors)
    for name, tensor in tensors.items():
        assert back.params[name].dtype == tensor.dtype and back.params[name].shape == tensor.shape, name
        bits, wanted = (found.contiguous().view(torch.uint8) for found in (back.params[name][None], tensor[None]))
        assert torch.equal(bits, wanted), name
        if name not in ("a part", "expanded"):
            assert back.params[name].stride() == tensor.stride(), name
    assert torch.equal(back.buffers["count"], torch.tensor(2))
    assert same_tensors(back.slots, {"momentum": state.slots["momentum"]})


# -- the disk ----------------------------------------------------------------------------------------------------------


def nameless(directory: Path, process: str = "self") -> list[int]:
    """Sizes of a process's open files that once lay in ``directory`` and have no name any more."""
    sizes = []
    for entry in Path(f"/proc/{process}/fd").iterdir():
        try:
            target = os.readlink(entry)
            if target.startswith(str(directory)) and target.endswith("(deleted)"):
                sizes.append(entry.stat().st_size)
        except FileNotFoundError:
            continue  # the listing's own
    return sizes


linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks into /proc")


@linux
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_file_has_the_size_that_the_law_says_and_no_name(optimizer: str, tmp_path: Path) -> None:
    problem = problem_with(optimizer)
    wanted, room = Wanted(12, slots=True), Room(directory=str(tmp_path))
    store, start = store_for(problem, "disk", wanted, room), problem.init_student(0)
    law = store.law(wanted, sizes_of(start, problem.optimizer.slot_names), room)
    with store:
        state = store.begin(start)
        for index in range(12):
            state = store.advance(store.rollout.step(index, state), state)
        assert nameless(tmp_path) == [law.disk_bytes]
        assert not list(tmp_path.iterdir())
        for _ in store.backwards():
            pass
        assert nameless(tmp_path) == [0], "it shrinks as it is read"
    assert nameless(tmp_path) == []


class SourceLost(Exception):
    """What a user's own batches or objective may raise."""


def lost(*_: Any) -> Any:
    raise SourceLost


@linux
@pytest.mark.parametrize("where", ["forward", "dev", "reverse"])
def test_nothing_of_the_disk_store_outlives_a_run_that_fails(where: str, tmp_path: Path) -> None:
    problem, judged, calls = problem_with("momentum"), 0, 0

    def objective(*given: Any) -> Tensor:
        nonlocal judged
        judged += 1
        return lost() if where == "dev" else problem.objective(*given)

    def loss(*given: Any) -> Tensor:
        nonlocal calls
        calls += 1
        # The objective is looked at twice before the run, on one batch; on the way back it has been taken on all.
        return lost() if calls >= 6 and (where == "forward" or judged > 2) else problem.loss(*given)

    changed = {"objective": objective, "loss": loss}
    with pytest.raises(SourceLost):
        gradient(f"rmd[store=disk,directory={tmp_path}]", dataclasses.replace(problem, **changed), 30)
    assert not list(tmp_path.iterdir()) and nameless(tmp_path) == []


def test_a_directory_that_is_not_there_is_refused_with_the_bytes_needed(tmp_path: Path) -> None:
    problem = problem_with("momentum")
    needed = l2t.load_backend("rmd[store=disk]").law(problem, 30).disk_bytes  # type: ignore[attr-defined]
    with pytest.raises(l2t.UserError, match=f"needs {needed:,} bytes in {tmp_path}/gone, but no such file") as caught:
        gradient(f"rmd[store=disk,directory={tmp_path}/gone]", problem, 30)
    assert "\n" not in str(caught.value) and "give directory=" in str(caught.value)
    assert not list(tmp_path.iterdir()), "it is not made either"


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(l2t.UserError, match="not a directory"):
        gradient(f"rmd[store=disk,directory={tmp_path}/file]", problem_with("momentum"), 30)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(l2t.UserError, match="permission denied"):
        gradient(f"rmd[store=disk,directory={tmp_path}]", problem_with("momentum"), 30)


def test_a_disk_without_the_space_is_refused_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_with("momentum")
    needed = l2t.load_backend("rmd[store=disk]").law(problem, 30).disk_bytes  # type: ignore[attr-defined]
    drawn: list[int] = []
    train = problem.train
    problem = dataclasses.replace(problem, train=lambda index, seed: drawn.append(index) or train(index, seed))
    free = [needed - 1]
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free[0]}))
    with pytest.raises(l2t.UserError, match=f"there are {needed - 1:,} bytes free"):
        gradient(f"rmd[store=disk,directory={tmp_path}]", problem, 30)
    assert drawn == [], "no step was taken"
    free[0] = needed
    gradient(f"rmd[store=disk,directory={tmp_path}]", problem, 30)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_during_the_run_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def full(**_: Any) -> Any:
        opened.append(open("/dev/full", "r+b", buffering=0))  # noqa: SIM115
        return opened[0]

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(l2t.UserError, match=f"in {tmp_path}, but no space left on device: give directory="):
        gradient(f"rmd[store=disk,directory={tmp_path}]", problem_with("momentum"), 30)
    assert opened[0].closed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 KB, where this process may mount one."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(place)]
    try:
        mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("may not mount a file system here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_real_disk_that_fills_up_is_empty_again_afterwards(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = os.statvfs(small_disk).f_bfree
    problem = problem_with("momentum")
    with pytest.raises(l2t.UserError, match="bytes free"):
        gradient(f"rmd[store=disk,directory={small_disk}]", problem, 60)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**9}))
    with pytest.raises(l2t.UserError, match="no space left on device"):
        gradient(f"rmd[store=disk,directory={small_disk}]", problem, 60)
    assert not list(small_disk.iterdir()) and os.statvfs(small_disk).f_bfree == free
    gradient(f"rmd[store=disk,directory={small_disk}]", problem, 10)  # and a run that fits goes on there


def test_a_directory_removed_during_the_run_does_not_hurt_it(tmp_path: Path) -> None:
    problem = problem_with("momentum")
    wanted, place, train = gradient("rmd", problem, 12), tmp_path / "place", problem.train
    place.mkdir()

    def train_and_remove(index: int, seed: int) -> Any:
        if index == 6 and place.exists():
            place.rmdir()
        return train(index, seed)

    removing = dataclasses.replace(problem, train=train_and_remove)
    assert_same_bits(gradient(f"rmd[store=disk,directory={place}]", removing, 12), wanted)
    assert not place.exists()


_ENDLESS = """
import sys
import l2t_bench as l2t
from l2t_bench.verification.samples import random_problem
problem = random_problem()
l2t.load_backend(f"rmd[store=disk,directory={sys.argv[1]}]").teacher_gradient(
    problem, problem.init_teacher(0), horizon=1_000_000
)
"""


@linux
def test_a_killed_run_leaves_nothing_in_the_directory(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _ENDLESS, str(tmp_path)])
    try:
        deadline = time.monotonic() + 60
        while not any(nameless(tmp_path, str(process.pid))):
            assert process.poll() is None and time.monotonic() < deadline, "the run must have begun to write"
            time.sleep(0.02)
        assert not list(tmp_path.iterdir())
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not list(tmp_path.iterdir())
