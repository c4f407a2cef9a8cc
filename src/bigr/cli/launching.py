"""The processes of a command: one, or several of torchrun, SLURM or ``devices=…``."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import warnings
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le
from omegaconf import DictConfig

from bigr.cli.configuration import ConfigError
from bigr.schema import Check, NonNegativeFloat, PositiveInt, check_arguments

if TYPE_CHECKING:
    from bigr.inference.processes import Processes


def _device(name: str) -> str:
    """Return ``name`` if it is a supported device, and raise ``ValueError`` otherwise."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(
            "it can be auto, cpu, cuda, or one of several GPUs such as cuda:1; Apple's MPS and "
            "Intel's XPU are not supported"
        )
    return name


Device = Annotated[str, Check(_device)]

ACCELERATORS = ("auto", "cpu", "gpu", "cuda")
"""Supported accelerators of Lightning. Others, such as ``mps`` and ``xpu``, are not tested."""
MAX_DEVICES = 1024
"""Largest number of devices per node. Lightning lists them before it does anything else."""


@dataclasses.dataclass(kw_only=True)
class ProcessSettings:
    """The values at the top level of a configuration that :func:`processes` reads."""

    device: Device
    devices: Annotated[int, Ge(1), Le(MAX_DEVICES)]
    num_nodes: PositiveInt


LAUNCHERS = ("SLURM_NTASKS", "TORCHELASTIC_RUN_ID", "NODE_RANK", "GROUP_RANK", "LSB_JOBID")
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Environment variables that launchers, or Lightning for its processes, set to a number."""
HARMLESS_WARNINGS = (
    "The `srun` command is available.*",  # a command may run on one machine of a cluster
    ".*isinstance.treespec, LeafSpec.*",
    ".*your dataloader is not resumable.*",  # ours is resumed by its data module
    "Total length of `DataLoader` across ranks is zero.*",  # everything was already done
    "Couldn't infer the batch indices.*",  # a batch of codes contains them
    "Checkpoint directory .* exists and is not empty.*",  # with resume=auto
    "Experiment logs directory .* exists and is not empty.*",  # existing rows are kept
    "The number of training batches .* is smaller than the logging interval.*",
)


def processes(config: DictConfig, *, is_shared: bool = True) -> Processes:
    """Start the other processes, if any, and return the place of this one among them.

    Args:
        config: configuration with ``device``, ``devices`` (per node) and ``num_nodes``.
        is_shared: whether several processes can share the work.

    Raises:
        ConfigError: if the settings contradict each other.
    """
    from bigr.inference.processes import ALONE, Processes

    # 1. The number of processes, by the launcher or by the configuration.
    devices, nodes = config.devices, config.num_nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    elif int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        nodes = int(os.environ["SLURM_NNODES"])
        devices = int(os.environ["SLURM_NTASKS"]) // nodes
    else:
        check_launcher("num_nodes", nodes)
    if devices * nodes == 1:
        return ALONE
    if not is_shared:
        raise ConfigError(
            f"{devices * nodes} processes were requested, but this evaluation or application "
            "cannot share its work: use one."
        )
    if config.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device={config.device} is one device: for several, use device=auto.")
    # 2. Start them.
    quieten_lightning()
    from lightning.fabric import Fabric

    accelerator = lightning_accelerator(config.device)
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


def lightning_accelerator(name: str) -> str:
    """Return what to give to Lightning for a device or an accelerator of the configuration.

    For ``auto`` and ``gpu``, Lightning would also take GPUs of Apple and Intel.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if name == "gpu" else name


def is_first_process() -> bool:
    """Return whether this is the first process of its command, before any others are started."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)


def check_launcher(key: str, num_nodes: int) -> None:
    """Raise ``ConfigError`` for several nodes if no launcher says which node this is."""
    if num_nodes > 1 and not any(name in os.environ for name in LAUNCHERS):
        raise ConfigError(
            f"{key}={num_nodes}, but nothing says which node this is: start the command on every "
            "node with srun or torchrun (or set NODE_RANK, MASTER_ADDR and MASTER_PORT)."
        )


def _trainer_ranges(
    num_nodes: PositiveInt = 1,
    accumulate_grad_batches: PositiveInt = 1,
    check_val_every_n_epoch: PositiveInt | None = 1,
    gradient_clip_val: NonNegativeFloat | None = None,
    limit_train_batches: PositiveInt | Annotated[float, Gt(0), Le(1)] | None = None,
    log_every_n_steps: PositiveInt | None = None,
    devices: Annotated[int, Ge(-1), Le(MAX_DEVICES)] | str | list[int] = "auto",
    max_epochs: Annotated[int, Ge(-1)] | None = None,
    max_steps: Annotated[int, Ge(-1)] = -1,
    num_sanity_val_steps: Annotated[int, Ge(-1)] | None = None,
    val_check_interval: int | float | str | None = None,
    **_: Any,
) -> None:
    """State ranges that the annotations of Lightning's ``Trainer`` leave out."""


def check_trainer(trainer: dict[str, Any]) -> None:
    """Check what the annotations of Lightning's ``Trainer`` do not say.

    Raises:
        ValueError: naming the key.
    """
    check_arguments(_trainer_ranges, trainer, "trainer")
    for name in ("max_steps", "max_epochs"):
        if trainer.get(name) == 0:
            raise ConfigError(f"trainer.{name} must be positive, or -1 for no limit, got 0.")
    if trainer.get("val_check_interval") == 0:
        raise ConfigError("trainer.val_check_interval must be above 0 or null, got 0.")
    devices = trainer.get("devices")
    if isinstance(devices, str) and not re.fullmatch(r"auto|-1|\d+(,\d+)*,?", devices):
        raise ConfigError(
            f"trainer.devices={devices}: it can be auto, a number of devices, or a list of them."
        )
    accelerator = trainer.get("accelerator")
    if isinstance(accelerator, str) and accelerator not in ACCELERATORS:
        raise ConfigError(
            f"trainer.accelerator={accelerator} is not supported, because nothing has been tested "
            f"on it: it can be {', '.join(ACCELERATORS)}."
        )
    if accelerator in ("gpu", "cuda"):
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(
                f"trainer.accelerator={accelerator}, but PyTorch finds no CUDA GPU: use "
                "trainer=cpu, or install a PyTorch that fits your driver."
            )
    check_launcher("trainer.num_nodes", trainer.get("num_nodes", 1))


def quieten_lightning() -> None:
    """Keep Lightning's advertisements and other libraries' deprecation warnings out of the log."""
    for message in HARMLESS_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )
    logging.getLogger("lightning.pytorch").propagate = False  # it has its own handler
