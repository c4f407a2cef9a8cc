"""Train a generator or a B-AE: ``python -m bigr.train``, all settings in ``conf/train.yaml``."""

from __future__ import annotations

import dataclasses
import logging
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from bigr.cli import entry as cli
from bigr.cli.configuration import ConfigError, resolved
from bigr.schema import NonNegativeInt, PositiveInt

log = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class Settings:
    """The values at the top level of the configuration ``conf/train.yaml``."""

    seed: NonNegativeInt
    global_batch_size: PositiveInt | None
    resume: str | None
    optimized_metric: str | None


def main() -> None:
    """Command line."""
    cli.run("train", job, settings=Settings)


def job(config: DictConfig) -> float | None:
    """One run: build everything, then fit.

    Returns:
        The metric ``config.optimized_metric``, for sweepers that optimise.
    """
    with cli.user_errors():
        output = Path(config.paths.output)
        resolved(config)  # fails now if it fails
        _check_run_folder(config.resume, output)
        _check_codes(config)
    log.info("run folder: %s", output)

    cli.quieten_lightning()
    from bigr.data.broken import TooManyBrokenError
    from bigr.training.callbacks.collapse import CollapseError
    from bigr.training.stopping import Stopped

    with cli.user_errors():
        resume = _resume(config.resume, output)
        run = _build(config, resume)
    trainer, settings = run.trainer, run.module.run_config
    if trainer.is_global_zero:
        output.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(settings, output / "config.yaml")
    for logger in trainer.loggers:
        logger.log_hyperparams(_flat(settings))
    try:
        trainer.fit(run.module, datamodule=run.data, ckpt_path=resume, weights_only=True)
    except (TooManyBrokenError, CollapseError) as error:
        raise cli.UserError(str(error)) from error
    except SystemExit as stop:  # Lightning's answer to a second Ctrl-C, or ours to a signal
        signum = stop.signum if isinstance(stop, Stopped) else signal.SIGINT
        _say_how_to_go_on(signum, trainer.global_step, output)
        sys.exit(128 + signum)  # as shells give it
    for name, value in sorted(trainer.callback_metrics.items()):
        log.info("%s: %.4f", name, float(value))
    with cli.user_errors():
        return _metric(config.optimized_metric, trainer.callback_metrics)


class _Run(NamedTuple):
    """What a configuration builds."""

    trainer: Any
    module: Any
    data: Any


def _build(config: DictConfig, resume: str | None) -> _Run:
    """Everything up to the first step, with all that can be checked.

    Raises:
        ValueError: if something doesn't fit.
    """
    import lightning
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from bigr.training.callbacks.run_plan import code_version

    lightning.seed_everything(config.seed, workers=True, verbose=False)
    config = _with_batches(config)
    data = instantiate(config.data)
    module = instantiate(config.task)
    module.run_config = {**resolved(config), "version": code_version()}
    callbacks = [instantiate(node) for node in (config.get("callbacks") or {}).values() if node]
    loggers = [instantiate(node) for node in (config.get("logger") or {}).values() if node]
    try:
        trainer_settings = _trainer_settings(config.trainer, module)
        trainer = instantiate(
            trainer_settings, callbacks=callbacks, logger=loggers or False, plugins=_plugins()
        )
        data.prepare_data()
        data.setup("fit")
        module.check(data)
        for callback in callbacks:
            if hasattr(callback, "check"):
                callback.check(trainer, module)
        _check_resume(resume, module)
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {error}") from error
    return _Run(trainer, module, data)


def _trainer_settings(settings: DictConfig, module: Any) -> DictConfig:
    """What the trainer needs to know about the module.

    A module that steps its optimisers itself clips and accumulates itself, too, and its networks
    take part in different backward passes, which DDP has to be told.
    """
    settings = settings.copy()
    strategy = settings.strategy
    is_sharded = "data_parallel_size" in strategy
    if is_sharded and module.kind != "generator":
        raise ConfigError("strategy=fsdp is for the generator: take strategy=ddp for a B-AE.")
    if is_sharded:
        strategy.data_parallel_size = _world_size(settings)
    if module.automatic_optimization:
        return settings
    if str(settings.precision).startswith("16"):
        raise ConfigError(
            f"trainer.precision={settings.precision} doesn't go with two optimisers: use "
            "bf16-mixed or 32-true."
        )
    module.gradient_clip_val = settings.gradient_clip_val
    module.accumulate_grad_batches = settings.accumulate_grad_batches
    settings.gradient_clip_val, settings.accumulate_grad_batches = None, 1
    is_ddp = strategy == "ddp" or "static_graph" in strategy
    if is_ddp or (strategy == "auto" and _world_size(settings) > 1):
        settings.strategy = "ddp_find_unused_parameters_true"
    return settings


def _with_batches(config: DictConfig) -> DictConfig:
    """The configuration with the global batch shared out: per device, and accumulated."""
    from bigr.training.data.batch import split_batch

    if config.global_batch_size is None:
        return config
    if config.trainer.accumulate_grad_batches != 1:
        raise ConfigError(
            "trainer.accumulate_grad_batches follows from global_batch_size: leave it out, or set "
            "global_batch_size=null."
        )
    config = config.copy()
    size, steps = split_batch(
        config.global_batch_size, _world_size(config.trainer), config.data.batch_size
    )
    config.data.batch_size, config.trainer.accumulate_grad_batches = size, steps
    return config


def _plugins() -> list[Any]:
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    from bigr.training.callbacks.checkpointing import DurableCheckpointIO

    plugins: list[Any] = [DurableCheckpointIO()]
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        # Lightning's own answer to SIGUSR1 saves in the middle of a step.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return plugins


def _world_size(settings: DictConfig) -> int:
    """Devices that Lightning would take, on all nodes."""
    import lightning

    probe = lightning.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    return int(probe.world_size)


def _say_how_to_go_on(signum: int, step: int, output: Path) -> None:
    from bigr.training.callbacks.checkpointing import saved_checkpoints

    what = f"stopped by {signal.Signals(signum).name}"
    if not saved_checkpoints(output / "checkpoints"):
        log.info("%s at step %d; nothing was saved yet", what, step)
    else:
        how = f"go on with the same command and hydra.run.dir={output} resume=auto"
        log.info("%s at step %d; %s", what, step, how)


def _check_codes(config: DictConfig) -> None:
    """Compare the B-AE's sizes with the generator's before anything heavy is imported."""
    path = config.task.get("autoencoder")
    if not isinstance(path, str):
        return
    from bigr.checkpoints.load import autoencoder_config
    from bigr.checkpoints.read import read_checkpoint

    sizes = autoencoder_config(read_checkpoint(path, "autoencoder"))
    for name, fix in (("code_dim", "autoencoder"), ("grid_size", "resolution")):
        ours, theirs = config.model[name], getattr(sizes, name)
        if ours != theirs:
            raise ConfigError(
                f"task.autoencoder={path} makes codes with {name} {theirs}, but model.{name} is "
                f"{ours}: choose another {fix}=… or another B-AE."
            )


def _check_run_folder(resume: str | None, output: Path) -> None:
    """Neither overwrite a run nor look for one in vain."""
    if resume is None and any((output / "checkpoints").glob("step_*.ckpt")):
        raise ConfigError(
            f"{output} already holds a run: add resume=auto to go on with it, or choose another "
            "hydra.run.dir."
        )
    if resume not in (None, "auto") and not Path(str(resume)).expanduser().is_file():
        raise ConfigError(
            f"resume={resume}: there is no such file. Give a Lightning checkpoint (.ckpt) of an "
            "earlier run, or resume=auto."
        )


def _resume(resume: str | None, output: Path) -> str | None:
    """The checkpoint to go on from."""
    from bigr.training.callbacks.checkpointing import newest_whole, what_is_wrong

    if resume is None:
        return None
    if resume == "auto":
        found = newest_whole(output / "checkpoints")
        log.info("going on from %s", found) if found else log.info("nothing to go on from yet")
        return None if found is None else str(found)
    path = Path(resume).expanduser()
    problem = what_is_wrong(path)
    if problem is not None:
        raise ConfigError(f"resume={path}: {problem}. Give another one, or resume=auto.")
    return str(path)


def _check_resume(resume: str | None, module: Any) -> None:
    """Compare the checkpoint's sizes with the module's, before the trainer loads it."""
    if resume is None:
        return
    from bigr.checkpoints.read import read_checkpoint

    saved = read_checkpoint(resume, module.kind).config or {}
    ours = dataclasses.asdict(module.network_config)
    for name, value in ours.items():
        # Training checkpoints hold tuples or lists, by the way they were saved.
        before = tuple(saved[name]) if isinstance(value, tuple) else saved.get(name)
        if before != value:
            raise ConfigError(
                f"resume={resume} was trained with {name}={before}, and this run has "
                f"{name}={value}: use the settings of its run (config.yaml beside checkpoints/)."
            )


def _metric(name: str | None, metrics: Any) -> float | None:
    if name is None:
        return None
    if name not in metrics:
        raise ConfigError(
            f"optimized_metric={name}: this run logged {', '.join(sorted(metrics)) or 'nothing'}."
        )
    return float(metrics[name])


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names, as dashboards show them best."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


if __name__ == "__main__":
    main()
