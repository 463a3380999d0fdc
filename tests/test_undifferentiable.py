"""A student that torch cannot differentiate twice, or not in a method's way: refused with the reason and a way out."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.errors import Refused
from l2t_bench.problem import TeachingProblem
from l2t_bench.undifferentiable import FORWARD, SECOND, TORCH_FUNC, missing_derivative
from l2t_bench.verification import checks
from l2t_bench.verification.ladder import verify
from l2t_bench.verification.samples import general_theta, random_problem
from l2t_bench.verification.students import student_problem
from l2t_bench.verification.subject import Outcome, Subject

TWICE = (
    *("rmd", "rmd[store=sqrt]", "rmd[store=graph]", "rmd[store=reversible]", "rmd[hvp=for]", "truncated[window=3]"),
    *("truncated[window=3,every=2]", "higher", "torchopt", "torchopt[api=meta]", "functorch", "implicit"),
    *("torchopt-implicit", "forward"),
)
ONCE = ("one-step", "evolution[population=4]")
THROUGH_TORCH_FUNC = ("rmd[hvp=for]", "functorch", "torchopt-implicit", "forward")


class Bag(nn.Module):
    """nn.EmbeddingBag has a gradient, and that one none."""

    def __init__(self) -> None:
        super().__init__()
        self.bag, self.out = nn.EmbeddingBag(11, 5), nn.Linear(5, 3)

    def forward(self, words: Tensor) -> Tensor:
        out: Tensor = self.out(torch.tanh(self.bag(words)))
        return out


class Cube(torch.autograd.Function):
    """Written as before torch.func: without a ``setup_context``."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return inputs**3

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (inputs,) = ctx.saved_tensors
        return gradients[0] * 3 * inputs**2


class Cubed(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        cubed: Tensor = Cube.apply(inputs)
        return cubed


class Warped(nn.Module):
    """``grid_sample`` has second derivatives, and no forward mode of its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.where, self.out = nn.Linear(6, 18), nn.Linear(9, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        grid, image = torch.tanh(self.where(inputs)).view(-1, 3, 3, 2), inputs[:, :4].view(-1, 1, 2, 2)
        out: Tensor = self.out(nn.functional.grid_sample(image, grid, align_corners=True).flatten(1))
        return out


class Misshapen(nn.Module):
    """A student with a mistake of its own where it is differentiated by ``torch.func``, and there alone."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(6, 7), nn.Linear(7, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.into(inputs))
        by_torch_func = torch._C._functorch.is_functorch_wrapped_tensor(hidden)
        out: Tensor = self.out(hidden[:, :-1] if by_torch_func else hidden)
        return out


def bag_of_words() -> TeachingProblem:
    return dataclasses.replace(student_problem("embedding"), student=Bag().double(), init=None)


def cubed() -> TeachingProblem:
    return random_problem(student=nn.Sequential(nn.Linear(6, 7), Cubed(), nn.Linear(7, 4)))


def counted(problem: TeachingProblem) -> tuple[TeachingProblem, list[int]]:
    drawn: list[int] = []

    def train(index: int, seed: int) -> Any:
        drawn.append(index)
        return problem.train(index, seed)

    return dataclasses.replace(problem, train=train), drawn


def differentiate(backend: str, problem: TeachingProblem, horizon: int = 5) -> l2t.TeacherGradient:
    return l2t.load_backend(backend).teacher_gradient(problem, general_theta(problem), horizon=horizon)


@pytest.mark.parametrize("backend", TWICE)
def test_a_student_without_second_derivatives_is_refused_at_the_first_step(backend: str) -> None:
    problem, drawn = counted(bag_of_words())
    with pytest.raises(
        Refused, match=r"no (second derivative|forward mode) for this student \(.*_embedding_bag"
    ) as caught:
        differentiate(backend, problem)
    assert caught.value.instead == "evolution and one-step need none"
    assert set(drawn) == {0}, "the run must not be lost first"


@pytest.mark.parametrize("backend", ONCE)
def test_and_is_taught_by_the_methods_that_need_none(backend: str) -> None:
    assert any(tensor.any() for tensor in differentiate(backend, bag_of_words()).d_theta.values())


@pytest.mark.parametrize("backend", THROUGH_TORCH_FUNC)
def test_a_function_that_torch_func_does_not_take_is_refused_with_its_layer_where_torch_func_is_needed(
    backend: str,
) -> None:
    with pytest.raises(Refused, match=r"no torch\.func transform for this student \(Cubed: .* setup_context") as caught:
        differentiate(backend, cubed())
    assert caught.value.instead == "rmd, with hvp=ror, takes it as it is"


@pytest.mark.parametrize("backend", [name for name in (*TWICE, *ONCE) if name not in THROUGH_TORCH_FUNC])
def test_and_is_differentiated_where_it_is_not(backend: str) -> None:
    assert any(tensor.any() for tensor in differentiate(backend, cubed()).d_theta.values())


@pytest.mark.parametrize("backend", ["rmd[hvp=for]", "forward"])
def test_a_gradient_without_forward_mode_is_refused_for_reverse_over_reverse(backend: str) -> None:
    problem = random_problem(student=Warped())
    with pytest.raises(Refused, match=r"no forward mode for this student \(.*grid_sampler_2d_backward") as caught:
        differentiate(backend, problem)
    assert caught.value.instead == "rmd, with hvp=ror, needs none"
    assert differentiate("rmd", problem).d_theta


def test_a_derivative_that_is_missing_at_a_later_step_alone_is_a_refusal_too() -> None:
    class Late(Bag):
        def forward(self, words: Tensor) -> Tensor:
            if torch.equal(words, first):
                out: Tensor = self.out(torch.tanh(self.bag.weight[words].mean(1)))
                return out
            return super().forward(words)

    base = student_problem("embedding")
    first = base.train(0, 0)[0]
    problem = dataclasses.replace(base, student=Late().double(), init=None)
    for backend in ("rmd", "higher", "functorch"):
        with pytest.raises(Refused, match="no second derivative for this student"):
            differentiate(backend, problem)


def test_an_error_of_the_users_own_stays_what_it_is() -> None:
    class Broken(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            raise RuntimeError("no such file")

    for backend in ("rmd", "forward", "functorch"):
        with pytest.raises(RuntimeError, match="no such file"):
            differentiate(backend, random_problem(student=Broken(6, 4)))


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (NotImplementedError("the derivative for '_embedding_bag_backward' is not implemented."), SECOND),
        (RuntimeError("derivative for aten::_scaled_dot_product_attention_backward is not implemented"), SECOND),
        (RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable"), SECOND),
        (NotImplementedError("Trying to use forward AD with _cdist_forward that does not support it"), FORWARD),
        (
            RuntimeError("to use an autograd.Function with functorch transforms (vmap, jvp), it must override"),
            TORCH_FUNC,
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (8x6 and 5x7)"), None),
        (NotImplementedError('"normal_kernel_cpu" not implemented for Byte'), None),
        (KeyError("derivative for 'x' is not implemented"), None),
    ],
)
def test_what_torch_says_of_a_missing_derivative_is_told_from_all_else(error: Exception, what: str | None) -> None:
    found = missing_derivative(error)
    assert (found.what if found else None) == what


def test_the_second_derivatives_are_tried_once_for_a_problem() -> None:
    asked: list[bool] = []

    class Looking(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            asked.append(torch.is_grad_enabled() and self.training)
            return super().forward(inputs)

    problem = random_problem(student=Looking(6, 4))
    counts = []
    for _ in range(3):
        asked.clear()
        differentiate("rmd", problem)
        counts.append(sum(asked))
    assert counts[0] > counts[1] == counts[2]


class Words(nn.Module):
    """A mean of embedded words; ``options`` are the embedding's."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(11, 5, **options), nn.Linear(5, 3)

    def forward(self, words: Tensor) -> Tensor:
        out: Tensor = self.out(torch.tanh(self.words(words).mean(1)))
        return out


def test_gradients_scaled_by_frequency_are_a_mistake_of_the_problem() -> None:
    student = Words(scale_grad_by_freq=True).double()
    with pytest.raises(l2t.UserError, match="the student's words is scale_grad_by_freq=True"):
        dataclasses.replace(student_problem("embedding"), student=student, init=None)


def test_rows_that_are_shortened_in_place_are_a_mistake_of_the_problem() -> None:
    with pytest.raises(l2t.UserError, match=r"the student's words has max_norm=0\.8: .* shortens rows"):
        dataclasses.replace(student_problem("embedding"), student=Words(max_norm=0.8).double(), init=None)


def test_sparse_gradients_are_a_mistake_of_the_problem_with_the_way_out() -> None:
    student = Words(sparse=True).double()
    with pytest.raises(l2t.UserError, match=r"the student's words is sparse=True, .* make it with sparse=False"):
        dataclasses.replace(student_problem("embedding"), student=student, init=None)
    student.words.requires_grad_(False)  # a frozen one has no gradient
    frozen = dataclasses.replace(student_problem("embedding"), student=student, init=None)
    assert differentiate("rmd", frozen).d_theta


def test_verify_goes_on_where_a_method_refuses_such_a_student() -> None:
    for backend in ("rmd", "higher", "functorch", "implicit", "forward"):
        (section,) = verify(l2t.load_backend(backend), bag_of_words())
        assert "_embedding_bag" in section.refused and not section.failed
    (section,) = verify(l2t.load_backend("one-step"), bag_of_words())
    assert not section.failed and not section.refused


def test_verify_holds_a_student_without_forward_mode_to_what_it_has() -> None:
    (section,) = verify(l2t.load_backend("rmd"), random_problem(student=Warped()))
    assert not section.failed
    (check,) = [check for check in section.checks if check.name.startswith("second derivatives")]
    assert check.outcome is Outcome.PASSED and "not for: no forward mode" in check.note


def test_the_probe_in_forward_mode_is_skipped_where_there_is_none_and_a_mistake_of_the_student_is_raised() -> None:
    without = recorded_by_rmd(random_problem(student=Warped()))
    found = checks.check_forward_probe(without)
    assert found.outcome is Outcome.SKIPPED and "no forward mode for this student" in found.note
    found = checks.check_forward_probe(recorded_by_rmd(student_problem("transformer, dropout")))
    assert found.outcome is Outcome.SKIPPED and "other dropout masks" in found.note
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        checks.check_forward_probe(recorded_by_rmd(random_problem(student=Misshapen())))


def recorded_by_rmd(problem: TeachingProblem) -> Subject:
    return Subject(l2t.load_backend("rmd"), problem, general_theta(problem), 0, differentiate("rmd", problem))


def test_complex_parameters_are_an_error_that_says_how_to_hold_them() -> None:
    class Rotated(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, 4)
            self.phase = nn.Parameter(torch.ones(4, dtype=torch.complex128))

        def forward(self, inputs: Tensor) -> Tensor:
            return (super().forward(inputs) * self.phase).real

    with pytest.raises(l2t.UserError, match=r"the student's phase is complex, .* \(torch\.view_as_real\)"):
        random_problem(student=Rotated().double())


def weighted_by_a_number(output: Tensor, target: Tensor, phi: Tensor) -> Tensor:
    del target
    return output.tanh().mean() * (1 + 0.1 * torch.tanh(phi.mean()))


@pytest.mark.parametrize("backend", ["rmd[hvp=for]", "forward"])
def test_a_tangent_that_torch_makes_in_another_dtype_is_a_missing_forward_mode(backend: str) -> None:
    problem = dataclasses.replace(random_problem(), loss=weighted_by_a_number).to(dtype=torch.float32)
    with pytest.raises(Refused, match=r"no forward mode for this student \(.*double != float") as caught:
        l2t.load_backend(backend).teacher_gradient(problem, general_theta(problem), horizon=3)
    assert "hvp=ror" in str(caught.value.instead)


def test_a_student_that_mixes_dtypes_itself_hears_what_torch_says_of_it() -> None:
    class Mixed(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs.double())

    problem = random_problem(student=Mixed(6, 4)).to(dtype=torch.float32)
    with pytest.raises(RuntimeError, match="dtype"):
        l2t.load_backend("rmd").teacher_gradient(problem, general_theta(problem), horizon=3)
