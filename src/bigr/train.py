"""Train a generator or a B-AE: ``python -m bigr.train``, settings in ``conf/train.yaml``."""

from __future__ import annotations

import dataclasses
import logging
import signal
import sys
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig, OmegaConf

from bigr.cli import entry as cli
from bigr.cli import reports
from bigr.cli.configuration import ConfigError, resolved
from bigr.cli.next_steps import chosen_option
from bigr.cli.training_run import build_run, check_codes, flat
from bigr.schema import ExistingPath, NonNegativeInt, PositiveInt

log = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class TrainSettings:
    """The values at the top level of ``conf/train.yaml``."""

    seed: NonNegativeInt
    global_batch_size: PositiveInt | None
    resume: Literal["auto"] | ExistingPath | None
    optimized_metric: str | None


def main() -> None:
    """Run the command from its arguments."""
    cli.run("train", job, settings=TrainSettings, before=_check_run_folder)


def job(config: DictConfig) -> float | None:
    """Train, and return the metric ``config.optimized_metric`` for sweepers that optimise it."""
    with cli.run_folder(config) as output:
        return _train(config, output)


def _train(config: DictConfig, output: Path) -> float | None:
    # 1. Checks that need neither Lightning nor the data.
    with cli.user_errors():
        resolved(config)
        _check_run_folder(config)  # again, because another command may have run in the meantime
        check_codes(config)
    log.info("run folder: %s", output)
    cli.quieten_lightning()
    from bigr.data.broken import TooManyBrokenError
    from bigr.data.codes_format import StoreError
    from bigr.training.callbacks.collapse import CollapseError
    from bigr.training.callbacks.weight_export import ExportError
    from bigr.training.checkpoint_files import find_checkpoint
    from bigr.training.stopping import CannotStartError, Stopped

    # 2. Build the run, and record its settings.
    with cli.user_errors():
        resume = find_checkpoint(config.resume, output / "checkpoints")
        trainer, module, data, settings = build_run(config, resume)
    if trainer.is_global_zero:
        output.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(settings, output / "config.yaml")
    for logger in trainer.loggers:
        logger.log_hyperparams(flat(settings))
    # 3. Train.
    stops = (TooManyBrokenError, StoreError, CollapseError, ExportError, CannotStartError)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except stops as error:
        raise cli.UserError(str(error)) from error
    except SystemExit as stop:  # raised by Lightning after a second Ctrl-C, or by our callback
        signum = stop.signum if isinstance(stop, Stopped) else signal.SIGINT
        _say_how_to_resume(signum, trainer.global_step, output)
        sys.exit(128 + signum)  # the exit code that shells expect
    if trainer.is_global_zero:
        experiment = chosen_option("experiment")
        for line in reports.training_summary(trainer, output, settings, experiment):
            log.info("%s", line)
    with cli.user_errors():
        return reports.figure(config.optimized_metric, {"figures": trainer.callback_metrics})


def _check_run_folder(config: DictConfig) -> None:
    """Raise ``ConfigError`` instead of overwriting a run."""
    checkpoints = Path(str(config.paths.output), "checkpoints")
    if config.resume is None and any(checkpoints.glob("step_*.ckpt")):
        raise ConfigError(
            f"{checkpoints.parent} already holds a run: add resume=auto to resume it, or choose "
            "another hydra.run.dir."
        )


def _say_how_to_resume(signum: int, step: int, output: Path) -> None:
    from bigr.training.checkpoint_files import saved_checkpoints

    what = f"stopped by {signal.Signals(signum).name}"
    if not saved_checkpoints(output / "checkpoints"):
        log.info("%s at step %d; no checkpoint has been saved yet", what, step)
    else:
        how = f"resume with the same command and hydra.run.dir={output} resume=auto"
        log.info("%s at step %d; %s", what, step, how)


if __name__ == "__main__":
    main()
