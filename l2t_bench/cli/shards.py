"""``l2t-bench train`` as one of several processes that a launcher, such as torchrun, has started."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from l2t_bench.training import Shard


def shard_asked_for(by: Literal["batch", "students"] | None, timeout: str) -> "Shard | None":
    """What the ranks share out.

    Raises ``UserError`` for several processes that nothing was said to: each would train, and write, the same.
    """
    from l2t_bench.distributed.ranks import launched
    from l2t_bench.errors import UserError
    from l2t_bench.training import Shard

    launch = launched()
    if by is None and launch is not None and launch.count > 1:
        raise UserError(
            f"{launch.count} processes were started, and each would train and write the same: say what they share out, "
            "--shard batch or --shard students"
        )
    return None if by is None else Shard(by, timeout)


def own_device(device: str) -> str:
    """``cuda`` as this process of several has it: a GPU of its own."""
    from l2t_bench.distributed.ranks import launched

    launch = launched()
    return f"cuda:{launch.local}" if device == "cuda" and launch is not None else device


def is_first() -> bool:
    """Whether it is the process that reports and writes."""
    from l2t_bench.distributed.ranks import launched

    launch = launched()
    return launch is None or launch.rank == 0
