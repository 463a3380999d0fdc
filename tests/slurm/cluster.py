"""A SLURM of one node on the loopback address, from Debian's packages: its daemons' files in a temporary folder.

No system service, no cgroup, no accounting: it comes up in a bare container.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
_UP_SECONDS = 60.0

_CONFIGURATION = """\
ClusterName=l2t
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
NodeName={node} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4096 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES State=UP
"""


class CannotError(Exception):
    """Why there can be no SLURM here."""


def install() -> None:
    """Debian's packages, where they are not there. Raises ``CannotError``."""
    if not sys.platform.startswith("linux"):
        raise CannotError("SLURM runs on Linux")
    if os.geteuid() != 0:
        raise CannotError("slurmd starts the jobs of users, and so needs to be root")
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    if all(map(shutil.which, _PROGRAMS)):
        return
    if shutil.which("apt-get") is None:
        raise CannotError(f"{' and '.join(PACKAGES)} are not installed, and there is no apt-get")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", *command], env=quiet, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CannotError(f"apt-get {command[0]} fails: {done.stderr.strip()[-500:]}")


@contextmanager
def cluster() -> Iterator[Path]:
    """SLURM's commands mean this cluster inside the block; the folder of its logs. Raises ``CannotError``."""
    install()
    daemons: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="l2t-slurm-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            _configure(folder)
            for command in _daemons(folder):
                with (folder / f"{command[0]}.out").open("wb") as out:
                    daemons.append(subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True))
                time.sleep(0.5)
            _wait_until_idle(folder, daemons)
            yield folder
        finally:
            _end_jobs()
            for daemon in reversed(daemons):
                daemon.terminate()
                with suppress(subprocess.TimeoutExpired):
                    daemon.wait(timeout=20)
                daemon.kill()
                daemon.wait()


def _end_jobs() -> None:
    """What a failed test has left in the queue goes before the daemons that could end it."""
    with suppress(OSError, subprocess.SubprocessError):  # it did not come up, or it hangs
        _told("scancel", "--user=root")
        deadline = time.monotonic() + 20
        while _told("squeue", "-h") and time.monotonic() < deadline:
            time.sleep(0.5)


def _told(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout


def _configure(folder: Path) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(64))
    key.chmod(0o600)
    node = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(_CONFIGURATION.format(folder=folder, node=node, ports=_free_ports(2)))
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on."""
    open_ones = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in open_ones]
    for each in open_ones:
        each.close()
    return ports


def _daemons(folder: Path) -> list[list[str]]:
    files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munged.seed"}
    munge = [f"--{option}={folder / name}" for option, name in files.items()]
    return [
        ["munged", "--foreground", "--force", f"--log-file={folder / 'munged.log'}", *munge],
        ["slurmctld", "-D", "-i"],
        ["slurmd", "-D"],
    ]


def _wait_until_idle(folder: Path, daemons: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + _UP_SECONDS
    while time.monotonic() < deadline and all(daemon.poll() is None for daemon in daemons):
        told = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False)
        if told.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    logs = "\n".join(
        f"{file.name}: {line}"
        for file in sorted([*folder.glob("*.log"), *folder.glob("*.out")])
        for line in file.read_text(errors="replace").splitlines()[-8:]
    )
    raise RuntimeError(f"SLURM did not come up:\n{logs}")
