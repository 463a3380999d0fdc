"""Cases that several ranks work at together, and what comes of them on each; alone, what one process finds.

``python tests/ranks/ranks_at_work.py GROUP FOLDER``, as torchrun would start it, works at a group of cases, one after
another, and keeps what it found as FOLDER/RANK.pt. ``worked`` starts so many of them.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.distributed.joined import JoinedRanks
from l2t_bench.distributed.problem import sharded
from l2t_bench.distributed.ranks import ALONE, Ranks, launched
from l2t_bench.optimizers import SGD
from l2t_bench.problem import StudentView, TeachingProblem
from l2t_bench.trainer.identity import fingerprint
from l2t_bench.verification.samples import general_theta, random_batch, random_problem

Found = dict[str, Any]
Case = Callable[[Ranks], Found]

HORIZON = 7


def gradient(backend: str = "rmd", problem: Callable[[], TeachingProblem] = random_problem) -> Case:
    """A teacher gradient through batches that the ranks share out; ``omega`` is the student at the end."""

    def case(ranks: Ranks) -> Found:
        made = problem()
        theta, taught = general_theta(made), sharded(made, ranks) if ranks.count > 1 else made
        found = l2t.load_backend(backend).teacher_gradient(taught, theta, horizon=HORIZON)
        return {
            "d_theta": found.d_theta,
            "omega": found.final.params,
            "hyper": dict(found.hyper),
            "value": found.value,
            "features": [step.features for step in found.steps],
        }

    return case


def with_optimizer(optimizer: l2t.optimizers.Optimizer) -> Callable[[], TeachingProblem]:
    return lambda: random_problem(optimizer=optimizer)


def seeing() -> TeachingProblem:
    """The teacher sees the student's loss on its last batch."""

    def features(view: StudentView) -> Tensor:
        inputs, targets = view.train(view.index)
        return nn.functional.cross_entropy(view.predict(inputs), targets)[None]

    return replace(random_problem(), features=features)


def prepared() -> TeachingProblem:
    """The dev batch is made of the student at omega_T: three examples, one for the second rank."""

    def prepare(view: StudentView, seed: int) -> Any:
        inputs, _ = random_batch(1003, 3)
        return inputs, view.predict(inputs).argmax(-1)

    return replace(random_problem(), prepare_dev=prepare)


def one_dev_example() -> TeachingProblem:
    """The second rank has no part of it."""
    return replace(random_problem(), dev=random_batch(1004, 1))


def translation() -> TeachingProblem:
    """Sentences that are padded, a mean over them; the dev batches are the candidates of the student."""
    sizes = "batch=8,dev=10,embedding=6,hidden=6,count=2,dev_sentences=4,train_batches=1,refresh=4,lr=0.5"
    return l2t.build_problem(f"numbers/lstm1[{sizes}]", dtype="float64")


GRADIENTS: Mapping[str, Case] = {
    **{
        backend: gradient(backend)
        for backend in (
            "rmd",
            "rmd[hvp=for]",
            "rmd[store=sqrt]",
            "rmd[store=binomial,snapshots=2]",
            "rmd[store=disk]",
            "rmd[store=reversible]",
            "rmd[engine=auto]",
            "rmd[hyper=true]",
            "truncated[window=3]",
            "truncated[window=2,every=3]",
        )
    },
    "plain SGD": gradient(problem=with_optimizer(SGD(lr=0.3))),
    "Nesterov, decay": gradient(problem=with_optimizer(SGD(lr=0.3, momentum=0.9, nesterov=True, weight_decay=0.01))),
    "clipped": gradient(problem=with_optimizer(SGD(lr=0.3, momentum=0.5, clip=0.05))),
    "Adam": gradient(problem=with_optimizer(l2t.Adam(lr=0.05))),
    "features of the student": gradient(problem=seeing),
    "a dev batch of the student": gradient(problem=prepared),
    "one dev example": gradient(problem=one_dev_example),
}


def training(by: str, backend: str = "rmd", problem: Callable[[], TeachingProblem] = random_problem) -> Case:
    """A short training; what one process finds where the ranks are alone."""

    def case(ranks: Ranks) -> Found:
        trained = trainer(None if ranks is ALONE else by, backend, problem()).train()
        curve = [replace(record, seconds=0.0) for record in trained.curve]
        return {"theta": trained.theta, "last": trained.last_theta, "curve": curve, "selection": trained.selection}

    return case


def trainer(
    by: Any, backend: str = "rmd", problem: TeachingProblem | None = None, **options: Any
) -> l2t.TeacherTrainer:
    settings: dict[str, Any] = {
        "outer_steps": 3,
        "horizon": 5,
        "students": 4,
        "selection": l2t.Selection(every=2, students=3, measure="objective"),
        "optimizer": l2t.TeacherOptimizer(lr=0.05, clip=0.02),
        **options,
    }
    return l2t.TeacherTrainer(problem or random_problem(), None, backend, shard=by, **settings)


class StopAfter(l2t.Callback):
    """Asks the first rank alone to stop, after an outer step."""

    trainer: l2t.TeacherTrainer

    def on_outer_step(self, record: l2t.training.OuterStep, progress: l2t.training.Progress) -> None:
        if record.outer_step == 1:
            self.trainer.stop()


def resumed(by: str) -> Case:
    """A training that is stopped, and goes on from its checkpoint."""

    def case(ranks: Ranks) -> Found:
        folder = ranks.gathered(tempfile.mkdtemp(), "a folder")[0]
        settings: dict[str, Any] = {"checkpoints": l2t.Checkpoints(Path(folder), every=100)}
        stop = StopAfter()
        stop.trainer = trainer(by, callbacks=[stop], **settings)
        try:
            stop.trainer.train()
        except KeyboardInterrupt:
            files = sorted(file.name for file in Path(folder).glob("checkpoint-*"))
            trained = trainer(by, **settings).train(resume=True)
            return {"theta": trained.theta, "files": files, "selection": trained.selection}
        return {}

    return case


def diverging() -> TeachingProblem:
    """Every third student diverges."""
    plain = random_problem()

    def train(index: int, seed: int) -> Any:
        inputs, targets = plain.train(index, seed)
        return (inputs * torch.inf if seed % 3 == 1 and index == 2 else inputs), targets

    return replace(plain, train=train)


TRAININGS: Mapping[str, Case] = {
    "students": training("students"),
    "students, higher": training("students", "higher"),
    "students, some diverge": training("students", problem=diverging),
    "batch": training("batch"),
    "batch, some diverge": training("batch", problem=diverging),
    "batch, features of the student": training("batch", problem=seeing),
}


def failing(work: Callable[[Ranks], object]) -> Case:
    """What a case that must fail raises."""

    def case(ranks: Ranks) -> Found:
        try:
            work(ranks)
        except Exception as error:
            return {"error": type(error).__name__, "said": str(error)}
        return {"error": "", "said": ""}

    return case


def odd_rank(ranks: Ranks, **changed: Any) -> TeachingProblem:
    """Of the second rank a problem with other parts."""
    plain = random_problem()
    return replace(plain, **changed) if ranks.rank == 1 else plain


def of_other_code(ranks: Ranks) -> None:
    code = "0123456789ab" if ranks.rank == 1 else fingerprint(())
    with mock.patch("l2t_bench.trainer.identity.fingerprint", return_value=code):
        trainer("batch").train()


def of_other_data(ranks: Ranks) -> None:
    trainer("batch", problem=odd_rank(ranks, train=lambda index, seed: random_batch(index + 1))).train()


def of_another_loss(ranks: Ranks) -> None:
    """Of the same name, with another number inside."""
    plain, factor = random_problem(), 1 + ranks.rank
    problem = replace(plain, loss=lambda *given: factor * plain.loss(*given))
    trainer("students", problem=problem).train()


def of_another_seed(ranks: Ranks) -> None:
    trainer("students", seed=ranks.rank).train()


def failing_on_one(ranks: Ranks) -> None:
    """The second rank's students cannot be taught."""
    plain = random_problem()

    def train(index: int, seed: int) -> Any:
        if seed == 3 and index == 2:
            raise RuntimeError("the disk of this rank is gone")
        return plain.train(index, seed)

    trainer("students", problem=replace(plain, train=train), selection=None).train()


RESUMED: Mapping[str, Case] = {f"{by}, resumed": resumed(by) for by in ("batch", "students")}

MISTAKES: Mapping[str, Case] = {
    "other code": failing(of_other_code),
    "other data": failing(of_other_data),
    "another loss": failing(of_another_loss),
    "another seed": failing(of_another_seed),
    "students that do not divide": failing(lambda ranks: trainer("students", students=3).train()),
    "a batch that does not divide": failing(
        lambda ranks: trainer("batch", problem=replace(random_problem(), train=lambda i, s: random_batch(i, 9))).train()
    ),
    "one rank fails": failing(failing_on_one),
    "another library's backend": failing(lambda ranks: trainer("batch", "higher").train()),
}

GROUPS: Mapping[str, Mapping[str, Case]] = {
    "gradients": GRADIENTS,
    "trainings": TRAININGS,
    "mistakes": MISTAKES,
    "all": {**GRADIENTS, **TRAININGS, **RESUMED, **MISTAKES},
    "translation": {"translation": gradient(problem=translation)},
    "four": {"rmd": GRADIENTS["rmd"], "clipped": GRADIENTS["clipped"], "batch": TRAININGS["batch"]},
}


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun puts there."""
    own = {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
    return {**os.environ, **own, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


def worked(group: str, count: int, folder: Path, timeout: float = 240.0) -> list[dict[str, Found]]:
    """What ``count`` ranks find of a group of cases, by rank."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).resolve()), group, str(folder)]
    ranks = [subprocess.Popen(command, env=environment(rank, count, port)) for rank in range(count)]
    until = time.monotonic() + timeout
    try:
        codes = [rank.wait(max(0.1, until - time.monotonic())) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert codes == [0] * count
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def main(group: str, folder: str) -> None:
    launch = launched()
    assert launch is not None, "started as torchrun would"
    torch.set_num_threads(1)
    ranks = JoinedRanks(launch.rank, launch.count, timeout=60.0)
    with ranks.joined(torch.device("cpu")):
        found = {name: case(ranks) for name, case in GROUPS[group].items()}
    torch.save(found, Path(folder) / f"{launch.rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
