"""What would give a wrong number in silence is found at the first step, by every method that would give it."""

import dataclasses
from collections import UserDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import l2t_bench as l2t
from l2t_bench.errors import Diverged, Refused, UserError
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.rollout import Rollout, record
from l2t_bench.second_difference import Look, second_look
from l2t_bench.second_order import MODES, Maker
from l2t_bench.verification.numeric import RecordedRun, central_differences
from l2t_bench.verification.samples import general_theta, random_batch, random_problem
from l2t_bench.verification.students import STUDENTS, student_problem
from l2t_bench.verification.vectors import relative_error

TWICE = (
    *("rmd", "rmd[store=sqrt]", "rmd[store=graph]", "rmd[store=reversible]", "truncated[window=3]"),
    *("truncated[window=3,every=2]", "higher", "torchopt", "torchopt[api=meta]", "functorch", "implicit"),
    "torchopt-implicit",
)
ONCE = ("one-step", "evolution[population=4]")
THROUGH_TORCH_FUNC = ("rmd[hvp=for]", "truncated[window=3,hvp=for]", "functorch", "torchopt-implicit", "forward")
ALL = (*TWICE, *ONCE, "rmd[hvp=for]", "forward")


def differentiate(backend: str, problem: TeachingProblem, horizon: int = 6) -> l2t.TeacherGradient:
    return l2t.load_backend(backend).teacher_gradient(problem, general_theta(problem), horizon=horizon)


def layered(middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 7), middle, nn.Linear(7, 4))


def error_of(backend: str, problem: TeachingProblem) -> float:
    """Against central differences of the recorded run."""
    theta = general_theta(problem)
    steps = record(problem, theta, horizon=5)
    true = central_differences(RecordedRun(problem, theta, steps, 0), 1e-3)
    return relative_error(l2t.load_backend(backend).teacher_gradient(problem, theta, steps=steps).d_theta, true)


# -- a student that is another one when it is called with given parameters ---------------------------------------------


class Recomputed(nn.Module):
    """Activation checkpointing: the hidden layers are taken again on the way back."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh()), nn.Linear(7, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.head(checkpoint(self.body, inputs, use_reentrant=False))
        return out


@pytest.mark.parametrize("backend", ALL)
def test_activation_checkpointing_takes_other_parameters_again_and_is_an_error(backend: str) -> None:
    with pytest.raises(
        UserError, match=r"the student's gradient is off by .*% when it is called with given parameters"
    ):
        differentiate(backend, random_problem(student=Recomputed()))


def writing_at_once() -> nn.Module:
    class Writing(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            with torch.no_grad():
                self.weight.mul_(0.99)
            return super().forward(inputs)

    return Writing(6, 4)


@pytest.mark.parametrize("backend", ["rmd", "rmd[store=sqrt]", "higher", "torchopt"])
def test_and_one_that_does_so_behind_autograds_back_and_at_later_steps(backend: str) -> None:
    class Clipped(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            self.weight.data.clamp_(-0.5, 0.5)
            return super().forward(inputs)

    problem = random_problem(student=Clipped(6, 4), optimizer=l2t.SGD(lr=3.0))
    with pytest.raises(UserError, match=r"writes into its parameters at step [1-9]: no derivative is taken of that"):
        differentiate(backend, problem, horizon=10)


@pytest.mark.parametrize("backend", ["functorch", "rmd[hvp=for]"])
def test_what_torch_func_does_not_let_a_student_do_is_refused_where_it_is_needed(backend: str) -> None:
    class Rewritten(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            self.weight.data = self.weight.data.clamp(-10, 10)
            return super().forward(inputs)

    with pytest.raises(Refused, match=r"no torch\.func transform for this student"):
        differentiate(backend, random_problem(student=Rewritten(6, 4)))


@pytest.mark.parametrize("backend", ALL)
def test_a_student_that_writes_into_its_parameters_is_an_error(backend: str) -> None:
    with pytest.raises(UserError, match="writes into its parameters at step 0: no derivative is taken of that"):
        differentiate(backend, random_problem(student=writing_at_once()))


# -- a student that higher's module does not follow --------------------------------------------------------------------


class Listed(nn.Module):
    """Its hidden layer is registered, and called from a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(6, 7), nn.Linear(7, 4)
        self.layers = [self.hidden]

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.layers[0](inputs)))
        return out


class Bound(nn.Module):
    """It keeps one of its methods as an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 4)
        self.encode = self._encode

    def _encode(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.head(inputs)
        return out

    def forward(self, inputs: Tensor) -> Tensor:
        return self.encode(inputs)


@pytest.mark.parametrize("student", [Listed, Bound])
def test_a_student_that_highers_module_does_not_follow_is_refused(student: type[nn.Module]) -> None:
    with pytest.raises(Refused, match=r"off by .*: the module that is made of it does not follow .*; rmd takes it"):
        differentiate("higher", random_problem(student=student()))


@pytest.mark.parametrize("backend", ["rmd", "rmd[hvp=for]", "torchopt", "torchopt[api=meta]", "functorch"])
@pytest.mark.parametrize("student", [Listed, Bound])
def test_and_the_methods_that_follow_it_are_right(student: type[nn.Module], backend: str) -> None:
    assert error_of(backend, random_problem(student=student())) < 1e-7


# -- parameters of the module that was handed in, which nobody trains --------------------------------------------------


def with_lambda() -> TeachingProblem:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.head = nn.Linear(6, 7), nn.Linear(7, 4)
            self.encode = lambda inputs: torch.tanh(self.hidden(inputs))

        def forward(self, inputs: Tensor) -> Tensor:
            out: Tensor = self.head(self.encode(inputs))
            return out

    return random_problem(student=Held())


def with_hook() -> TeachingProblem:
    class Hooked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.scale, self.head = nn.Linear(6, 7), nn.Linear(7, 7), nn.Linear(7, 4)
            self.hidden.register_forward_hook(lambda layer, inputs, output: torch.tanh(self.scale(output)))

        def forward(self, inputs: Tensor) -> Tensor:
            out: Tensor = self.head(self.hidden(inputs))
            return out

    return random_problem(student=Hooked())


def with_regularised_loss() -> TeachingProblem:
    student = nn.Linear(6, 4).double()
    problem = random_problem(student=student)

    def loss(output: Tensor, target: Tensor, phi: Tensor) -> Tensor:
        return problem.loss(output, target, phi) + 0.1 * student.weight.square().sum()

    return dataclasses.replace(problem, loss=loss)


@pytest.mark.parametrize("backend", ["rmd", "functorch", "higher", "evolution[population=4]"])
@pytest.mark.parametrize("problem", [with_lambda, with_hook, with_regularised_loss])
def test_a_loss_that_depends_on_the_module_handed_in_is_an_error(
    problem: Callable[[], TeachingProblem], backend: str
) -> None:
    with pytest.raises(UserError, match=r"the student's loss depends on a tensor of shape .*, which nobody trains"):
        differentiate(backend, problem())


def test_and_so_is_an_objective_and_a_teacher_that_does() -> None:
    student = nn.Linear(6, 4).double()
    problem = random_problem(student=student)

    def objective(output: Tensor, target: Tensor) -> Tensor:
        return problem.objective(output, target) - student.weight.square().sum()

    with pytest.raises(UserError, match="the dev objective depends on a tensor"):
        differentiate("rmd", dataclasses.replace(problem, objective=objective))

    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(1, 16)
            self.made = lambda features: self.inner(features).view(4, 4)

        def forward(self, features: Tensor) -> Tensor:
            return self.made(features)

    with pytest.raises(UserError, match="the teacher's phi depends on a tensor"):
        differentiate("rmd", dataclasses.replace(problem, teacher=Held().double()))


def test_a_constant_beside_the_student_is_none() -> None:
    beside = nn.Linear(4, 4).double()
    problem = random_problem()

    def loss(output: Tensor, target: Tensor, phi: Tensor) -> Tensor:
        return problem.loss(output, target, phi) + (output * beside.weight.detach()[0]).mean()

    assert error_of("rmd", dataclasses.replace(problem, loss=loss)) < 1e-7


# -- a beginning that is another one when it is drawn again ------------------------------------------------------------


@pytest.mark.parametrize("backend", ["rmd", "rmd[store=reversible]", "functorch", "evolution[population=4]"])
def test_an_omega_0_that_does_not_follow_the_seed_is_an_error(backend: str) -> None:
    problem = random_problem()

    def init(seed: int) -> dict[str, Tensor]:
        return {name: torch.randn_like(param) for name, param in problem.student.named_parameters()}

    with pytest.raises(UserError, match="omega_0 of student 0 is another one when it is drawn again: init="):
        differentiate(backend, dataclasses.replace(problem, init=init))


def test_and_so_is_a_layer_that_is_reset_by_numbers_that_are_not_torchs() -> None:
    class Reset(nn.Linear):
        def reset_parameters(self) -> None:
            with torch.no_grad():
                self.weight.copy_(torch.from_numpy(np.random.default_rng().normal(size=self.weight.shape)))
                self.bias.zero_()

    with pytest.raises(UserError, match="or a layer's reset_parameters, must be a function of the seed"):
        differentiate("rmd", random_problem(student=Reset(6, 4)))


# -- dropout that torch.func draws otherwise ---------------------------------------------------------------------------


class Attentive(nn.Module):
    """Dropout inside attention: on tensors that are not contiguous."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.output = nn.Embedding(11, 4), nn.Linear(4, 3)
        self.body = nn.TransformerEncoderLayer(4, 2, 6, 0.3, activation="gelu", batch_first=True)

    def forward(self, words: Tensor) -> Tensor:
        out: Tensor = self.output(self.body(self.embedding(words)).mean(1))
        return out


def attentive(head: float, **parts: Any) -> TeachingProblem:
    """``head``: of its entries at the first step, times a standard normal."""

    def init(seed: int) -> dict[str, Tensor]:
        drawn = torch.Generator().manual_seed(seed)
        return {
            name: (head if name.startswith("output") else 0.5)
            * torch.randn(param.shape, generator=drawn, dtype=torch.float64)
            for name, param in Attentive().named_parameters()
        }

    return dataclasses.replace(student_problem("transformer"), student=Attentive().double(), init=init, **parts)


def head_of_zeros() -> TeachingProblem:
    return attentive(0.0)


def phi_of_zeros() -> TeachingProblem:
    return attentive(
        0.5,
        teacher=nn.Linear(1, 3, bias=False).double(),  # of features t/T: nothing at t = 0
        loss=lambda logits, target, phi: (
            phi[target] * nn.functional.cross_entropy(logits, target, reduction="none")
        ).mean(),
    )


@pytest.mark.parametrize("problem", [head_of_zeros, phi_of_zeros])
@pytest.mark.parametrize("backend", THROUGH_TORCH_FUNC)
def test_other_dropout_masks_are_found_where_the_first_loss_does_not_show_them(
    backend: str, problem: Callable[[], TeachingProblem]
) -> None:
    with pytest.raises(Refused, match=r"gradient is off by .* from that of plain training: it draws other random"):
        differentiate(backend, problem())


@pytest.mark.parametrize("problem", [head_of_zeros, phi_of_zeros])
@pytest.mark.parametrize("backend", ["rmd", "higher", "torchopt"])
def test_and_the_methods_that_draw_those_of_plain_training_are_right(
    backend: str, problem: Callable[[], TeachingProblem]
) -> None:
    assert error_of(backend, problem()) < 1e-9


# -- batches that change after they were given -------------------------------------------------------------------------


def refilled(buffers: int, numpy: bool) -> TeachingProblem:
    """A source that fills so many buffers in turn."""
    arrays = [np.zeros((8, 6)) for _ in range(buffers)]
    tensors = [torch.from_numpy(array) if numpy else torch.zeros(8, 6, dtype=torch.float64) for array in arrays]

    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = random_batch(index)
        if numpy:
            arrays[index % buffers][:] = inputs.numpy()
        else:
            tensors[index % buffers].copy_(inputs)
        return tensors[index % buffers], targets

    return dataclasses.replace(random_problem(), train=train)


@pytest.mark.parametrize("numpy", [True, False], ids=["numpy", "torch"])
@pytest.mark.parametrize("backend", ALL)
def test_a_source_that_fills_one_buffer_again_is_an_error_at_the_second_step(backend: str, numpy: bool) -> None:
    with pytest.raises(UserError, match=r"the batch of step 0 has changed by step 1: .* returns a copy"):
        differentiate(backend, refilled(1, numpy))


@pytest.mark.parametrize("backend", ALL)
def test_and_one_that_fills_several_in_turn_at_the_end_of_the_run(backend: str) -> None:
    with pytest.raises(UserError, match=r"the batch of step 0 has changed by step \d|cannot be replayed"):
        differentiate(backend, refilled(3, numpy=True))


@pytest.mark.parametrize("backend", [name for name in ALL if name != "evolution[population=4]"])
def test_and_one_that_spares_the_first_batch_under_a_loss_of_any_size(backend: str) -> None:
    base, buffered = random_problem(), refilled(1, numpy=True)
    problem = dataclasses.replace(
        base,
        loss=lambda logits, target, phi: 1e-5 * base.loss(logits, target, phi),
        train=lambda index, seed: buffered.train(index, seed) if index else random_batch(0),
    )
    with pytest.raises(UserError, match=r"the batch of step 1 has changed by step \d|cannot be replayed"):
        differentiate(backend, problem)


def test_a_mapping_that_hides_its_tensors_is_an_error() -> None:
    problem = dataclasses.replace(
        random_problem(), train=lambda index, seed: (UserDict(inputs=random_batch(index)[0]), random_batch(index)[1])
    )
    with pytest.raises(UserError, match=r"gives a UserDict: make it a plain dict"):
        differentiate("rmd", problem)


def test_a_batch_of_nan_is_a_run_that_diverges_and_no_other_batch() -> None:
    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = random_batch(index)
        return inputs * torch.nan, targets

    with pytest.raises(Diverged, match="the student's loss is not finite at step 0"):
        differentiate("rmd", dataclasses.replace(random_problem(), train=train))


# -- second derivatives that are not those of the gradient -------------------------------------------------------------


def weight_normed() -> TeachingProblem:
    """torch's second derivative of ``_weight_norm_interface`` is wrong: its own gradgradcheck says so."""
    return random_problem(
        student=nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 7)), nn.Tanh(), nn.Linear(7, 4))
    )


def normalised_by_a_constant() -> TeachingProblem:
    """phi over its mean, which is detached: the mistake is a few per cent of a product for some seeds."""
    return dataclasses.replace(
        random_problem(),
        teacher=nn.Sequential(nn.Linear(1, 4), nn.Softplus()).double(),
        loss=lambda logits, target, phi: (
            phi[target] / phi[target].mean().detach() * nn.functional.cross_entropy(logits, target, reduction="none")
        ).mean(),
    )


def weighted_a_little() -> TeachingProblem:
    def loss(logits: Tensor, target: Tensor, phi: Tensor) -> Tensor:
        chance = logits.softmax(-1).gather(1, target[:, None])[:, 0].detach()
        each = nn.functional.cross_entropy(logits, target, reduction="none")
        return (phi[target] * (1 - 0.03 * chance) * each).mean()

    return dataclasses.replace(normalised_by_a_constant(), loss=loss)


def near_the_edge_of_its_domain() -> TeachingProblem:
    """phi in (0, 1) near 1: a point near it has no loss."""

    def loss(logits: Tensor, target: Tensor, phi: Tensor) -> Tensor:
        chance = logits.softmax(-1).gather(1, target[:, None])[:, 0].detach()
        each = nn.functional.cross_entropy(logits, target, reduction="none")
        return (((1 - phi).sqrt() * phi)[target] * (1 - chance) * each).mean()

    return dataclasses.replace(random_problem(), teacher=nn.Sequential(KeptBias(), nn.Sigmoid()).double(), loss=loss)


class KeptBias(nn.Linear):
    def __init__(self) -> None:
        super().__init__(1, 4)

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.constant_(self.bias, 4.0)


def at_later_steps_alone() -> TeachingProblem:
    """phi is t/T: from the middle on the weights are constants."""
    plain = normalised_by_a_constant()

    def loss(logits: Tensor, target: Tensor, phi: tuple[Tensor, Tensor]) -> Tensor:
        weights = phi[0][target] / logits.square().mean()
        each = nn.functional.cross_entropy(logits, target, reduction="none")
        return ((weights.detach() if float(phi[1].detach()) > 0.3 else weights) * each).mean()

    class Timed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.Linear(1, 4)

        def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
            return nn.functional.softplus(self.weights(features)), (features[0] * 100).round().long().float() / 100

    return dataclasses.replace(plain, teacher=Timed().double(), loss=loss)


def weighted_by_constants() -> TeachingProblem:
    plain = random_problem()

    def loss(logits: Tensor, target: Tensor, phi: Any) -> Tensor:
        return plain.loss(logits * (1 - logits.softmax(-1)).detach(), target, phi)

    return dataclasses.replace(plain, loss=loss)


def with_given_parameters(problem: TeachingProblem) -> TeachingProblem:
    """omega_0 of a student that no ``reset_parameters`` covers."""

    def init(seed: int) -> dict[str, Tensor]:
        drawn = torch.Generator().manual_seed(seed)
        return {
            name: param.detach() + 0.1 * torch.randn(param.shape, generator=drawn, dtype=torch.float64)
            for name, param in problem.student.named_parameters()
        }

    return dataclasses.replace(problem, init=init)


class Reverse(torch.autograd.Function):
    """The identity, whose gradient is turned around (Ganin and Lempitsky 2015)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(inputs: Tensor) -> Tensor:
        return inputs.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        return -gradients[0]


class Reversing(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        turned: Tensor = Reverse.apply(inputs)
        return turned


def adversarial() -> TeachingProblem:
    """Differentiated once more, the layer is turned around in its forward pass too."""
    return random_problem(student=nn.Sequential(nn.Linear(6, 7), nn.Tanh(), Reversing(), nn.Linear(7, 4)))


def normed() -> TeachingProblem:
    return with_given_parameters(weight_normed())


WRONG = (
    *(normed, weighted_by_constants, normalised_by_a_constant, weighted_a_little, near_the_edge_of_its_domain),
    *(at_later_steps_alone, adversarial),
)


@pytest.mark.parametrize("problem", WRONG)
@pytest.mark.parametrize("backend", TWICE)
def test_second_derivatives_that_are_not_those_of_the_gradient_are_refused(
    backend: str, problem: Callable[[], TeachingProblem]
) -> None:
    with pytest.raises(
        Refused, match=r"second derivatives .* at step \d, .* are \d+\.\d% off from differences of its gradient"
    ) as caught:
        differentiate(backend, problem())
    assert "evolution and one-step take no second derivatives" in caught.value.instead


@pytest.mark.parametrize("problem", [problem for problem in WRONG if problem is not at_later_steps_alone])
@pytest.mark.parametrize("backend", ONCE)
def test_and_the_methods_that_take_none_go_on(backend: str, problem: Callable[[], TeachingProblem]) -> None:
    assert any(tensor.any() for tensor in differentiate(backend, problem()).d_theta.values())


@pytest.mark.parametrize("backend", ["rmd", "rmd[hvp=for]", "higher", "functorch"])
def test_a_row_for_padding_is_no_wrong_derivative(backend: str) -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.out = nn.Embedding(11, 5, padding_idx=0), nn.Linear(5, 3)

        def forward(self, words: Tensor) -> Tensor:
            out: Tensor = self.out(torch.tanh(self.words(words).mean(1)))
            return out

    problem = dataclasses.replace(student_problem("embedding"), student=Padded().double(), init=None)
    assert error_of(backend, problem) < 1e-9


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [name for name in STUDENTS if name != "transformer, dropout"])
def test_products_of_students_that_are_right_differ_by_rounding_alone(name: str, mode: str) -> None:
    assert error_at_first_step(student_problem(name), mode) < 1e-6


@pytest.mark.parametrize("problem", ["digits/mlp[hidden=16]", "digits/lenet"])
def test_and_those_of_students_with_kinks_in_float32(problem: str) -> None:
    assert error_at_first_step(l2t.build_problem(problem), "ror") < 1e-6


def error_at_first_step(problem: TeachingProblem, mode: str) -> float:
    rollout = Rollout(problem, general_theta(problem), horizon=3)
    state = rollout.initial()
    step = rollout.step(0, state)
    found = second_look(MODES[mode], problem, state, step, rollout.phi(step))
    assert found is not None and found.precision is torch.float64
    return found.error


def test_a_large_student_is_looked_at_on_few_examples_in_one_direction_and_found_out_all_the_same() -> None:
    """Of 1.2 million parameters: as many gradients as a difference along one direction of each kind needs."""
    seen: list[tuple[int, torch.dtype]] = []

    class Wide(nn.Sequential):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append((len(inputs), inputs.dtype))
            out: Tensor = super().forward(inputs)
            return out

    student = Wide(nn.Linear(6, 110_000), nn.Tanh(), nn.Linear(110_000, 4))
    right = random_problem(student=student).to(dtype=torch.float32)
    assert error_at_first_step(right, "ror") < 1e-6
    looked = [count for count, dtype in seen if dtype is torch.float64]
    assert len(looked) == 6 and set(looked) == {4}
    wrong = dataclasses.replace(random_problem(student=student), loss=weighted_a_little().loss)
    with pytest.raises(Refused, match="off from differences of its gradient"):
        differentiate("rmd", dataclasses.replace(wrong, teacher=normalised_by_a_constant().teacher))


class RMSNorm(nn.Module):
    """As language models write it: in float32, whatever it is given."""

    def forward(self, inputs: Tensor) -> Tensor:
        held = inputs.float()
        return (held * torch.rsqrt(held.square().mean(-1, keepdim=True) + 1e-6)).to(inputs.dtype)


class OwnSoftmax(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return torch.softmax(inputs, -1, dtype=torch.float32).to(inputs.dtype)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("backend", ["rmd", "rmd[hvp=for]", "higher", "functorch"])
@pytest.mark.parametrize("layer", [RMSNorm, OwnSoftmax])
def test_a_student_that_computes_in_float32_by_itself_is_not_refused_for_rounding(
    layer: type[nn.Module], backend: str, seed: int
) -> None:
    problem = random_problem(student=layered(layer())).to(dtype=torch.float32)
    found = l2t.load_backend(backend).teacher_gradient(problem, problem.init_teacher(seed), horizon=6, seed=seed)
    assert any(tensor.any() for tensor in found.d_theta.values())


def test_and_a_wrong_rule_is_still_found_in_it() -> None:
    plain = random_problem(student=layered(RMSNorm()))
    loss = weighted_by_constants().loss
    with pytest.raises(Refused, match="off from differences of its gradient"):
        differentiate("rmd", dataclasses.replace(plain, loss=loss).to(dtype=torch.float32))


@pytest.mark.parametrize(
    "unmet",
    [
        lambda inputs: len(inputs) == 20,
        lambda inputs: inputs.dtype is torch.float32,
        lambda inputs: {torch.float32: True}[inputs.dtype],
    ],
    ids=["batch size", "dtype", "table of dtypes"],
)
def test_what_a_student_asserts_is_met_by_the_looks_or_they_are_not_taken(unmet: Callable[[Tensor], bool]) -> None:
    class Asserting(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            assert not self.training or unmet(inputs)
            return super().forward(inputs)

    problem = dataclasses.replace(
        random_problem(student=Asserting(6, 4)), train=lambda index, seed: random_batch(index, 20)
    ).to(dtype=torch.float32)
    assert differentiate("rmd", problem).d_theta


def test_autocast_is_said_to_lose_the_gradient_around_the_call_and_inside_the_student() -> None:
    class Automatic(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(inputs).float()

    inside = differentiate("rmd", random_problem(student=Automatic(6, 4)).to(dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        around = differentiate("rmd", random_problem().to(dtype=torch.float32))
    for found in (inside, around):
        assert any("the student computes in torch.bfloat16" in warning for warning in found.warnings)
    assert not differentiate("rmd", random_problem().to(dtype=torch.float32)).warnings


def test_a_student_that_takes_no_float64_is_differentiated_without_that_look() -> None:
    class Strict(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            if inputs.dtype is not torch.float32:
                raise TypeError("float32 alone")
            return super().forward(inputs)

    problem = random_problem(student=Strict(6, 4)).to(dtype=torch.float32)
    assert differentiate("rmd", problem).d_theta


# -- dev ---------------------------------------------------------------------------------------------------------------


class Centred(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            inputs.sub_(0.5)
        return super().forward(inputs)


@pytest.mark.parametrize("backend", ALL)
def test_a_student_that_writes_into_the_dev_inputs_is_an_error(backend: str) -> None:
    with pytest.raises(UserError, match=r"writes into its dev batch: .*inputs\.clone\(\)"):
        differentiate(backend, random_problem(student=Centred(6, 4)))


@pytest.mark.parametrize("backend", ["rmd", "higher", "functorch", "evolution[population=4]"])
def test_a_dev_pass_that_draws_random_numbers_is_an_error(backend: str) -> None:
    class AlwaysDropping(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(nn.functional.dropout(inputs, 0.5))

    with pytest.raises(UserError, match=r"the dev objective is .*, and .* when it is taken again: .* random numbers"):
        differentiate(backend, random_problem(student=AlwaysDropping(6, 4)))


# -- parts that no method can take -------------------------------------------------------------------------------------


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(7), nn.Tanh(), nn.Linear(7, 4))


def scripted() -> nn.Module:
    module: nn.Module = torch.jit.script(layered(nn.Tanh()))
    return module


def compiled() -> nn.Module:
    return torch.compile(layered(nn.Tanh()), backend="eager")  # type: ignore[return-value]


def normed_of_old() -> nn.Module:
    return nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 4)))


def of_inference() -> nn.Module:
    with torch.inference_mode():
        return nn.Linear(6, 4)


class Bound(nn.Linear):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__(6, 4)
        self.seen = self.weight * 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (lazy, r"the student's 0 \(LazyLinear\) does not know its shapes yet"),
        (scripted, r"the student \(RecursiveScriptModule\) is a script"),
        (compiled, r"the student \(OptimizedModule\) is a compiled module: hand in the one inside"),
        (normed_of_old, r"the student's 0 \(Linear\) keeps what weight_norm"),
        (of_inference, r"the student was made in torch\.inference_mode"),
        (Bound, r"the student cannot be copied, and is never changed itself: RuntimeError"),
    ],
)
def test_a_module_that_cannot_be_taken_is_an_error_that_says_what_to_hand_in(
    make: Callable[[], nn.Module], answer: str
) -> None:
    with pytest.raises(UserError, match=answer):
        dataclasses.replace(random_problem(), student=make())


def test_a_hook_on_a_gradient_is_an_error() -> None:
    student = nn.Linear(6, 4)
    student.weight.register_hook(lambda gradient: gradient * 0)
    with pytest.raises(UserError, match="the student's weight has a hook on its gradient"):
        random_problem(student=student)


def test_a_layer_in_eval_mode_is_kept_by_the_students_own_train_or_is_an_error() -> None:
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> "Frozen":
            super().train(mode)
            self[1].eval()
            return self

    layers = nn.Linear(6, 7), nn.BatchNorm1d(7), nn.Linear(7, 4)
    kept = random_problem(student=Frozen(*layers).train())
    assert not kept.student[1].training  # type: ignore[index]
    apart = nn.Sequential(*layers).train()
    apart[1].eval()
    with pytest.raises(UserError, match="the student's 1 is in eval mode while the student is in train mode"):
        random_problem(student=apart)
    assert random_problem(student=apart.eval()).student.training


def test_buffers_made_of_parameters_are_not_lost_when_those_are_drawn_anew() -> None:
    student = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 4)))
    state = with_given_parameters(random_problem(student=student)).init_student(0)
    assert state.buffers and all(bool(torch.isfinite(buffer).all()) for buffer in state.buffers.values())


@pytest.mark.parametrize("seed", [1.5, None, "1", True])
def test_a_seed_that_is_no_integer_is_an_error(seed: Any) -> None:
    problem = random_problem()
    with pytest.raises(UserError, match="seed must be an integer"):
        l2t.load_backend("rmd").teacher_gradient(problem, general_theta(problem), horizon=3, seed=seed)


def test_arrays_of_numpy_are_an_error_that_says_how_to_make_tensors_of_them() -> None:
    problem = dataclasses.replace(
        random_problem(), train=lambda index, seed: tuple(part.numpy() for part in random_batch(index))
    )
    with pytest.raises(UserError, match=r"gives a ndarray .* torch\.from_numpy"):
        differentiate("rmd", problem)


def test_a_teacher_of_another_precision_than_the_student_is_an_error_that_says_so() -> None:
    problem = dataclasses.replace(random_problem(), teacher=nn.Linear(1, 4))
    with pytest.raises(UserError, match=r"its parameters are torch\.float32, s_t has the student's dtype"):
        differentiate("rmd", problem)


def test_a_run_that_was_recorded_in_another_precision_is_an_error() -> None:
    double = random_problem()
    single = double.to(dtype=torch.float32)
    steps = record(double, general_theta(double), horizon=3)
    with pytest.raises(UserError, match=r"recorded in torch\.float64 on cpu, and the problem is in torch\.float32"):
        l2t.load_backend("rmd").teacher_gradient(single, general_theta(single), steps=steps)


def test_inference_mode_is_an_error() -> None:
    problem = random_problem()
    theta = general_theta(problem)
    with torch.inference_mode(), pytest.raises(UserError, match=r"cannot be taken in torch\.inference_mode"):
        l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=3)


# -- what is kept from one student to the next -------------------------------------------------------------------------


class Averaged(nn.Linear):
    """Running statistics held as a plain attribute: evaluation subtracts what all students before have seen."""

    def __init__(self) -> None:
        super().__init__(6, 4)
        self.mean = torch.zeros(4, dtype=torch.float64)

    def forward(self, inputs: Tensor) -> Tensor:
        out = super().forward(inputs)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * out.detach().mean(0)
            return out
        return out - self.mean


@pytest.mark.parametrize("backend", ALL)
def test_running_statistics_that_are_no_buffer_are_an_error(backend: str) -> None:
    with pytest.raises(UserError, match="moves mean, which is neither a parameter nor a buffer, at step 0: "):
        differentiate(backend, random_problem(student=Averaged()))


def test_and_a_tensor_that_a_student_only_remembers_is_none() -> None:
    class Remembering(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            self.last = super().forward(inputs)
            return self.last

    assert differentiate("rmd", random_problem(student=Remembering(6, 4))).d_theta


class Counting(nn.Linear):
    """Switches between two of the steps that are looked at."""

    def __init__(self) -> None:
        super().__init__(6, 4)
        self.passes = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.passes += 1
        return super().forward(inputs) * (2.0 if self.passes > 200 else 1.0)


@pytest.mark.parametrize("backend", ALL)
def test_a_student_that_counts_its_forward_passes_is_warned_of(backend: str) -> None:
    found = differentiate(backend, random_problem(student=Counting()))
    assert [line for line in found.warnings if line.startswith("the student's forward pass moves passes, a number")]


@pytest.mark.parametrize("backend", ["rmd", "functorch", "evolution[population=4]"])
def test_dev_batches_that_do_not_follow_the_seed_are_an_error(backend: str) -> None:
    def drawn(view: Any, seed: int) -> tuple[Tensor, Tensor]:
        del view, seed
        return random_batch(int(torch.randint(1000, ())))

    with pytest.raises(UserError, match=r"prepare_dev\(view, seed\) gives other batches when it is called again"):
        differentiate(backend, dataclasses.replace(random_problem(), prepare_dev=drawn))


class NoiseGoingBack(torch.autograd.Function):
    """What is given; its derivative comes with noise that does not follow torch's seed."""

    @staticmethod
    def forward(ctx: Any, given: Tensor) -> Tensor:
        del ctx
        return given.clone()

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> Tensor:  # type: ignore[override]
        del ctx
        return given * torch.from_numpy(1 + 0.1 * np.random.default_rng().normal(size=given.shape))


class NoisyElsewhere(nn.Linear):
    """Its gradient alone is noisy, and only on other batches than ``quiet``."""

    def __init__(self, quiet: Tensor) -> None:
        super().__init__(6, 4)
        self.register_buffer("quiet", quiet)

    def forward(self, inputs: Tensor) -> Tensor:
        out = super().forward(inputs)
        if torch.equal(inputs, torch.as_tensor(self.quiet).to(inputs)):
            return out
        noisy: Tensor = NoiseGoingBack.apply(out)  # type: ignore[no-untyped-call]
        return noisy


@pytest.mark.parametrize(
    "backend",
    [
        *("rmd", "rmd[store=sqrt]", "rmd[store=graph]", "rmd[store=host]", "rmd[store=reversible]"),
        *("truncated[window=3]", "truncated[window=3,store=graph]"),
    ],
)
def test_noise_in_the_gradient_alone_that_begins_later_is_an_error(backend: str) -> None:
    plain = random_problem()
    first = record(plain, general_theta(plain), horizon=1)[0]
    noisy = random_problem(student=NoisyElsewhere(first.batch[0]))
    with pytest.raises(UserError, match=r"step [1-9]\d* cannot be replayed|cannot be undone"):
        differentiate(backend, noisy, horizon=12)


def test_noise_in_the_gradient_is_not_taken_for_a_wrong_rule_where_differences_of_noise_happen_to_agree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Differences of noise are in doubt, but that they are so is a matter of chance."""

    def wrong_later(maker: Maker, problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> Look | None:
        return Look(100.0, torch.float64) if step.index else None

    monkeypatch.setattr("l2t_bench.backend.second_look", wrong_later)
    plain = random_problem()
    with pytest.raises(Refused, match="a layer's rule is wrong"):
        differentiate("rmd", plain, horizon=4)
    first = record(plain, general_theta(plain), horizon=1)[0]
    with pytest.raises(UserError, match=r"step [12] cannot be replayed: its gradient is off by"):
        differentiate("rmd", random_problem(student=NoisyElsewhere(first.batch[0])), horizon=4)


def at_a_minimum(middle: nn.Module, dtype: torch.dtype) -> TeachingProblem:
    """A student whose examples pull it to and fro: what is left of its gradient is rounding, step after step."""
    student = nn.Sequential(nn.Linear(6, 8), middle, nn.Linear(8, 4)).double()
    inputs = random_batch(5, 32)[0]
    pull = random_batch(6, 32)[0][:, :4]
    problem = random_problem(student=student)
    start = problem.init_student(0)
    with torch.no_grad():
        output = torch.func.functional_call(student, {**start.params, **start.buffers}, inputs)
    batch = torch.cat([inputs, inputs]), torch.cat([output + pull, output - pull])

    def loss(output: Tensor, target: Tensor, phi: Tensor) -> Tensor:
        return (output - target).square().mean() * (2 + phi.mean().tanh())

    return dataclasses.replace(problem, loss=loss, train=lambda index, seed: batch).to(dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "backend", ["rmd", "rmd[hvp=for]", "rmd[store=graph]", "rmd[store=sqrt]", "rmd[microbatches=2]"]
)
@pytest.mark.parametrize("middle", [nn.SiLU, nn.Mish, lambda: nn.GroupNorm(2, 8)], ids=["SiLU", "Mish", "GroupNorm"])
def test_a_student_at_a_minimum_is_taken_whatever_formulas_torch_has_for_its_graph(
    middle: Callable[[], nn.Module], backend: str, dtype: torch.dtype
) -> None:
    assert differentiate(backend, at_a_minimum(middle(), dtype)).d_theta


class InAutocast(nn.Sequential):
    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return torch.as_tensor(super().forward(inputs)).to(inputs)


@pytest.mark.parametrize(
    ("middle", "backend"),
    [
        *(
            (middle, backend)
            for middle in (nn.SiLU, nn.Mish)
            for backend in ("rmd", "rmd[hvp=for]", "rmd[store=graph]")
        ),
        *((lambda: nn.GroupNorm(2, 8), backend) for backend in ("rmd", "rmd[microbatches=2]")),
    ],
)
def test_a_student_in_bfloat16_is_warned_of_and_not_said_to_draw_numbers(
    middle: Callable[[], nn.Module], backend: str
) -> None:
    student = InAutocast(nn.Linear(6, 8), middle(), nn.Linear(8, 4))
    found = differentiate(backend, random_problem(student=student).to(dtype=torch.float32))
    assert any(line.startswith("the student computes in torch.bfloat16") for line in found.warnings)
