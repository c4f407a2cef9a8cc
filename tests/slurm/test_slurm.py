"""Training on a real SLURM of two nodes: preempted, requeued, and the same in the end.

``make slurm`` runs it; it never skips itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bigr.checkpoints.native import save_autoencoder
from bigr.training.checkpoint_files import newest_whole, saved_checkpoints
from tests.models import tiny_autoencoder
from tests.processes import environment
from tests.slurm.cluster import cluster, free_ports, missing

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "slurm_train.sbatch"
STEPS = 60


class Slurm:
    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        # No name server knows the two nodes.
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0])}
        # The script starts "python": the one that runs this, active or not.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        alike = {"OMP_NUM_THREADS": "1", "PATH": path, **meeting}
        self.variables = {**environment(**variables), **alike}

    def call(self, *command: str, **variables: str) -> str:
        result = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, (command, result.stderr)
        return result.stdout

    def submit(self, run: Path, codes: Path, *overrides: str) -> str:
        settings = [
            "experiment=digits_generator",
            f"task.autoencoder={codes}",
            *(
                "autoencoder.base_channels=32",
                "autoencoder.channel_multipliers=[1,1,1]",
                "autoencoder.embed_dim=32",
            ),
            *(
                "autoencoder.code_dim=6",
                "model.dim=32",
                "model.num_layers=1",
                "model.denoiser_dim=32",
            ),
            *("model.denoiser_blocks=1", "model.dropout=0.1", "global_batch_size=128"),
            *("trainer.val_check_interval=20", "trainer.limit_val_batches=1"),
            *(f"trainer.max_steps={STEPS}", "trainer.log_every_n_steps=1"),
            *("callbacks.sample_grid=null", "callbacks.checkpoint.every_n_steps=10"),
            "task.lr_scheduler.warmup_steps=5",
            *overrides,
        ]
        small = ["--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=0", "--cpus-per-task=1"]
        return self.call(
            "sbatch", "--parsable", *small, str(SCRIPT), *settings, RUN=str(run)
        ).strip()

    def state(self, job: str) -> str:
        fields = dict(
            field.split("=", 1)
            for field in self.call("scontrol", "show", "job", "-o", job).split()
            if "=" in field
        )
        return f"{fields['JobState']} {fields['Restarts']}"

    def wait(self, job: str, *states: str) -> None:
        """Wait until a job has one of these states, followed by how often it was requeued."""
        deadline = time.monotonic() + 400
        while (state := self.state(job)) not in states:
            failed = state.startswith(("FAILED", "CANCELLED", "NODE_FAIL"))
            if failed or time.monotonic() > deadline:
                pytest.fail(f"job {job} is {state}, not {states}; its log:\n{self.log(job)}")
            time.sleep(0.2)

    def start_requeued(self, job: str) -> None:
        """Start a requeued job in three seconds; SLURM itself would wait for two minutes.

        The credential of the first run has been revoked for everything issued until then, in whole
        seconds. A job that starts in the same second is killed ("Job credential revoked").
        """
        self.call("scontrol", "update", f"JobId={job}", "StartTime=now+3")

    def log(self, job: str) -> str:
        path = self.folder / f"bigr-{job}.log"
        return path.read_text() if path.exists() else "no log"


def end_state(run: Path) -> dict[str, torch.Tensor]:
    path = newest_whole(run / "checkpoints")
    assert path is not None
    assert path.name == f"step_{STEPS:08d}.ckpt"
    saved = torch.load(path, weights_only=True)
    state = {f"average {name}": value for name, value in saved["state_dict"].items()}
    state.update({f"raw {name}": value for name, value in saved["current_model_state"].items()})
    return state


def test_preempted_and_requeued(tmp_path: Path) -> None:
    absent = missing()
    if absent:
        pytest.fail(
            f"{', '.join(absent)} not found: apt-get install slurmctld slurmd slurm-client munge"
        )
    autoencoder = tiny_autoencoder(image_size=16, channel_multipliers=(1, 1, 1))
    codes = save_autoencoder(autoencoder, tmp_path / "a.safetensors")
    with cluster(tmp_path / "slurm") as variables:
        slurm = Slurm(tmp_path, variables)
        left_alone, preempted = tmp_path / "left_alone", tmp_path / "preempted"
        job = slurm.submit(left_alone, codes)
        slurm.wait(job, "COMPLETED 0")
        assert "(32 on each of 2 devices, accumulated 2 times)" in slurm.log(job)

        job = slurm.submit(preempted, codes)
        deadline = time.monotonic() + 400
        while not saved_checkpoints(preempted / "checkpoints"):
            assert time.monotonic() < deadline, slurm.log(job)
            time.sleep(0.02)
        slurm.call("scancel", "--signal=USR1", job)
        slurm.wait(job, "PENDING 1")
        slurm.start_requeued(job)
        slurm.wait(job, "COMPLETED 1")
        log = slurm.log(job)
        assert f"SLURM job {job} is requeued" in log
        assert "resuming from" in log
    ours, theirs = end_state(preempted), end_state(left_alone)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
