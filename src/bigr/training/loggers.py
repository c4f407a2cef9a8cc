"""Loggers that continue after an interruption."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from bigr.data.files import write_atomically
from bigr.schema import PositiveFloat, checked

log = logging.getLogger(__name__)

STEP = "step"


class ResumableCSVLogger(Logger):
    """Appends each row to ``<save_dir>/<name>/metrics.csv`` at once.

    A run that is killed at any moment keeps all rows that it wrote: the file is replaced atomically
    when a new column or a resume changes it. A resumed run keeps the rows from before its
    checkpoint and repeats the later ones, see :meth:`continue_at`.

    Args:
        save_dir: folder of the run.
        name: name of the folder in it.
    """

    @checked
    def __init__(self, save_dir: str, name: str = "csv") -> None:
        super().__init__()
        self._name = name
        self.folder = Path(save_dir) / name
        self.path = self.folder / "metrics.csv"
        self.num_rows = 0
        """Number of rows in the file, once it is open."""
        self._columns: list[str] = []
        self._is_open = False

    @property
    def name(self) -> str:
        """The name of the folder in the run's folder."""
        return self._name

    @property
    def version(self) -> str:
        """Always empty: there is one file per run."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Write the settings of the run to ``hparams.yaml``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        save_hparams_to_yaml(self.folder / "hparams.yaml", params)

    @rank_zero_only
    def continue_at(self, step: int, num_rows: int | None = None) -> None:
        """Open the file, and drop the rows of steps that are repeated and a row that was cut off.

        Args:
            step: the next step; rows of this and of later steps are dropped.
            num_rows: number of rows when the checkpoint was saved, if it is known. Later rows are
                dropped as well: the validation of the step before may be repeated.
        """
        self._is_open = True
        self.folder.mkdir(parents=True, exist_ok=True)
        self._columns, rows = read_rows(self.path)
        if self._columns:
            self._replace([row for row in rows[:num_rows] if int(row[STEP]) < step])

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Append the metrics of a step; the first call opens the file, unless it is open."""
        row = {name: getattr(value, "item", lambda v=value: v)() for name, value in metrics.items()}
        row[STEP] = 0 if step is None else step
        if not self._is_open:
            self.continue_at(row[STEP])
        # A new column changes the header.
        new = row.keys() - set(self._columns)
        if new:
            rows = read_rows(self.path)[1]
            self._columns = sorted([*self._columns, *new])
            self._replace(rows)
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)
        self.num_rows += 1

    def _replace(self, rows: list[dict[str, str]]) -> None:
        self.num_rows = len(rows)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue().encode())


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns and the complete rows of a file of metrics; none if it is not one."""
    if not path.is_file():
        return [], []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        names = list(reader.fieldnames or [])
        if STEP not in names:
            return [], []
        return names, [row for row in reader if _is_complete(row)]


def _is_complete(row: dict[str, str]) -> bool:
    return None not in row and None not in row.values() and row[STEP].isdecimal()


class PatientWandbLogger(WandbLogger):
    """A W&B logger that never ends a run: without a connection, it logs offline instead.

    A resumed run keeps its id, and therefore its curves.

    Args:
        init_timeout: seconds to wait for the server.
        **settings: see Lightning's ``WandbLogger``.
    """

    @checked
    def __init__(self, *, init_timeout: PositiveFloat = 30.0, **settings: Any) -> None:
        import wandb

        limits = wandb.Settings(init_timeout=init_timeout)
        self.arguments = {"resume": "allow", "settings": limits, **settings}
        super().__init__(**self.arguments)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, started at the first access."""
        import wandb

        try:
            return super().experiment
        except wandb.errors.Error as error:
            reason = str(error).splitlines()[0]
            log.warning("W&B: %s; logging offline, wandb sync uploads later", reason)
            # The run that could not be started still occupies its id.
            changes = {"id": f"{self.arguments.get('id')}-offline", "mode": "offline"}
            super().__init__(**{**self.arguments, **changes, "offline": True})
            return super().experiment
