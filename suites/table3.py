"""Table 3 of the paper: translating students by losses, all from one warm start, the learned loss by every backend.

Profile ``paper`` has the appendix's values, and what it leaves open from ``assumed``. ``quick`` and ``smoke`` are the
same experiment on numbers in words, small enough for two cores; each loss has its lr chosen on dev out of as many.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.suite import Request, Suite
from l2t_bench.errors import UserError
from l2t_bench.paper import assumed
from l2t_bench.suites.cells import Series
from l2t_bench.suites.controls import CROSS_ENTROPY, UNTRAINED
from l2t_bench.suites.settings import TrainingSettings, papers_training
from l2t_bench.suites.translation_losses import BASELINES
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


_NUMBERS = "batch=32,dev=100,lr=0.6,test=300,train=4000"
_LSTM = ("embedding=48,hidden=48", 140, 0.005)
# What makes each student small; steps and lr of a warm start that leaves something to be learned.
_SIZES: Mapping[str, tuple[str, int, float]] = MappingProxyType(
    {
        "numbers/lstm1": _LSTM,
        "numbers/lstm2": _LSTM,
        "numbers/transformer": ("inner=64,layers=2,width=32", 170, 0.003),
    }
)
_GRIDS: Mapping[str, Sequence[float]] = MappingProxyType(
    {
        **dict.fromkeys(("learned", "untrained"), (0.2, 0.6, 1.2)),
        **dict.fromkeys((CROSS_ENTROPY, "softmax-margin"), (0.05, 0.1, 0.2)),
        "reinforce": (0.03, 0.3, 1.0),
        "actor-critic": (0.1, 0.3, 1.0),
        "minimum-risk": (2.0, 6.0, 12.0),
    }
)


def small_students() -> Students:
    """The paper's students, small, on numbers in words."""
    return {name: _on_numbers(name, *sizes) for name, sizes in _SIZES.items()}


def quick_students() -> Students:
    """An LSTM and a Transformer of these: in minutes on a CPU."""
    return {name: settings for name, settings in small_students().items() if name != "numbers/lstm2"}


def _on_numbers(name: str, sizes: str, warm_steps: int, warm_lr: float) -> TranslationSettings:
    problem, horizon = f"{name}[{_NUMBERS},{sizes}]", 50
    return TranslationSettings(
        WarmStartSettings(problem, warm_steps, warm_lr),
        TrainingSettings(problem=problem, lr=0.6, horizon=horizon, outer_steps=10, teacher_lr=0.03, select_every=0),
        TranslationJudging(problem, horizon, grid=(0.1,), grids=dict(_GRIDS)),
    )


def smallest(students: Students) -> Students:
    """Runs of three steps, two outer steps, one student: does it all run?"""
    return {
        name: replace(
            settings,
            warm_start=replace(settings.warm_start, steps=20),
            training=replace(settings.training, horizon=3, outer_steps=2),
            judging=replace(settings.judging, horizon=3, grid=(0.1,), grids={}, fresh_students=1),
        )
        for name, settings in students.items()
    }


def cells_of_student(
    series: Series, problem: str, settings: TranslationSettings, learned: Sequence[str], seed: int
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
    for method in learned:
        trained = teacher(method)
        yield from (trained, taught(method, trained))
    yield from (taught(method, warm) for method in CONTROLS)


def _profile(
    profile: str, students: Callable[[], Students], backends: Sequence[str]
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
            for cell in cells_of_student(series, name, known[name], request.backends or backends, seed)
        ]

    return cells


SUITE = Suite(
    name=NAME,
    version=VERSION,
    summary="the paper's Table 3: translation, every loss from one warm start, judged by BLEU",
    profiles={
        "paper": _profile("paper", papers_students, BACKENDS),
        "quick": _profile("quick", quick_students, QUICK_BACKENDS),
        "smoke": _profile("smoke", lambda: smallest(small_students()), QUICK_BACKENDS),
    },
    default_profile="quick",
)
