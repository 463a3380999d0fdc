"""Table 3 of the paper: translating students by losses, all from one warm start, the learned loss by every backend.

Profile ``paper`` has the appendix's values, and what it leaves open from ``assumed``. ``quick`` and ``smoke`` are the
same experiment on numbers in words, small enough for two cores; each loss has its lr chosen on dev out of as many.
They depart from the paper where that was found to be needed, on other splits than the one that is reported: the lr
falls to zero (at a constant one a student's BLEU at its last step is chance, 28 to 94 at the lr that was best), and W
starts at 0.3, where the untrained loss trains as well as cross entropy; and the teacher that is kept is the one under
which held-out students score best on dev, the untrained one among them, since some students fall under a later one.
``sample`` is LSTM-1 of the paper's size on the
15k pairs of IWSLT-14 that lie tokenised in the data root: its warm start is a training from scratch, of an hour or two
of one core, and what is judged is what each loss adds to it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import NamedTuple

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.suite import Request, Suite
from l2t_bench.errors import UserError
from l2t_bench.paper import assumed
from l2t_bench.suites.cells import Series
from l2t_bench.suites.controls import CROSS_ENTROPY, UNTRAINED
from l2t_bench.suites.settings import TrainingSettings, papers_training
from l2t_bench.suites.translation_losses import ACTOR_CRITIC, BASELINES
from l2t_bench.suites.translation_settings import TranslationJudging, TranslationSettings, WarmStartSettings

VERSION = 1
NAME = "table3"
QUICK_BACKENDS = ("rmd", "higher", "truncated[window=20]")
BACKENDS = (*QUICK_BACKENDS, "torchopt", "functorch", "torchopt-implicit")
CONTROLS = (*BASELINES, UNTRAINED)
_TASKS = "l2t_bench.suites.translation_cells"
Students = Mapping[str, TranslationSettings]


def papers_students() -> Students:
    """LSTM-1, LSTM-2 and the Transformer on IWSLT-14: SGD at 0.1, batches of 32, 50 outer steps (appendix B.3, B.4)."""
    return {name: _as_in_the_paper(name) for name in ("iwslt14/lstm1", "iwslt14/lstm2", "iwslt14/transformer")}


def _as_in_the_paper(name: str) -> TranslationSettings:
    problem, epoch = f"{name}[lr=0.1,recipe=153k]", assumed.TRANSLATION_PAIRS // 32
    horizon = epoch * assumed.TRANSLATION_EPOCHS
    return TranslationSettings(
        WarmStartSettings(problem, epoch * assumed.WARM_START_EPOCHS, assumed.WARM_START_LR),
        papers_training(problem, lr=0.1, horizon=horizon, outer_steps=50),
        TranslationJudging(
            problem,
            horizon,
            grid=(0.1,),
            fresh_students=assumed.FRESH_STUDENTS,
            critic={"critic_steps": epoch * assumed.CRITIC_EPOCHS},
        ),
    )


_NUMBERS = "batch=32,dev=100,gain=0.3,schedule=linear,split=11,test=300,train=4000"


class _Small(NamedTuple):
    """What makes a student small, a warm start that leaves something to be learned, and the lr after it.

    ``lr`` is what was best on splits 7 and 8 under the loss that a teacher starts from.
    """

    sizes: str
    warm_steps: int
    warm_lr: float
    lr: float


_LSTM = _Small("embedding=48,hidden=48", 140, 0.005, lr=2.4)
_SMALL: Mapping[str, _Small] = MappingProxyType(
    {
        "numbers/lstm1": _LSTM,
        "numbers/lstm2": _LSTM,
        "numbers/transformer": _Small("inner=64,layers=2,width=32", 170, 0.003, lr=0.5),
    }
)
_RELATIVE: Mapping[str, float] = MappingProxyType(
    {
        **dict.fromkeys(("learned", "untrained"), 1.0),
        CROSS_ENTROPY: 1 / 12,
        "reinforce": 1.25,
        "actor-critic": 0.8,
        "minimum-risk": 12.0,
        "softmax-margin": 1.25,
    }
)
"""Where each loss's lr is looked for, over ``lr``: its best on split 8 with LSTM-1."""
_AROUND = (0.5, 1.0, 2.0)


def small_students() -> Students:
    """The paper's students, small, on numbers in words."""
    return {name: _on_numbers(name, small) for name, small in _SMALL.items()}


def quick_students() -> Students:
    """An LSTM and a Transformer of these: in minutes on a CPU."""
    return {name: settings for name, settings in small_students().items() if name != "numbers/lstm2"}


def _on_numbers(name: str, small: _Small) -> TranslationSettings:
    problem, horizon = f"{name}[{_NUMBERS},lr={small.lr},{small.sizes}]", 50
    grids = {loss: [float(f"{small.lr * best * step:.2g}") for step in _AROUND] for loss, best in _RELATIVE.items()}
    return TranslationSettings(
        WarmStartSettings(problem, small.warm_steps, small.warm_lr),
        TrainingSettings(
            problem=problem,
            lr=small.lr,
            horizon=horizon,
            outer_steps=10,
            teacher_lr=0.03,
            select_every=5,
            select_students=4,
        ),
        TranslationJudging(
            problem,
            horizon,
            grid=(small.lr,),
            grids=grids,
            tuning_students=2,
            schedule="linear",
            critic={"critic_steps": 150, "critic_lr": 0.005, "mixing": 0.1},
        ),
    )


_SAMPLE_PAIRS = 15_000
_SAMPLE = (
    "batch=32,dev=200,dropout=0.3,gain=0.3,path=iwslt14,source_vocabulary=4004,subwords=4000,target_vocabulary=4004"
)


def sample_students() -> Students:
    """LSTM-1 on the tokenised sample of IWSLT-14, 12 epochs of Adam and then a hundred steps of each loss."""
    problem, horizon = f"parallel-text/lstm1[{_SAMPLE},lr=0.1]", 100
    return {
        "parallel-text/lstm1": TranslationSettings(
            WarmStartSettings(problem, steps=12 * _SAMPLE_PAIRS // 32, lr=0.002),
            TrainingSettings(problem=problem, lr=0.1, horizon=20, outer_steps=10, teacher_lr=0.03, select_every=0),
            TranslationJudging(problem, horizon, grid=(0.1,), fresh_students=1, schedule="linear"),
        )
    }


def smallest(students: Students) -> Students:
    """Runs of three steps, two outer steps, one student: does it all run?"""
    return {
        name: replace(
            settings,
            warm_start=replace(settings.warm_start, steps=20),
            training=replace(settings.training, horizon=3, outer_steps=2, select_every=1, select_students=1),
            judging=replace(
                settings.judging, horizon=3, grid=(0.1,), grids={}, fresh_students=1, critic={"critic_steps": 2}
            ),
        )
        for name, settings in students.items()
    }


def cells_of_student(
    series: Series,
    problem: str,
    settings: TranslationSettings,
    learned: Sequence[str],
    seed: int,
    controls: Sequence[str] = CONTROLS,
) -> Iterator[Cell]:
    """One warm start for all losses of a student and seed; a teacher for each of ``learned``, and those it teaches."""
    warming = asdict(settings.warm_start)
    # Timed as what needs it is: timed cells are run before all others.
    warm = series.cell("warm-start", problem, CROSS_ENTROPY, seed, f"{_TASKS}:warm_start", warming, timed=True)

    def taught(method: str, needs: Cell) -> Cell:
        measure, judging = f"{_TASKS}:measure", asdict(settings.judging)
        return series.cell("teaching", problem, method, seed, measure, judging, needs=needs.cell_id)

    def teacher(method: str) -> Cell:
        train, training = f"{_TASKS}:train", asdict(settings.training)
        return series.cell("teacher", problem, method, seed, train, training, timed=True, needs=warm.cell_id)

    yield warm
    # A student's longest first: cells that are not timed run beside each other, and the last one would run alone.
    yield from (taught(method, warm) for method in sorted(controls, key=lambda method: method != ACTOR_CRITIC))
    for method in learned:
        trained = teacher(method)
        yield from (trained, taught(method, trained))


def _profile(
    profile: str, students: Callable[[], Students], backends: Sequence[str], controls: Sequence[str] = CONTROLS
) -> Callable[[Request], Sequence[Cell]]:
    """The grid of a profile; a problem that is asked for is one of the table's, by its name there."""

    def cells(request: Request) -> Sequence[Cell]:
        known = students()
        for name in request.problems:
            if name not in known:
                raise UserError(f"{NAME}, profile {profile}, has {', '.join(known)}, not {name}")
        series = Series(NAME, VERSION, profile)
        return [
            cell
            for seed in request.seeds or (0,)
            for name in request.problems or known
            for cell in cells_of_student(series, name, known[name], request.backends or backends, seed, controls)
        ]

    return cells


SUITE = Suite(
    name=NAME,
    version=VERSION,
    summary="the paper's Table 3: translation, every loss from one warm start, judged by BLEU",
    profiles={
        "paper": _profile("paper", papers_students, BACKENDS),
        "sample": _profile("sample", sample_students, ("rmd",), (CROSS_ENTROPY, UNTRAINED)),
        "quick": _profile("quick", quick_students, QUICK_BACKENDS),
        "smoke": _profile("smoke", lambda: smallest(small_students()), QUICK_BACKENDS),
    },
    default_profile="quick",
)
