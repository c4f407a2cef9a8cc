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
    cli.run("train", job, settings=TrainSettings)


def job(config: DictConfig) -> float | None:
    """Train, and return the metric ``config.optimized_metric`` for sweepers that optimise it."""
    output = Path(config.paths.output)
    # 1. Checks that need neither Lightning nor the data.
    with cli.user_errors():
        resolved(config)
        _check_run_folder(config.resume, output)
        check_codes(config)
    log.info("run folder: %s", output)
    cli.quieten_lightning()
    from bigr.data.broken import TooManyBrokenError
    from bigr.training.callbacks.collapse import CollapseError
    from bigr.training.checkpoint_files import find_checkpoint
    from bigr.training.stopping import Stopped

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
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except (TooManyBrokenError, CollapseError) as error:
        raise cli.UserError(str(error)) from error
    except SystemExit as stop:  # raised by Lightning after a second Ctrl-C, or by our callback
        signum = stop.signum if isinstance(stop, Stopped) else signal.SIGINT
        _say_how_to_resume(signum, trainer.global_step, output)
        sys.exit(128 + signum)  # the exit code that shells expect
    for name, value in sorted(trainer.callback_metrics.items()):
        log.info("%s: %.4f", name, float(value))
    with cli.user_errors():
        return reports.figure(config.optimized_metric, {"figures": trainer.callback_metrics})


def _check_run_folder(resume: str | None, output: Path) -> None:
    """Raise ``ConfigError`` instead of overwriting a run."""
    if resume is None and any((output / "checkpoints").glob("step_*.ckpt")):
        raise ConfigError(
            f"{output} already holds a run: add resume=auto to resume it, or choose another "
            "hydra.run.dir."
        )


def _say_how_to_resume(signum: int, step: int, output: Path) -> None:
    from bigr.training.checkpoint_files import saved_checkpoints

    what = f"stopped by {signal.Signals(signum).name}"
    if not saved_checkpoints(output / "checkpoints"):
        log.info("%s at step %d; no checkpoint was saved yet", what, step)
    else:
        how = f"resume with the same command and hydra.run.dir={output} resume=auto"
        log.info("%s at step %d; %s", what, step, how)


if __name__ == "__main__":
    main()
