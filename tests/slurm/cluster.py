"""A real SLURM with two nodes, both of them this machine."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue")
NODES = ("one", "two")
CONFIG = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
MinJobAge=3600
SchedulerParameters=batch_sched_delay=0,sched_interval=2
"""


def missing() -> list[str]:
    """Programs that aren't installed."""
    return [name for name in PROGRAMS if _which(name) is None]


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def free_ports(count: int) -> list[int]:
    """That nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start it; the environment in which its commands find it."""
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    host = socket.gethostname().split(".")[0]
    control, *ports = free_ports(1 + len(NODES))
    text = CONFIG.format(folder=folder, host=host, port=control, user=getpass.getuser())
    for node, port in zip(NODES, ports, strict=True):
        text += f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1\n"
    text += f"PartitionName=main Nodes={','.join(NODES)} Default=YES State=UP\n"
    (folder / "slurm.conf").write_text(text)
    variables = {"SLURM_CONF": str(folder / "slurm.conf")}
    environment = {**os.environ, **variables}
    munge = [
        *("munged", "--foreground", "--force", f"--key-file={key}"),
        *(f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid"),
        *(f"--seed-file={folder}/munge.seed", f"--log-file={folder}/munged.log"),
    ]
    commands = [munge, ["slurmctld", "-D"], *(["slurmd", "-D", "-N", node] for node in NODES)]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            program = _which(command[0])
            with (folder / f"{Path(command[0]).name}-{len(processes)}.out").open("wb") as out:
                processes.append(
                    subprocess.Popen(
                        [str(program), *command[1:]], env=environment, stdout=out, stderr=out
                    )
                )
            if command is munge:
                _wait(lambda: (folder / "munge.socket").exists(), folder)
        _wait(lambda: _idle(environment) == len(NODES), folder)
        yield variables
    finally:
        subprocess.run(["scancel", "--state=RUNNING"], env=environment, check=False)
        time.sleep(1.0)  # for its processes to end
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def _idle(environment: dict[str, str]) -> int:
    listing = subprocess.run(
        ["sinfo", "-h", "-N", "-o", "%t"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    return listing.count("idle")


def _wait(condition: object, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            logs = [f"{p.name}: {p.read_text()[-2000:]}" for p in folder.glob("*.[lo][ou][gt]")]
            raise RuntimeError("SLURM didn't start:\n" + "\n".join(logs))
        time.sleep(0.1)
