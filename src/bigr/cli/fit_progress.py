"""Runs the commands of ``bigr.fit`` one after the other, and remembers which are finished."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from bigr.cli.configuration import ConfigError
from bigr.cli.fitting import FitStep
from bigr.cli.messages import UserError
from bigr.data.files import write_atomically

log = logging.getLogger(__name__)

PROGRESS = "fit.json"


class FitProgress:
    """Which commands are finished, in a file that is compared with the plan.

    Args:
        output: folder of the file.
        steps: the plan.
        images: text about the images, such as their numbers and classes.

    Raises:
        ValueError: if the folder contains the progress of another plan, or a damaged file.
    """

    def __init__(self, output: Path, steps: list[FitStep], images: str) -> None:
        self.path = output / PROGRESS
        self.images = images
        self.commands = {step.name: step.command for step in steps}
        self.finished: list[str] = []
        if not self.path.is_file():
            return
        try:
            found: dict[str, Any] = json.loads(self.path.read_text())
            commands, self.finished = found["commands"], list(found["finished"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self.path} is damaged: remove it.") from error
        if found.get("images", images) != images:
            raise ConfigError(
                f"{output} contains a run with other images ({found['images']}; now {images}): "
                "choose another hydra.run.dir=…."
            )
        if commands != self.commands:
            raise ConfigError(
                f"{output} contains a run with other settings: repeat them, or choose another "
                "hydra.run.dir=…."
            )

    def is_finished(self, step: FitStep) -> bool:
        """Return whether a command has run to its end and its product still exists."""
        return step.name in self.finished and step.product.exists()

    def finish(self, step: FitStep) -> None:
        """Record that a command has run to its end."""
        self.finished.append(step.name)
        content = {"images": self.images, "commands": self.commands, "finished": self.finished}
        write_atomically(self.path, (json.dumps(content, indent=2) + "\n").encode())


def run_step(step: FitStep) -> None:
    """Run a command, and wait for it. Signals are passed on, so that it can save its state.

    Raises:
        UserError: if it fails; its own message has been printed.
        SystemExit: if it was stopped by a signal.
    """
    stopped: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def stop(signum: int, _: object) -> None:
        stopped.append(signum)
        if signum != signal.SIGINT:  # the terminal sends Ctrl-C to both processes
            for process in running:
                process.send_signal(signum)

    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        running.append(subprocess.Popen([sys.executable, "-m", *step.words]))
        code = running[0].wait()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if stopped:  # a command may finish its work nevertheless
        log.info("stopped: run the same bigr.fit command again to continue")
        sys.exit(128 + stopped[0])
    if code != 0:
        raise UserError(
            f"{step.words[0]} failed with exit code {code}; its message is above. Fix the "
            "cause, and run the same command again to continue."
        )
