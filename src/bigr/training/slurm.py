"""Jobs of the SLURM workload manager."""

from __future__ import annotations

import logging
import os
import subprocess

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

log = logging.getLogger(__name__)


def slurm_plugins() -> list[SLURMEnvironment]:
    """Return the Trainer plugins for a process that ``srun`` started, and none otherwise.

    Lightning's own reaction to SIGUSR1 is turned off: it saves in the middle of a step.
    """
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        return [SLURMEnvironment(auto_requeue=False)]
    return []


def requeue_job() -> None:
    """Ask SLURM to start this job again later; do nothing outside a SLURM job."""
    job = os.environ.get("SLURM_JOB_ID")
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    if job is None:
        return
    if array is not None and task is not None:
        job = f"{array}_{task}"
    try:
        result = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, check=False
        )
        problem = result.stderr.strip() if result.returncode else None
    except OSError as error:
        problem = str(error)
    if problem is None:
        log.info("SLURM job %s is requeued", job)
    else:
        log.warning("SLURM job %s could not be requeued: %s", job, problem)
