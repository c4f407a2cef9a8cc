"""Which commands of ``bigr.fit`` are finished, and commands that fail or are stopped."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from bigr.cli.fit_images import Images
from bigr.cli.fit_progress import FitProgress, run_step
from bigr.cli.fitting import FitStep, plan
from bigr.cli.messages import UserError

IMAGES = Images("photos", ("cat", "dog"), 20, 5)


def test_finished_commands_are_remembered(tmp_path: Path) -> None:
    steps = plan(IMAGES, tmp_path, image_size=32, size="small")
    progress = FitProgress(tmp_path, steps, "20 photos")
    progress.finish(steps[0])
    again = FitProgress(tmp_path, steps, "20 photos")
    assert not again.is_finished(steps[0])  # its product was removed
    steps[0].product.parent.mkdir()
    steps[0].product.touch()
    assert [again.is_finished(step) for step in steps] == [True] + [False] * 5
    with pytest.raises(ValueError, match="contains a run with other settings"):
        FitProgress(tmp_path, plan(IMAGES, tmp_path, image_size=16, size="small"), "20 photos")
    with pytest.raises(ValueError, match=r"with other images \(20 photos; now 30 photos\): choose"):
        FitProgress(tmp_path, steps, "30 photos")
    (tmp_path / "fit.json").write_text("{}")
    with pytest.raises(ValueError, match=r"fit\.json is damaged: remove it"):
        FitProgress(tmp_path, steps, "20 photos")


def module(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> FitStep:
    (folder / "a_command.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return FitStep("name", "purpose", ("a_command", "word"), folder)


def test_a_failed_command_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = module(tmp_path, monkeypatch, "import sys; sys.exit(2 if sys.argv[1] == 'word' else 0)")
    with pytest.raises(UserError, match="a_command failed with exit code 2; its message is above"):
        run_step(step)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("code", [0, 130])
def test_a_signal_ends_the_run_after_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals, code: int
) -> None:
    """The command may save its state, or finish its work as if nothing had happened."""
    text = f"""
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
os.kill(os.getppid(), {int(signum)})
time.sleep({60 if signum == signal.SIGTERM else 0.5})
open({str(tmp_path / "at the end")!r}, "w").close()
sys.exit({code})
"""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(SystemExit) as stopped:
        run_step(module(tmp_path, monkeypatch, text))
    assert stopped.value.code == 128 + signum
    assert (tmp_path / "at the end").is_file() == (signum == signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
