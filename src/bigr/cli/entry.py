"""What the entry points share: run a job once or as a sweep, with one sentence for user errors."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from bigr import __version__
from bigr.cli.command_words import quote_paths, with_preset_files
from bigr.cli.configuration import config_dir, register_resolvers
from bigr.cli.help import command_help
from bigr.cli.launching import (
    Device,
    ProcessSettings,
    is_first_process,
    processes,
    quieten_lightning,
)
from bigr.cli.messages import UserError, explain, user_errors
from bigr.cli.models import provisional, with_models
from bigr.cli.validation import validate
from bigr.data.locks import LOCK_FILE, LockedError, only_writer
from bigr.inference.threads import limit_threads
from bigr.schema import convert

__all__ = [
    "Device",
    "ProcessSettings",
    "UserError",
    "processes",
    "quieten_lightning",
    "run",
    "run_folder",
    "user_errors",
]

log = logging.getLogger(__name__)

_STARTED = time.time()
"""When this module was imported, before Hydra makes any folder."""
FULL_ERROR = "HYDRA_FULL_ERROR"
EXIT_USER_ERROR = 2

Job = Callable[[DictConfig], Any]


class RememberSweep(Callback):
    """A callback of Hydra that tells :func:`run` about a sweep, after which there is more to do.

    Hydra itself calls nothing at the end of a sweep in which a job failed.
    """

    started: DictConfig | None = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Keep the configuration that the jobs have in common."""
        RememberSweep.started = config


def run(
    name: str,
    job: Job,
    *,
    settings: type | None = None,
    before: Callable[[DictConfig], object] | None = None,
    after_sweep: Callable[[DictConfig], object] | None = None,
) -> None:
    """Compose ``conf/<name>.yaml`` with the command line, validate it, and run ``job``.

    With ``-m`` the job runs once for each combination of a sweep. Mistakes of the user end the
    process with code 2 and one sentence; with ``HYDRA_FULL_ERROR=1`` they show a traceback. A job
    of a sweep that fails does not stop the others.

    Args:
        name: name of the entry point.
        job: called with the configuration.
        settings: a dataclass whose annotations declare the values at the top level of the
            configuration.
        before: called with the configuration before it is validated, which imports PyTorch; raises
            ``ValueError`` to end the command at once.
        after_sweep: called at the end of a sweep with the configuration that the jobs share, even
            if some failed; needs :class:`RememberSweep` as a callback of the configuration.
    """
    words = sys.argv
    if {"--help", "-h"} & set(words[1:]):
        print(command_help(name))  # noqa: T201
        return
    if "--version" in words[1:]:
        print(f"bigr-lightning {__version__}")  # noqa: T201
        return
    register_resolvers()
    wants_traceback = bool(os.environ.get(FULL_ERROR))
    validated = _Job(name, job, settings, before, wants_traceback)
    main = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=name)
    environment = contextlib.ExitStack()
    try:
        # Hydra raises exceptions instead of printing its own message. It has no other way of
        # getting arguments than sys.argv.
        environment.enter_context(_full_errors(True))
        given = with_preset_files(words[1:])
        sys.argv = [words[0], *quote_numbers(quote_paths(given))]
        try:
            main(validated)()
        finally:
            if after_sweep is not None and RememberSweep.started is not None:
                after_sweep(RememberSweep.started)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        _fail(name, explain(error, name, quote_numbers(words[1:])))
    except (OSError, ValueError) as error:
        if wants_traceback or validated.has_started:
            raise
        where = "" if isinstance(error, ValueError) else " Choose another hydra.run.dir=…."
        message = explain(error, name, quote_numbers(words[1:]))
        _fail(name, f"{message.rstrip('.')}.{where}")
    except KeyboardInterrupt:
        sys.exit(f"bigr.{name}: interrupted.")
    finally:
        sys.argv, RememberSweep.started = words, None
        environment.close()


@contextlib.contextmanager
def _full_errors(is_on: bool) -> Iterator[None]:
    """Set or remove the environment variable ``HYDRA_FULL_ERROR`` within the block."""
    before = os.environ.pop(FULL_ERROR, None)
    try:
        if is_on:
            os.environ[FULL_ERROR] = "1"
        yield
    finally:
        os.environ.pop(FULL_ERROR, None)
        if before is not None:
            os.environ[FULL_ERROR] = before


@contextlib.contextmanager
def run_folder(config: DictConfig) -> Iterator[Path]:
    """Keep other commands from writing into the folder of a run, ``paths.output``, and return it.

    Of several processes, the first one holds the lock, because it alone writes there or decides
    what is written.

    Raises:
        UserError: if another command holds the lock, or the folder cannot be written.
    """
    from bigr.data.locks import only_writer

    with contextlib.ExitStack() as stack:
        with user_errors():
            folder = Path(convert(config.paths.output, str, "paths.output"))
            if is_first_process():
                stack.enter_context(only_writer(folder))
        yield folder


def quote_numbers(overrides: Iterable[str]) -> list[str]:
    """Return ``resolution=256,512`` as ``resolution='256','512'``, and other words as they are.

    Hydra reads 256 as a number and raises "Config group override must be a string or a list".
    """
    groups = {path.name for path in config_dir().iterdir() if path.is_dir()}
    quoted = []
    for override in overrides:
        group, _, options = override.partition("=")
        if group in groups and re.fullmatch(r"[\d,]+", options):
            options = ",".join(f"'{option}'" for option in options.split(","))
            override = f"{group}={options}"
        quoted.append(override)
    return quoted


class _Job:
    """A job with the validation before it and the exit code after it."""

    def __init__(
        self,
        name: str,
        job: Job,
        settings: type | None,
        before: Callable[[DictConfig], object] | None,
        wants_traceback: bool,
    ) -> None:
        self.name = name
        self.job = job
        self.settings = settings
        self.before = before
        self.wants_traceback = wants_traceback
        self.has_started = False

    def __call__(self, config: DictConfig) -> Any:
        self.has_started = True
        try:
            with user_errors():
                if self.before is not None:
                    self.before(config)
                validate(provisional(config), self.settings)
                config = with_models(config)
            limit_threads()
            # The processes that a job starts also print one sentence instead of a traceback.
            with _full_errors(self.wants_traceback):
                return self.job(config)
        except UserError as error:
            launcher = str(HydraConfig.get().launcher["_target_"])
            if self.wants_traceback or not launcher.endswith("BasicLauncher"):
                raise  # for the process that launched this one
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                log.error("job %s failed: %s", HydraConfig.get().job.num, error)
                raise  # the sweep continues with the next job
            logging.shutdown()
            if is_first_process():
                _remove_unused(Path(HydraConfig.get().runtime.output_dir))
            _fail(self.name, str(error))


def _remove_unused(folder: Path) -> None:
    """Delete a folder that this process has made, and that contains no results.

    These are only settings, the log and the lock. A folder that another command has made a moment
    ago, and is about to use, looks the same, except that it is older than this process.
    """
    settings = HydraConfig.get()
    expected = {settings.output_subdir, f"{settings.job.name}.log", LOCK_FILE, "config.yaml"}
    made = folder / str(settings.output_subdir)
    if not made.is_dir() or made.stat().st_mtime < _STARTED:
        return
    if {path.name for path in folder.glob("*")} <= expected:
        with contextlib.suppress(LockedError), only_writer(folder, wait_seconds=0):
            shutil.rmtree(folder, ignore_errors=True)


def _fail(name: str, message: str) -> NoReturn:
    logging.shutdown()
    print(f"bigr.{name}: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(EXIT_USER_ERROR)
