"""Train a generator or a B-AE: ``python -m bigr.train``, all settings in ``conf/train.yaml``."""

from __future__ import annotations

import dataclasses
import logging
import sys
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from bigr import cli
from bigr.config import ConfigError, resolved

log = logging.getLogger(__name__)

INTERRUPTED = 130
TERMINATED = 143
"""Exit codes as shells give them for SIGINT and SIGTERM."""


def main() -> None:
    """Command line."""
    cli.run("train", job)


def job(config: DictConfig) -> float | None:
    """One run: build everything, then fit.

    Returns:
        The metric ``config.optimized_metric``, for sweepers that optimise.
    """
    with cli.user_errors():
        output = Path(config.paths.output)
        resume = _resume(config.resume, output)
        settings = resolved(config)
        _check_codes(config)
    log.info("run folder: %s", output)

    cli.quieten_lightning()
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from bigr.data.broken import TooManyBrokenError
    from bigr.training.watch import CollapseError

    with cli.user_errors():
        run = _build(config, settings, resume)
    output.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(settings, output / "config.yaml")
    log.info("%s: %s parameters", run.module.kind, f"{_num_parameters(run.module):,}")
    for logger in run.trainer.loggers:
        logger.log_hyperparams(_flat(settings))
    trainer = run.trainer
    try:
        trainer.fit(run.module, datamodule=run.data, ckpt_path=resume, weights_only=True)
    except (TooManyBrokenError, CollapseError) as error:
        raise cli.UserError(str(error)) from error
    except SystemExit as stop:  # Lightning's answer to Ctrl-C and SIGTERM
        is_terminated = isinstance(stop, SIGTERMException)
        log.info("%s at step %d; %s", *_how_to_go_on(is_terminated, trainer.global_step, output))
        sys.exit(TERMINATED if is_terminated else INTERRUPTED)
    for name, value in sorted(trainer.callback_metrics.items()):
        log.info("%s: %.4f", name, float(value))
    with cli.user_errors():
        return _metric(config.optimized_metric, trainer.callback_metrics)


class _Run(NamedTuple):
    """What a configuration builds."""

    trainer: Any
    module: Any
    data: Any


def _build(config: DictConfig, settings: dict[str, Any], resume: str | None) -> _Run:
    """Everything up to the first step, with all that can be checked.

    Raises:
        ValueError: if something doesn't fit.
    """
    import lightning
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    lightning.seed_everything(config.seed, workers=True, verbose=False)
    data = instantiate(config.data)
    module = instantiate(config.task)
    module.run_config = settings
    callbacks = [instantiate(node) for node in (config.get("callbacks") or {}).values() if node]
    loggers = [instantiate(node) for node in (config.get("logger") or {}).values() if node]
    try:
        trainer_settings = _for_manual_steps(config.trainer, module)
        trainer = instantiate(trainer_settings, callbacks=callbacks, logger=loggers or False)
        data.prepare_data()
        data.setup("fit")
        module.check(data)
        _check_resume(resume, module)
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {error}") from error
    return _Run(trainer, module, data)


def _for_manual_steps(settings: DictConfig, module: Any) -> DictConfig:
    """A module that steps its optimisers itself clips and accumulates itself, too.

    Its networks take part in different backward passes, which DDP has to be told.
    """
    if module.automatic_optimization:
        return settings
    settings = settings.copy()
    if str(settings.precision).startswith("16"):
        raise ConfigError(
            f"trainer.precision={settings.precision} doesn't go with two optimisers: use "
            "bf16-mixed or 32-true."
        )
    module.gradient_clip_val = settings.gradient_clip_val
    module.accumulate_grad_batches = settings.accumulate_grad_batches
    settings.gradient_clip_val, settings.accumulate_grad_batches = None, 1
    if settings.strategy == "ddp" or (settings.strategy == "auto" and _is_parallel(settings)):
        settings.strategy = "ddp_find_unused_parameters_true"
    return settings


def _is_parallel(settings: DictConfig) -> bool:
    """Whether Lightning would take several devices."""
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
    return probe.world_size > 1


def _how_to_go_on(is_terminated: bool, step: int, output: Path) -> tuple[str, int, str]:
    what = "terminated" if is_terminated else "interrupted"
    if not (output / "checkpoints" / "last.ckpt").exists():
        return what, step, "nothing was saved yet"
    return what, step, f"go on with the same command and hydra.run.dir={output} resume=auto"


def _num_parameters(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _check_codes(config: DictConfig) -> None:
    """Compare the B-AE's sizes with the generator's before anything heavy is imported."""
    path = config.task.get("autoencoder")
    if not isinstance(path, str):
        return
    from bigr.checkpoints.load import autoencoder_config
    from bigr.checkpoints.read import read_checkpoint

    sizes = autoencoder_config(read_checkpoint(path, "autoencoder"))
    for name, fix in (("code_dim", "code"), ("grid_size", "resolution")):
        ours, theirs = config.model[name], getattr(sizes, name)
        if ours != theirs:
            raise ConfigError(
                f"task.autoencoder={path} makes codes with {name} {theirs}, but model.{name} is "
                f"{ours}: choose another {fix}=… or another B-AE."
            )


def _resume(resume: str | None, output: Path) -> str | None:
    """The checkpoint to go on from."""
    last = output / "checkpoints" / "last.ckpt"
    if resume is None:
        if last.exists():
            raise ConfigError(
                f"{output} already holds a run: add resume=auto to go on with it, or choose "
                "another hydra.run.dir."
            )
        return None
    if resume == "auto":
        return str(last) if last.exists() else None
    if not Path(resume).expanduser().is_file():
        raise ConfigError(
            f"resume={resume}: there is no such file. Give a Lightning checkpoint (.ckpt) of an "
            "earlier run, or resume=auto."
        )
    return str(Path(resume).expanduser())


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
