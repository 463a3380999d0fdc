"""Small problems made for proofs: random data, smooth students, every option of the optimiser."""

import torch
from torch import Tensor, nn

from l2t_bench.losses.dynamic import bilinear_sigmoid
from l2t_bench.modules import mix_seeds
from l2t_bench.objectives import ExpectedAccuracy
from l2t_bench.optimizers import SGD, Optimizer
from l2t_bench.problem import TeachingProblem
from l2t_bench.teachers import AttentionTeacher
from l2t_bench.tensors import TensorDict

_INPUTS, _CLASSES, _BATCH = 6, 4, 8


def random_batch(seed: int, size: int = _BATCH) -> tuple[Tensor, Tensor]:
    """Gaussian inputs (size, 6) in float64 and labels (size,) of 4 classes, a pure function of the seed."""
    generator = torch.Generator().manual_seed(mix_seeds(seed, 17))
    inputs = torch.randn(size, _INPUTS, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(_CLASSES, (size,), generator=generator)


def random_problem(
    student: nn.Module | None = None, optimizer: Optimizer | None = None, keys: int = 3
) -> TeachingProblem:
    """A smooth student on random data under an attention teacher with keys that differ, in float64 on the CPU."""
    student = student or nn.Sequential(nn.Linear(_INPUTS, 7), nn.Tanh(), nn.Linear(7, _CLASSES))
    return TeachingProblem(
        student=student.double(),
        teacher=AttentionTeacher(_CLASSES, features=1, keys=keys, noise=0.3).double(),
        loss=bilinear_sigmoid,
        objective=ExpectedAccuracy(),
        optimizer=optimizer or SGD(lr=0.3, momentum=0.9),
        train=lambda index, seed: random_batch(mix_seeds(seed, index)),
        dev=[random_batch(1001, 20), random_batch(1002, 11)],
        name="random",
    )


class QuadraticStudent(nn.Module):
    """Two parameter tensors u (2,) and v (3,); the output is both, whatever the input."""

    def __init__(self) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.v = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.u)
        nn.init.zeros_(self.v)

    def forward(self, inputs: Tensor) -> Tensor:
        del inputs
        return torch.cat([self.u, self.v])


class Quadratic:
    """min_w 0.5 w'Aw - w'B theta, max_theta c'w*: w* = A^-1 B theta, so dM/dtheta = B'A^-1 c in closed form.

    A couples the two parameter tensors: a solver that drops the blocks between tensors fails on it.
    """

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        root = torch.randn(5, 5, generator=generator, dtype=torch.float64)
        self.A = root @ root.T / 5 + torch.eye(5, dtype=torch.float64)
        self.B = torch.randn(5, 4, generator=generator, dtype=torch.float64)
        self.c = torch.randn(5, generator=generator, dtype=torch.float64)

    def problem(self) -> TeachingProblem:
        """The student is taught by plain SGD until it is stationary."""
        batch = torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        return TeachingProblem(
            student=QuadraticStudent(),
            teacher=nn.Linear(1, 4, bias=False).double(),
            loss=lambda w, target, phi: 0.5 * w @ (self.A @ w) - w @ (self.B @ phi),
            objective=lambda w, target: self.c @ w,
            optimizer=SGD(lr=0.25),
            train=lambda index, seed: batch,
            dev=batch,
            features=lambda view: torch.ones(1, dtype=torch.float64),
            name="quadratic",
        )

    def d_theta(self) -> Tensor:
        """dM/dtheta of the stationary student, shape (4, 1) as the teacher's weight."""
        column: Tensor = (self.B.T @ torch.linalg.solve(self.A, self.c))[:, None]
        return column


def general_theta(problem: TeachingProblem, seed: int = 0) -> TensorDict:
    """``init_teacher`` plus a tenth of a standard normal."""
    generator = torch.Generator().manual_seed(mix_seeds(seed, 41))
    return {
        name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor)
        for name, tensor in problem.init_teacher(seed).items()
    }
