"""Loggers that outlive an interruption."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from bigr.data.files import write_atomically

log = logging.getLogger(__name__)


class ContinuedCSVLogger(CSVLogger):
    """``save_dir/name/metrics.csv``, continued by a run that goes on.

    Lightning's own logger deletes the earlier rows. Here those before the first step that is logged
    again stay; the steps after it are done anew, and so are their rows. A run that is killed at any
    moment has all rows that it wrote.

    Args:
        save_dir: the run's folder.
        name: of the folder in it.
    """

    def __init__(self, save_dir: str, name: str = "csv") -> None:
        # Every row at once: a killed run has those of all its checkpoints.
        super().__init__(save_dir, name, version="", flush_logs_every_n_steps=1)
        self._table: _Table | None = None
        self._is_first = True

    @property
    @rank_zero_experiment
    def experiment(self) -> _Table:
        """The file's writer."""
        if self._table is None:
            self._table = self._experiment = _Table(self.log_dir)
        return self._table

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Record the metrics of a step."""
        if self._is_first and step is not None:
            self._is_first = False
            self.experiment.go_back_to(step)
        super().log_metrics(metrics, step)


class _Table(ExperimentWriter):
    """Lightning's, which keeps an earlier run's file, and replaces it whole where it must."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self.path = Path(self.metrics_file_path)
        self.metrics_keys, _ = _read(self.path)

    def go_back_to(self, step: int) -> None:
        """Drop the rows of ``step`` and later ones, and what a killed run left unfinished."""
        if self.path.is_file():
            _, rows = _read(self.path)
            self._replace([row for row in rows if int(row["step"]) < step])

    def _replace(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=self.metrics_keys)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue().encode())

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:  # noqa: ARG002  # its own
        self._replace(_read(self.path)[1])

    def _check_log_dir_exists(self) -> None:
        """Lightning deletes the file here."""


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


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Names of the columns, and the whole rows."""
    if not path.is_file():
        return [], []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        names = list(reader.fieldnames or [])
        if "step" not in names:
            return [], []
        return names, [row for row in reader if _is_whole(row)]


def _is_whole(row: dict[str, str]) -> bool:
    return None not in row and None not in row.values() and row["step"].isdecimal()
