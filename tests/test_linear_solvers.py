"""The solvers of A u = b that only see products with A, against dense linear algebra."""

import math

import pytest
import torch
from torch import Tensor

from l2t_bench.linear_solvers import conjugate_gradients, conjugate_residuals, neumann, nystrom, ritz_values

SIZE = 12


def symmetric(eigenvalues: Tensor, seed: int = 0) -> Tensor:
    rotation = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=generator(seed)).double()).Q
    return rotation @ torch.diag(eigenvalues.double()) @ rotation.T


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def right_side() -> Tensor:
    return torch.randn(SIZE, generator=generator(9)).double()


DEFINITE = symmetric(torch.linspace(0.5, 4, SIZE))
INDEFINITE = symmetric(torch.cat([torch.linspace(-3, -0.5, 4), torch.linspace(0.5, 4, SIZE - 4)]))


def relative(u: Tensor, true: Tensor) -> float:
    return float(torch.linalg.vector_norm(u - true) / torch.linalg.vector_norm(true))


@pytest.mark.parametrize("solver", [conjugate_gradients, conjugate_residuals])
def test_krylov_solvers_solve_a_definite_system_and_find_its_smallest_eigenvalue(solver: type) -> None:
    found = solver(lambda v: DEFINITE @ v, right_side(), 50, 1e-12)
    assert relative(found.u, torch.linalg.solve(DEFINITE, right_side())) < 1e-10
    assert found.smallest_ritz == pytest.approx(0.5, abs=1e-8)
    assert not found.negative_curvature


def test_conjugate_residuals_solve_an_indefinite_system() -> None:
    found = conjugate_residuals(lambda v: INDEFINITE @ v, right_side(), 50, 1e-12)
    assert relative(found.u, torch.linalg.solve(INDEFINITE, right_side())) < 1e-9
    assert found.smallest_ritz == pytest.approx(-3, abs=1e-8)


@pytest.mark.parametrize("steps", [1, 3, 7])
@pytest.mark.parametrize("matrix", [DEFINITE, INDEFINITE], ids=["definite", "indefinite"])
def test_conjugate_residuals_leave_the_least_residual_of_the_krylov_space(matrix: Tensor, steps: int) -> None:
    b = right_side()
    powers = [b]
    for _ in range(steps - 1):
        powers.append(matrix @ powers[-1])
    space = torch.linalg.qr(torch.stack(powers, 1)).Q
    best = space @ torch.linalg.lstsq(matrix @ space, b[:, None]).solution[:, 0]
    found = conjugate_residuals(lambda v: matrix @ v, b, steps, 0.0)
    assert relative(found.u, best) < 1e-8


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_conjugate_gradients_leave_the_least_error_of_the_krylov_space(steps: int) -> None:
    b = right_side()
    powers = [b]
    for _ in range(steps - 1):
        powers.append(DEFINITE @ powers[-1])
    space = torch.linalg.qr(torch.stack(powers, 1)).Q
    best = space @ torch.linalg.solve(space.T @ DEFINITE @ space, space.T @ b)
    found = conjugate_gradients(lambda v: DEFINITE @ v, b, steps, 0.0)
    assert relative(found.u, best) < 1e-9
    ritz = torch.linalg.eigvalsh(space.T @ DEFINITE @ space)
    assert found.smallest_ritz == pytest.approx(float(ritz[0]), rel=1e-8)


@pytest.mark.parametrize("solver", [conjugate_gradients, conjugate_residuals])
def test_negative_curvature_is_said(solver: type) -> None:
    found = solver(lambda v: INDEFINITE @ v, right_side(), 50, 1e-12)
    assert found.negative_curvature and found.smallest_ritz < 0


@pytest.mark.parametrize("solver", [conjugate_gradients, conjugate_residuals])
def test_a_right_side_of_zero_is_solved_by_zero_without_a_product(solver: type) -> None:
    def never(v: Tensor) -> Tensor:
        raise AssertionError("no product is needed")

    found = solver(never, torch.zeros(3), 5, 1e-6)
    assert torch.equal(found.u, torch.zeros(3)) and math.isnan(found.smallest_ritz)


@pytest.mark.parametrize("solver", [conjugate_gradients, conjugate_residuals])
def test_a_matrix_of_zeros_is_no_reason_to_divide_by_zero(solver: type) -> None:
    found = solver(torch.zeros_like, torch.ones(3).double(), 5, 1e-6)
    assert bool(torch.isfinite(found.u).all()) and found.negative_curvature


def test_neumann_is_the_partial_sum_of_the_series() -> None:
    b, alpha = right_side(), 0.2
    terms = [torch.linalg.matrix_power(torch.eye(SIZE).double() - alpha * DEFINITE, k) @ b for k in range(6)]
    assert relative(neumann(lambda v: DEFINITE @ v, b, 6, alpha).u, alpha * torch.stack(terms).sum(0)) < 1e-13
    assert relative(neumann(lambda v: DEFINITE @ v, b, 400, alpha).u, torch.linalg.solve(DEFINITE, b)) < 1e-12


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("matrix", [DEFINITE, INDEFINITE], ids=["definite", "indefinite"])
def test_nystrom_of_full_rank_is_exact(matrix: Tensor, damping: float) -> None:
    found = nystrom(lambda v: matrix @ v, right_side(), SIZE, damping, generator())
    true = torch.linalg.solve(matrix + damping * torch.eye(SIZE).double(), right_side())
    assert relative(found.u, true) < 1e-9


def test_nystrom_of_the_rank_of_the_matrix_is_exact_too_and_of_a_lower_one_is_not() -> None:
    matrix = symmetric(torch.cat([torch.linspace(1, 2, 4), torch.zeros(SIZE - 4)]))
    true = torch.linalg.solve(matrix + 0.1 * torch.eye(SIZE).double(), right_side())
    exact, short = (nystrom(lambda v: matrix @ v, right_side(), rank, 0.1, generator()) for rank in (4, 3))
    assert relative(exact.u, true) < 1e-10
    assert relative(short.u, true) > 1e-3


def test_ritz_values_are_the_eigenvalues_after_as_many_steps_as_there_are_and_inside_them_before() -> None:
    start = torch.randn(SIZE, generator=generator(3)).double()
    eigenvalues = torch.linalg.eigvalsh(INDEFINITE)
    assert torch.allclose(ritz_values(lambda v: INDEFINITE @ v, start, 100), eigenvalues, atol=1e-10)
    early = ritz_values(lambda v: INDEFINITE @ v, start, 5)
    assert len(early) == 5 and eigenvalues[0] <= early[0] and early[-1] <= eigenvalues[-1]


def test_ritz_values_of_a_matrix_with_three_eigenvalues_are_those_three_and_no_ghosts() -> None:
    matrix = symmetric(torch.tensor([1.0] * 4 + [2.0] * 4 + [5.0] * 4))
    found = ritz_values(lambda v: matrix @ v, torch.randn(SIZE, generator=generator(3)).double(), 10)
    assert torch.allclose(found, torch.tensor([1.0, 2.0, 5.0]).double(), atol=1e-8)
