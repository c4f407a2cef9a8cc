"""Loggers that outlive an interruption."""

from __future__ import annotations

import csv
import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)


class ContinuedCSVLogger(CSVLogger):
    """``save_dir/name/metrics.csv``, continued by a run that goes on.

    Lightning's own logger deletes the earlier rows. Here those before the first step that is logged
    again stay; the steps after it are done anew, and so are their rows.

    Args:
        save_dir: the run's folder.
        name: of the folder in it.
    """

    def __init__(self, save_dir: str, name: str = "csv") -> None:
        # Every row at once: a killed run has those of all its checkpoints.
        super().__init__(save_dir, name, version="", flush_logs_every_n_steps=1)
        self._file = Path(self.log_dir) / "metrics.csv"
        self._earlier = _rows(self._file)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:
        """Write ``hparams.yaml``, the first thing a run does."""
        super().log_hyperparams(params)  # makes the writer, and that deletes the file
        self._write(self._earlier)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Record the metrics of a step."""
        if self._earlier and step is not None:
            self._write([row for row in self._earlier if int(row["step"]) < step])
            self._earlier = []
        super().log_metrics(metrics, step)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self._file.unlink(missing_ok=True)
        self.experiment.metrics = rows
        self.save()


class PatientWandbLogger(WandbLogger):
    """W&B that never ends a run: where it can't be reached, it logs offline instead.

    A run that goes on keeps its id, and so its curves.

    Args:
        init_timeout: seconds to wait for the server.
        **settings: of Lightning's logger.
    """

    def __init__(self, *, init_timeout: float = 30.0, **settings: Any) -> None:
        import wandb

        limits = wandb.Settings(init_timeout=init_timeout)
        super().__init__(resume="allow", settings=limits, **settings)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, started at the first use."""
        import wandb

        try:
            return super().experiment
        except wandb.errors.Error as error:
            reason = str(error).splitlines()[0]
            log.warning("W&B: %s; logging offline, wandb sync uploads later", reason)
            # The run that couldn't be started still holds its id.
            self._wandb_init.update(mode="offline", id=f"{self._wandb_init['id']}-offline")
            self._offline = True
            return super().experiment


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
