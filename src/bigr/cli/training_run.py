"""Builds a training run from its configuration: the Trainer, the module and the data."""

from __future__ import annotations

import functools
import logging
import re
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig

from bigr.cli.configuration import ConfigError, autoencoder_sizes, grid_size, resolved
from bigr.cli.launching import lightning_accelerator

log = logging.getLogger(__name__)


class Run(NamedTuple):
    """The objects of a run, and its resolved configuration. The classes may be a user's own."""

    trainer: Any
    module: Any
    data: Any
    settings: dict[str, Any]


def build_run(config: DictConfig, resume: str | None) -> Run:
    """Build everything up to the first step, and check that it belongs together.

    Args:
        config: composed from ``conf/train.yaml``.
        resume: path of the checkpoint to resume from.

    Raises:
        ValueError: if something does not fit.
    """
    import lightning
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.callbacks import LearningRateMonitor

    from bigr.training.base_module import TrainingModule
    from bigr.training.callbacks.run_plan import code_version
    from bigr.training.checkpoint_files import check_sizes, check_trained

    lightning.seed_everything(config.seed, workers=True, verbose=False)
    try:
        # 1. The size of the batches, from which other settings may follow.
        world_size = lightning.Fabric(
            accelerator=_accelerator(config.trainer.accelerator),
            devices=config.trainer.devices,
            num_nodes=config.trainer.num_nodes,
        ).world_size
        config = _with_batches(config, world_size)
        # 2. All objects.
        data, module = _build(config.data), _build(config.task)
        settings = {**resolved(config), "version": code_version()}
        callbacks = _build_all(config.get("callbacks"))
        loggers = _build_all(config.get("logger"))
        if not loggers and any(isinstance(one, LearningRateMonitor) for one in callbacks):
            raise ConfigError(
                "logger=[]: callbacks.lr_monitor needs a logger. Choose one, such as logger=csv, "
                "or add ~callbacks.lr_monitor to the command."
            )
        trainer = _build_trainer(config.trainer, module, world_size, callbacks, loggers)
        # 3. Checks by the objects themselves, which a user's own classes need not have.
        data.prepare_data()
        data.setup("fit")
        if world_size > 1 and trainer.is_global_zero:
            _warn_of_same_batches(data, config)
        if hasattr(module, "check"):
            module.check(data)
        _check_batches(trainer, data)
        if isinstance(module, TrainingModule):
            module.run_config = settings
            check_sizes(resume, module.kind, module.network_config)
            check_trained(resume, module.trained_names())
        for callback in callbacks:
            if hasattr(callback, "check"):
                callback.check(trainer, module)
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {error}") from error
    return Run(trainer, module, data, settings)


def _check_batches(trainer: Any, data: Any) -> None:
    """Raise ``ValueError`` for too few batches in an epoch, if the data module tells their number.

    Otherwise, Lightning and the data module would only notice when training begins.
    """
    from bigr.training.data.resumable_data import ResumableDataModule

    if not isinstance(data, ResumableDataModule):
        return
    data.trainer = trainer
    batches, interval = len(data.train_dataloader()), trainer.val_check_interval
    if isinstance(trainer.limit_train_batches, int):
        batches = min(batches, trainer.limit_train_batches)
    is_per_epoch = trainer.check_val_every_n_epoch is not None and trainer.limit_val_batches
    if isinstance(interval, int) and interval > batches and is_per_epoch:
        raise ConfigError(
            f"trainer.val_check_interval={interval}, but an epoch has only {batches} batches: set "
            "trainer.check_val_every_n_epoch=null as well, or lower it."
        )


def _warn_of_same_batches(data: Any, config: DictConfig) -> None:
    """Log a warning if the batches may not be distributed over several devices."""
    from bigr.training.data.resumable_data import ResumableDataModule

    is_ours = isinstance(data, ResumableDataModule)
    if not is_ours and not config.trainer.get("use_distributed_sampler", True):
        log.warning(
            "every device may get all batches, unless %s distributes them: if it does not, set "
            "trainer.use_distributed_sampler=true",
            type(data).__name__,
        )


def check_codes(config: DictConfig) -> None:
    """Compare the sizes of the B-AE and the generator, before Lightning is imported.

    Raises:
        ValueError: if the generator cannot learn this B-AE's codes, or the command asks for another
            B-AE than that of the codes.
    """
    path, model = config.task.get("autoencoder"), config.task.get("model")
    if not isinstance(model, DictConfig):
        return
    _check_choices(config, model)
    if not isinstance(path, str):
        return
    sizes = autoencoder_sizes(path)
    for name, fix in (("code_dim", "autoencoder"), ("grid_size", "resolution")):
        ours, theirs = model[name], getattr(sizes, name)
        if ours != theirs:
            raise ConfigError(
                f"task.autoencoder={path} makes codes with {name} {theirs}, but model.{name} is "
                f"{ours}: choose another {fix}=… or another B-AE."
            )


def _check_choices(config: DictConfig, model: DictConfig) -> None:
    """Raise ``ConfigError`` if words of the command contradict the codes of the generator."""
    if not HydraConfig.initialized() or "autoencoder" not in config:
        return
    if HydraConfig.get().runtime.choices.get("model") == "pretrained" and not config.task.init_from:
        raise ConfigError("model=pretrained takes the sizes of task.init_from: set it as well.")
    words, group = HydraConfig.get().overrides.task, config.autoencoder
    sizes = {"code_dim": group.code_dim, "grid_size": grid_size(group)}
    for name, fix in (("code_dim", "autoencoder"), ("grid_size", "resolution")):
        given = next(
            (word.replace("'", "") for word in words if re.match(rf"\+*{fix}[.=]", word)), None
        )
        if given is not None and sizes[name] != model[name]:
            raise ConfigError(
                f"{given}: this makes codes with {name} {sizes[name]}, but the given codes or B-AE "
                f"have {model[name]}: leave it out, because the generator follows them."
            )


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level with dotted names, which suits dashboards."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        nested = isinstance(value, dict)
        found.update(flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value})
    return found


def _build(node: Any) -> Any:
    """Build a node with plain lists and dicts; return other values as they are."""
    return instantiate(node, _convert_="all") if isinstance(node, DictConfig) else node


def _build_all(nodes: Any) -> list[Any]:
    return [_build(node) for node in (nodes or {}).values() if node]


def _with_batches(config: DictConfig, world_size: int) -> DictConfig:
    """Return the configuration with the global batch split over devices and accumulation."""
    from bigr.training.data.batch import split_batch

    if config.global_batch_size is None:
        return config
    if config.trainer.accumulate_grad_batches != 1:
        raise ConfigError(
            "trainer.accumulate_grad_batches follows from global_batch_size: leave it out, or set "
            "global_batch_size=null."
        )
    if config.data.get("batch_size") is None:
        raise ConfigError(
            f"global_batch_size={config.global_batch_size} needs data.batch_size, which this data "
            "module does not have: set global_batch_size=null."
        )
    config = config.copy()
    size, steps = split_batch(config.global_batch_size, world_size, config.data.batch_size)
    config.data.batch_size, config.trainer.accumulate_grad_batches = size, steps
    return config


def _accelerator(value: Any) -> Any:
    """Return the accelerator for Lightning; a user's own object is returned as it is."""
    return lightning_accelerator(value) if isinstance(value, str) else value


def _build_trainer(
    node: DictConfig, module: Any, world_size: int, callbacks: list[Any], loggers: list[Any]
) -> Any:
    """Build the Trainer with the settings that the module asks for.

    A strategy may be a partial function: it is called with ``world_size``.
    """
    from bigr.training.checkpoint_files import DurableCheckpointIO
    from bigr.training.slurm import slurm_plugins

    settings = {str(key): _build(value) for key, value in node.items() if key != "_target_"}
    settings["accelerator"] = _accelerator(settings["accelerator"])
    if isinstance(settings["strategy"], functools.partial):
        settings["strategy"] = settings["strategy"](world_size=world_size)
    if hasattr(module, "configure_trainer"):
        settings = module.configure_trainer(settings, world_size)
    settings["callbacks"], settings["logger"] = callbacks, loggers or False
    settings["plugins"] = [DurableCheckpointIO(), *slurm_plugins()]
    return get_method(node["_target_"])(**settings)
