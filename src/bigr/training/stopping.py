"""Requests to stop a run. All processes stop between the same two optimiser steps."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType

import torch
import torch.distributed as dist

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1)
AGREE_EVERY = 10
"""Number of optimiser steps between two rounds of :class:`Agreement`."""


class Stopped(SystemExit):
    """Training ended because of a signal. Everything up to the last step is saved.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


class CannotStartError(ValueError):
    """Training cannot start, because a callback lacks something; the message says what."""


class StopSignals:
    """Remembers :data:`SIGNALS`. A second SIGINT raises ``KeyboardInterrupt``."""

    def __init__(self) -> None:
        self.received = 0

    def install(self) -> None:
        """Replace the signal handlers. Lightning restores the earlier ones after the run.

        With ``nohup``, SIGHUP is ignored, and remains so.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in SIGNALS:
            if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
                signal.signal(signum, self._remember)

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self.received:
            raise KeyboardInterrupt
        log.info("%s: stopping after this step", signal.Signals(signum).name)
        self.received = self.received or signum


def ignore_signals(_worker: int) -> None:
    """Let a loader process ignore the signals that its whole process group receives.

    A closed terminal, Ctrl-C and SLURM send signals to all processes of a group. Without its
    loaders, the training process could not finish the step. The loaders exit with that process.
    """
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_IGN)


class Agreement:
    """The maximum over all processes of a few integers, one round later.

    Each call of :meth:`ask` starts a reduction and returns the result of the one before, so that
    no process waits for another, and none for its GPU.

    Args:
        device: where the reduction runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._answer: torch.Tensor | None = None
        self._event: torch.cuda.Event | None = None

    def ask(self, *numbers: int) -> list[int]:
        """Submit this process's numbers; return the maxima of the previous round, at first 0."""
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
