"""What the entry points share: composing with Hydra, and one sentence for every user error."""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bigr.cli.configuration import ConfigError, check, config_dir, register_resolvers

if TYPE_CHECKING:
    from bigr.inference.processes import Processes

log = logging.getLogger(__name__)

FULL_ERROR = "HYDRA_FULL_ERROR"
EXIT_USER_ERROR = 2
NUM_SUGGESTIONS = 3

Job = Callable[[DictConfig], Any]


SHORTCUTS = {
    ("evaluate", "task=autoencoder"): "evaluation=reconstruction",
    ("evaluate", "task=generator"): "evaluation=imagenet",
    ("evaluate", "application=inpaint"): "evaluation=edits",
}
"""What else some choices are called."""


class UserError(Exception):
    """Ends a command with its message instead of a traceback."""


class RememberSweep(Callback):
    """Hydra's callback that tells :func:`run` of a sweep, for what is to be done after it.

    Hydra itself calls nothing at the end of a sweep of which a job failed.
    """

    started: DictConfig | None = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Keep the configuration that the jobs have in common."""
        RememberSweep.started = config


def run(name: str, job: Job, after_sweep: Callable[[DictConfig], object] | None = None) -> None:
    """Compose ``conf/<name>.yaml`` with the command line and run ``job`` once, or as a sweep.

    Errors of the user end the process with code 2 and one sentence; with ``HYDRA_FULL_ERROR=1``
    all of them show where they were raised. A job of a sweep that fails costs only itself.

    Args:
        name: of the entry point.
        job: what it does.
        after_sweep: called with the configuration that the jobs of a sweep share, whatever became
            of them; for primary configurations with :class:`RememberSweep` as a callback.
    """
    register_resolvers()
    sys.argv[1:] = quote_numbers(SHORTCUTS.get((name, word), word) for word in sys.argv[1:])
    wants_traceback = bool(os.environ.get(FULL_ERROR))
    os.environ[FULL_ERROR] = "1"  # Hydra hands on exceptions instead of printing its own words
    main = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=name)
    checked = _Job(name, job, wants_traceback)
    try:
        try:
            main(checked)()
        finally:
            if after_sweep is not None and RememberSweep.started is not None:
                after_sweep(RememberSweep.started)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        _fail(name, explain(error, name))
    except (OSError, ValueError) as error:
        if wants_traceback or checked.has_started:
            raise
        where = "" if isinstance(error, ValueError) else " Choose another hydra.run.dir=…."
        _fail(name, f"{error}.{where}")
    except KeyboardInterrupt:
        sys.exit(f"bigr.{name}: interrupted.")


def quote_numbers(overrides: Iterable[str]) -> list[str]:
    """``resolution=256,512`` as ``resolution='256','512'``: Hydra's groups take words alone."""
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
    """A job after the checks; its user errors end the process without Hydra's own words."""

    def __init__(self, name: str, job: Job, wants_traceback: bool) -> None:
        self.name = name
        self.job = job
        self.wants_traceback = wants_traceback
        self.has_started = False

    def __call__(self, config: DictConfig) -> Any:
        self.has_started = True
        try:
            with user_errors():
                check(config)
            return self.job(config)
        except UserError as error:
            launcher = str(HydraConfig.get().launcher["_target_"])
            if self.wants_traceback or not launcher.endswith("BasicLauncher"):
                raise  # another process has to hear of it
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                log.error("job %s failed: %s", HydraConfig.get().job.num, error)
                raise  # for the sweep, which goes on with the next one
            _fail(self.name, str(error))


def _fail(name: str, message: str) -> NoReturn:
    logging.shutdown()
    print(f"bigr.{name}: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(EXIT_USER_ERROR)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Around everything before the real work: errors in here are about the user's input."""
    try:
        yield
    except InstantiationException as error:
        cause = error.__cause__
        if cause is None or not isinstance(cause, ValueError | TypeError | OSError):
            raise
        key = re.search(r"full_key: (\S+)", str(error))
        prefix = f"{key[1]}: " if key and not str(cause).startswith(key[1]) else ""
        raise UserError(f"{prefix}{cause}") from error
    except OmegaConfBaseException as error:
        problem = str(error).splitlines()[0]
        raise UserError(f"{problem}: the configuration lacks it, or can't compute it.") from error
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error


def processes(config: DictConfig, *, is_shared: bool = True) -> Processes:
    """This process among its siblings: one, or several of torchrun, SLURM or ``devices=…``.

    Args:
        config: with ``device``, ``devices`` (per node) and ``num_nodes``.
        is_shared: whether the work can be shared.

    Raises:
        ConfigError: if they contradict each other.
    """
    from bigr.inference.processes import ALONE, Processes

    devices, nodes = config.devices, config.num_nodes
    for key, value in (("devices", devices), ("num_nodes", nodes)):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{key} must be a positive integer, got {value!r}.")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    elif int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        nodes = int(os.environ["SLURM_NNODES"])
        devices = int(os.environ["SLURM_NTASKS"]) // nodes
    elif nodes > 1:
        raise ConfigError(
            f"num_nodes={nodes}, but nothing says which node this is: start the command on every "
            "node with srun or torchrun."
        )
    if devices * nodes == 1:
        return ALONE
    if not is_shared:
        raise ConfigError(
            f"{devices * nodes} processes, but only evaluation=imagenet, digits_fidelity and "
            "application=generate share their work: use one."
        )
    if config.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device={config.device} is one device: with several, say device=auto.")
    quieten_lightning()
    from lightning.fabric import Fabric

    accelerator = {"cuda": "gpu"}.get(config.device, config.device)
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy="ddp")
    fabric.launch()

    def gather(value: Any) -> list[Any]:
        import torch.distributed as dist

        values: list[Any] = [None] * fabric.world_size
        dist.all_gather_object(values, value)
        return values

    return Processes(
        rank=fabric.global_rank,
        count=fabric.world_size,
        barrier=fabric.barrier,
        broadcast=fabric.broadcast,
        gather=gather,
        device=str(fabric.device),
    )


def quieten_lightning() -> None:
    """Keep Lightning's advertisements and other libraries' deprecations out of the log."""
    for message in (
        ".*isinstance.treespec, LeafSpec.*",
        ".*your dataloader is not resumable.*",  # ours is, through its data module
        "Total length of `DataLoader` across ranks is zero.*",  # all was done before
        "Couldn't infer the batch indices.*",  # those of codes are in the batch
        "Checkpoint directory .* exists and is not empty.*",  # on resume=auto
        "Experiment logs directory .* exists and is not empty.*",  # its rows are kept
        "The number of training batches .* is smaller than the logging interval.*",
    ):
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )
    logging.getLogger("lightning.pytorch").propagate = False  # it has a handler of its own


def explain(error: Exception, name: str) -> str:
    """One sentence that names the key and the fix."""
    text = str(error)
    if isinstance(error, UserError | ConfigError):
        return text
    if isinstance(error, OverrideParseException):
        return f"can't read {error.override!r}: overrides are key=value, with quotes for spaces."
    group = re.search(r"Could not find '([\w@]+)/([^']+)'", text)
    if group:
        return _no_such_option(group[1].split("@")[0], group[2])
    key = re.search(r"Could not override '([^']+)'", text)
    if key:
        return _no_such_key(key[1], name)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines)


def _no_such_option(group: str, option: str) -> str:
    options = sorted(file.stem for file in (config_dir() / group).glob("*.yaml"))
    return (
        f"{group}={option}: there is no such choice.{_did_you_mean(option, options)} "
        f"{group} can be {', '.join(options)}."
    )


def _no_such_key(key: str, name: str) -> str:
    key = key.split("@")[0]
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        base = hydra.compose(name)
    groups = [path.name for path in config_dir().iterdir() if path.is_dir()]
    known = [word for word in dict.fromkeys([*_keys(base), *groups]) if word != key]
    new = f" A new key is added by +{key}=…." if "." in key else ""
    return (
        f"{key}: there is no such key.{_did_you_mean(key, known)} "
        f"All keys: python -m bigr.{name} --cfg job.{new}"
    )


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    """Dotted keys of every value and node."""
    found = []
    for name, value in OmegaConf.to_container(config, resolve=False).items():  # type: ignore[union-attr]
        key = prefix + str(name)
        found.append(key)
        if isinstance(value, dict):
            found += _keys(OmegaConf.create(value), f"{key}.")
    return found


def _did_you_mean(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, NUM_SUGGESTIONS, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""
