"""Requests to stop: granted between two steps, by all processes between the same two."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from types import FrameType

import torch
import torch.distributed as dist

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
AGREE_EVERY = 10
"""Steps from one round of questions among several processes to the next."""


class Stopped(SystemExit):
    """Training ended on a signal; everything up to the last step is saved.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


class StopSignals:
    """Remembers SIGTERM, SIGINT and SIGUSR1; a second SIGINT interrupts in earnest."""

    def __init__(self) -> None:
        self.received = 0

    def install(self) -> None:
        """Replace the handlers; Lightning puts the earlier ones back when it ends."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self._remember)

    def _remember(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if signum == signal.SIGINT and self.received:
            raise KeyboardInterrupt
        name = signal.Signals(signum).name
        log.info("%s: stopping after this step", name)
        self.received = self.received or signum


class Agreement:
    """Numbers of which all processes get to know the largest, some steps later.

    The answer is fetched one round after the question, so that nobody ever waits for it.

    Args:
        device: of the collective operation.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._answer: torch.Tensor | None = None
        self._event: torch.cuda.Event | None = None

    def ask(self, *numbers: int) -> list[int]:
        """Ask, and get the answer to the question before; zeros at first."""
        answer = [0] * len(numbers)
        if self._answer is not None:
            if self._event is not None:
                self._event.synchronize()
            answer = self._answer.tolist()
        question = torch.tensor(numbers, device=self._device)
        dist.all_reduce(question, op=dist.ReduceOp.MAX)
        if self._device.type == "cuda":
            self._answer = torch.empty(len(numbers), dtype=torch.int64, pin_memory=True)
            self._answer.copy_(question, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._answer = question
        return answer


def requeue_in_slurm() -> None:
    """Have SLURM start this job again, if this is one."""
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
    except OSError as error:
        log.warning("SLURM job %s could not be requeued: %s", job, error)
        return
    if result.returncode:
        log.warning("SLURM job %s could not be requeued: %s", job, result.stderr.strip())
    else:
        log.info("SLURM job %s is requeued", job)
