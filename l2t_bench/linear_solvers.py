"""Solvers of A u = b for a symmetric matrix A that is only there as a product with a vector.

Pure functions of vectors, shape (n,). Each says what it learned of A's spectrum on its way: Ritz values lie inside the
spectrum, so that one which is not positive proves that A is not positive definite, and a positive one proves nothing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]
"""v -> A v, both of shape (n,)."""


@dataclass(frozen=True)
class Solution:
    """u, and the smallest Ritz value that was seen on the way (``nan`` where none was)."""

    u: Tensor
    smallest_ritz: float
    negative_curvature: bool = False  # a direction p with p'Ap <= 0 was met


def conjugate_gradients(operator: Operator, b: Tensor, iterations: int, tolerance: float) -> Solution:
    """Hestenes and Stiefel 1952; right for a positive definite A, and the fastest there.

    Goes on through a direction of negative curvature, which the solution says, and stops at one of none. The steps give
    the coefficients of Lanczos' tridiagonal matrix (Saad 2003, section 6.7.3), whose eigenvalues are the Ritz values.
    """
    u, residual = torch.zeros_like(b), b.clone()
    direction, square = residual.clone(), float(residual @ residual)
    goal, negative = square * tolerance**2, False
    steps: list[float] = []
    ratios: list[float] = []
    while len(steps) < iterations and square > goal:
        image = operator(direction)
        curvature = float(direction @ image)
        negative = negative or curvature <= 0
        if curvature == 0 or not math.isfinite(curvature):
            break
        steps.append(square / curvature)
        u = u + steps[-1] * direction
        residual = residual - steps[-1] * image
        before, square = square, float(residual @ residual)
        ratios.append(square / before)
        direction = residual + ratios[-1] * direction
    return Solution(u, smallest_ritz_of(steps, ratios), negative)


def smallest_ritz_of(steps: Sequence[float], ratios: Sequence[float]) -> float:
    """The least eigenvalue of Lanczos' matrix, made of what conjugate gradients computed; ``nan`` for no step.

    ``steps``: the length of each step along its direction; ``ratios``: |residual|^2 after each step over that before.
    """
    diagonal = [1 / step + (ratios[k - 1] / steps[k - 1] if k else 0.0) for k, step in enumerate(steps)]
    beside = [math.sqrt(ratio) / abs(step) for ratio, step in zip(ratios[:-1], steps, strict=False)]
    return _smallest(diagonal, beside)


def conjugate_residuals(operator: Operator, b: Tensor, iterations: int, tolerance: float) -> Solution:
    """The u of least |A u - b| in the Krylov space, for any symmetric A, definite or not.

    Stiefel's conjugate residuals in the form that does not break down where A is indefinite: MINRES (Paige and Saunders
    1975), Lanczos' three-term recurrence and a QR factorisation of its matrix by rotations.
    """
    length = float(torch.linalg.vector_norm(b))
    u = torch.zeros_like(b)
    diagonal: list[float] = []
    beside: list[float] = []
    if length == 0:
        return Solution(u, math.nan)
    previous, basis = torch.zeros_like(b), b / length
    older, newer = torch.zeros_like(b), torch.zeros_like(b)  # the last two search directions
    cosine, sine, old_cosine, old_sine = 1.0, 0.0, 1.0, 0.0
    left, beta = length, 0.0  # |residual| with its sign
    while len(diagonal) < iterations and abs(left) > tolerance * length:
        image = operator(basis) - beta * previous
        alpha = float(basis @ image)
        image = image - alpha * basis
        next_beta = float(torch.linalg.vector_norm(image))
        if not math.isfinite(next_beta):
            break
        epsilon, across = old_sine * beta, old_cosine * beta
        delta, gamma = cosine * across + sine * alpha, cosine * alpha - sine * across
        rho = math.hypot(gamma, next_beta)
        diagonal.append(alpha)
        beside.append(next_beta)
        if rho == 0:  # A is singular along what is left
            break
        old_cosine, old_sine, cosine, sine = cosine, sine, gamma / rho, next_beta / rho
        older, newer = newer, (basis - epsilon * older - delta * newer) / rho
        u = u + cosine * left * newer
        left = -sine * left
        if next_beta == 0:
            break
        previous, basis, beta = basis, image / next_beta, next_beta
    smallest = _smallest(diagonal, beside[:-1])
    return Solution(u, smallest, smallest <= 0)


def neumann(operator: Operator, b: Tensor, iterations: int, alpha: float) -> Solution:
    """alpha * sum over k < ``iterations`` of (I - alpha A)^k b (Lorraine, Vicol and Duvenaud 2020, Algorithm 3).

    Converges where all eigenvalues of A are in (0, 2/alpha). Sees no spectrum.
    """
    term, total = b, b.clone()
    for _ in range(iterations - 1):
        term = term - alpha * operator(term)
        total = total + term
    return Solution(alpha * total, math.nan)


def nystrom(operator: Operator, b: Tensor, rank: int, damping: float, generator: torch.Generator) -> Solution:
    """(N + damping)^-1 b with N the Nystrom approximation of ``operator`` (here: without the damping) of this rank.

    Hataya and Yamada 2023, with an orthonormal Gaussian sketch S in the place of drawn columns, which leave out every
    parameter that is not drawn: N = Y (S'Y)^+ Y' with Y = A S. Exact at full rank. Without damping what the sketch does
    not reach is left out.
    """
    drawn = torch.randn(len(b), min(rank, len(b)), generator=generator, dtype=torch.float64).to(b)
    sketch = torch.linalg.qr(drawn).Q
    image = torch.stack([operator(column) for column in sketch.T], dim=1)
    core = sketch.T @ image
    basis, triangle = torch.linalg.qr(image)
    inner = triangle @ torch.linalg.pinv((core + core.T) / 2, hermitian=True) @ triangle.T
    values, rotation = torch.linalg.eigh((inner + inner.T) / 2)
    kept = values.abs() > values.abs().max() * len(b) * torch.finfo(b.dtype).eps
    vectors = (basis @ rotation)[:, kept]
    within = vectors.T @ b
    u = vectors @ (within / (values[kept] + damping))
    if damping:
        u = u + (b - vectors @ within) / damping
    return Solution(u, float(torch.linalg.eigvalsh((core + core.T) / 2)[0]))


def ritz_values(operator: Operator, start: Tensor, steps: int) -> Tensor:
    """The Ritz values of Lanczos' method after so many ``steps`` from ``start``, ascending; at least one.

    Every new vector is made orthogonal to all before it, twice: without that the largest value comes back as its own
    ghost (Saad 2011, section 6.6).
    """
    basis = [start / torch.linalg.vector_norm(start)]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(steps, len(start))):
        image = operator(basis[-1])
        diagonal.append(float(basis[-1] @ image))
        held = torch.stack(basis)
        for _ in range(2):
            image = image - held.T @ (held @ image)
        beside.append(float(torch.linalg.vector_norm(image)))
        if not beside[-1] > torch.finfo(start.dtype).eps ** 0.75 * max(map(abs, diagonal)):  # the space is used up
            break
        basis.append(image / beside[-1])
    return _tridiagonal_eigenvalues(diagonal, beside[: len(diagonal) - 1])


def _smallest(diagonal: list[float], beside: list[float]) -> float:
    return float(_tridiagonal_eigenvalues(diagonal, beside)[0]) if diagonal else math.nan


def _tridiagonal_eigenvalues(diagonal: list[float], beside: list[float]) -> Tensor:
    off = torch.diag(torch.tensor(beside, dtype=torch.float64), 1)
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + off + off.T
    if not bool(torch.isfinite(matrix).all()):
        return torch.full((max(1, len(diagonal)),), math.nan, dtype=torch.float64)
    values: Tensor = torch.linalg.eigvalsh(matrix)
    return values
