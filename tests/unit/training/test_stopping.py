"""Signals that ask a run to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from bigr.training.stopping import SIGNALS, Stopped, StopSignals, ignore_signals


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run with nohup
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", SIGNALS)
def test_the_first_signal_is_remembered(signum: signal.Signals) -> None:
    signals = StopSignals()
    signals.install()
    assert signals.received == 0
    os.kill(os.getpid(), signum)
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.received == signum


def test_a_second_ctrl_c_interrupts() -> None:
    signals = StopSignals()
    signals.install()
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_the_exit_code_is_that_of_shells() -> None:
    assert Stopped(signal.SIGTERM).code == 143


def test_nohup_still_holds() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals = StopSignals()
    signals.install()
    os.kill(os.getpid(), signal.SIGHUP)
    assert signals.received == 0


def test_loaders_ignore_what_their_group_receives() -> None:
    ignore_signals(0)
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
        os.kill(os.getpid(), signum)
