"""What is proved on a CPU holds on a GPU: every method gives there what ``rmd`` gives on the CPU, and leaves nothing.

Sums are taken in another order there, and some kernels of convolutions and embeddings add in an order that changes from
call to call: no bits are compared, but for a student of matrix products.
"""

import gc

import pytest
import torch
from ladder_cases import MAIN_STUDENTS, METHODS, REFUSED, STORES

import l2t_bench as l2t
from l2t_bench.gradient import Exactness, Refused, TeacherGradient
from l2t_bench.problem import TeachingProblem
from l2t_bench.tensors import TensorDict
from l2t_bench.verification.ladder import section
from l2t_bench.verification.samples import general_theta
from l2t_bench.verification.students import STUDENTS, student_problem
from l2t_bench.verification.subject import Outcome
from l2t_bench.verification.vectors import relative_error

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

HORIZON = 6
SAME = 1e-10  # float64 sums in another order, over a few steps
AMPLIFIED = 1e-6  # by a linear system that is solved, a difference that is divided by its step, fixed point
RANDOM = ("transformer, dropout", "dropout", "augmentation")  # a GPU draws other numbers under the same seed
COMPILED = ("rmd[engine=compiled]", "rmd[engine=graphed]")


def on_both(student: str) -> tuple[TeachingProblem, TeachingProblem, TensorDict]:
    """The problem on a CPU and on the GPU, and its theta."""
    here = student_problem(student)
    return here, here.to("cuda"), general_theta(here)


def gradient(method: str, problem: TeachingProblem, theta: TensorDict, horizon: int = HORIZON) -> TeacherGradient:
    own = {name: part.to(problem.device) for name, part in theta.items()}
    return l2t.load_backend(method).teacher_gradient(problem, own, horizon=horizon)


def here(tensors: TensorDict) -> TensorDict:
    return {name: tensor.cpu() for name, tensor in tensors.items()}


CASES = [
    *((method, student) for student in STUDENTS for method in (*METHODS, *STORES)),
    *((method, student) for student in MAIN_STUDENTS for method in COMPILED),
]


@pytest.mark.parametrize(("method", "student"), CASES)
def test_a_method_gives_on_a_gpu_what_it_gives_on_a_cpu(method: str, student: str) -> None:
    on_cpu, on_gpu, theta = on_both(student)
    if (method, student) in REFUSED:
        with pytest.raises(Refused):
            gradient(method, on_gpu, theta)
        return
    ours = gradient(method, on_gpu, theta)
    kind = l2t.load_backend(method).capabilities.exactness
    reference = "rmd" if kind in (Exactness.EXACT, Exactness.QUANTISED) else method
    theirs = gradient(reference, on_gpu if student in RANDOM else on_cpu, theta)
    assert all(part.is_cuda for part in ours.d_theta.values())
    states = 1e-8 if kind is Exactness.QUANTISED else SAME
    assert relative_error(here(ours.final.params), here(theirs.final.params)) <= states
    assert relative_error(here(ours.d_theta), here(theirs.d_theta)) <= (SAME if kind is Exactness.EXACT else AMPLIFIED)


def test_convolutions_in_float32_are_no_tf32() -> None:
    """By torch's default they are, and exact methods are then a tenth apart within some hundred steps."""
    name = "digits/lenet[batch=20,features=none]"
    problem, exact = (l2t.build_problem(name, dtype=dtype, device="cuda") for dtype in ("float32", "float64"))
    theta = problem.init_teacher(0)
    wanted = gradient("rmd", exact, {name: part.double() for name, part in theta.items()}, 100).d_theta["W"]
    for method in ("rmd", "higher", "functorch"):
        found = gradient(method, problem, theta, 100).d_theta["W"].double()
        assert relative_error({"W": found}, {"W": wanted}) < 1e-3


@pytest.mark.parametrize("student", MAIN_STUDENTS)
@pytest.mark.parametrize("method", ["rmd", "rmd[store=sqrt]", "higher", "torchopt", "functorch", *COMPILED])
def test_the_whole_ladder_is_climbed_on_a_gpu(method: str, student: str) -> None:
    found = section(l2t.load_backend(method), student_problem(student).to("cuda"), horizons=(2, 4))
    failed = [f"{c.name}: {c.figure:.3g} > {c.bound:.3g}" for c in found.checks if c.outcome is Outcome.FAILED]
    assert found.checks and not failed, failed


@pytest.mark.parametrize("method", [*METHODS, *STORES, *COMPILED])
def test_fifty_calls_in_a_row_leave_nothing_on_the_device(method: str) -> None:
    problem = l2t.build_problem("digits/mlp[hidden=64,features=none,dev=50]", device="cuda")
    theta, backend = problem.init_teacher(0), l2t.load_backend(method)
    levels, peaks = {}, {}
    for call in range(50):
        peaks[call] = backend.teacher_gradient(problem, theta, horizon=12).cost.device_bytes
        if call in (9, 49):
            gc.collect()
            torch.cuda.synchronize()
            levels[call] = torch.cuda.memory_allocated()
    assert (levels[9], peaks[9]) == (levels[49], peaks[49])
