"""An outside mark: the MLP's and LeNet's teacher gradient as a jitted ``jax.lax.scan``, in turn with ours.

``python tests/benchmarks/jax_scan.py [mlp|lenet] [T] [ROUNDS]`` with the extra ``peers`` installed and MNIST in the
data root. The scan differentiates the very same run: omega_0, batches, s_t and the dev set are handed over as arrays,
and its d_theta is compared with ours before anything is timed. ``unrolled`` keeps every activation; ``rematerialised``
replays each step on the way back (``jax.checkpoint``).
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

import l2t_bench as l2t

PROBLEMS = {
    "mlp": "mnist/mlp[batch=20,dev=1000,features=none]",
    "lenet": "mnist/lenet[batch=20,dev=1000,features=none]",
}
Arrays = dict[str, Any]


def mlp(params: Arrays, images: Any) -> Any:
    """Logits (B, 10) of images (B, 1, 28, 28)."""
    return linear(params, "output", jax.nn.relu(linear(params, "hidden", images.reshape(images.shape[0], -1))))


def lenet(params: Arrays, images: Any) -> Any:
    """The same, two convolutions 5x5 with max-pooling and two layers."""
    held = images
    for layer in ("first", "second"):
        held = jax.lax.conv_general_dilated(held, params[f"{layer}.weight"], (1, 1), "VALID")
        held = jax.nn.relu(held + params[f"{layer}.bias"][None, :, None, None])
        held = jax.lax.reduce_window(held, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    return mlp(params, held)


def linear(params: Arrays, layer: str, inputs: Any) -> Any:
    return inputs @ params[f"{layer}.weight"].T + params[f"{layer}.bias"]


def gradient_by_scan(
    student: Callable[[Arrays, Any], Any], lr: float, momentum: float, *, remat: bool
) -> Callable[..., Any]:
    """(theta, omega_0, steps, dev) -> d_theta of the mean dev probability of the right class, jitted."""

    def loss(params: Arrays, phi: Any, images: Any, labels: Any) -> Any:
        log_p = jax.nn.log_softmax(student(params, images))
        return -jax.nn.sigmoid((phi[labels] * log_p).sum(-1)).mean()

    def objective(theta: Arrays, params: Arrays, steps: Any, dev: Any) -> Any:
        def step(carry: tuple[Arrays, Arrays], at: Any) -> tuple[tuple[Arrays, Arrays], None]:
            omega, buffer = carry
            images, labels, features = at
            phi = theta["W"] @ jax.nn.softmax(theta["V"] @ features)
            gradient = jax.grad(loss)(omega, phi, images, labels)
            buffer = jax.tree.map(lambda b, g: momentum * b + g, buffer, gradient)
            return (jax.tree.map(lambda w, b: w - lr * b, omega, buffer), buffer), None

        start = params, jax.tree.map(jnp.zeros_like, params)
        (final, _), _ = jax.lax.scan(jax.checkpoint(step) if remat else step, start, steps)
        images, labels = dev
        return jnp.take_along_axis(jax.nn.softmax(student(final, images)), labels[:, None], 1).mean()

    return jax.jit(jax.grad(objective))


def main(kind: str = "mlp", horizon: int = 200, rounds: int = 9) -> None:
    problem = l2t.build_problem(PROBLEMS[kind])
    theta, ours = problem.init_teacher(0), l2t.load_backend("rmd[engine=compiled]")
    result = ours.teacher_gradient(problem, theta, horizon=horizon)
    batches = [tuple(step.batch) for step in result.steps]
    steps = tuple(
        jnp.asarray(torch.stack(parts).numpy())
        for parts in (*zip(*batches, strict=True), [step.features for step in result.steps])
    )
    dev = tuple(jnp.asarray(torch.cat(parts).numpy()) for parts in zip(*problem.dev_batches, strict=True))
    start = {name: jnp.asarray(param.numpy()) for name, param in problem.init_student(0).params.items()}
    as_jax = {name: jnp.asarray(tensor.numpy()) for name, tensor in theta.items()}
    student = {"mlp": mlp, "lenet": lenet}[kind]
    lr, momentum = float(problem.optimizer.lr), float(problem.optimizer.momentum)  # type: ignore[attr-defined]
    scans = {
        name: gradient_by_scan(student, lr, momentum, remat=remat)
        for name, remat in (("unrolled", False), ("rematerialised", True))
    }
    for name, scan in scans.items():
        found = np.asarray(scan(as_jax, start, steps, dev)["W"])
        true = result.d_theta["W"].numpy()
        print(f"{name}: |d_W - ours| / |ours| = {np.linalg.norm(found - true) / np.linalg.norm(true):.1e}")
    seconds: dict[str, list[float]] = {"rmd[engine=compiled]": [], **{name: [] for name in scans}}
    for _ in range(rounds):
        begun = time.perf_counter()
        ours.teacher_gradient(problem, theta, horizon=horizon)
        seconds["rmd[engine=compiled]"].append(time.perf_counter() - begun)
        for name, scan in scans.items():
            begun = time.perf_counter()
            jax.block_until_ready(scan(as_jax, start, steps, dev))
            seconds[name].append(time.perf_counter() - begun)
    for name, taken in seconds.items():
        print(f"{name:24s} {statistics.median(taken) / horizon * 1e3:8.3f} ms per step, median of {rounds}")
    for name in scans:
        ratios = [a / b for a, b in zip(seconds["rmd[engine=compiled]"], seconds[name], strict=True)]
        print(f"rmd[engine=compiled] / {name}: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *(int(number) for number in sys.argv[2:]))
