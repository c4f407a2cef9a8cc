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

    A resumed run keeps the rows before its first logged step and replaces the later ones, because
    it repeats those steps. A run that is killed at any moment keeps all rows that it wrote: the
    file is replaced atomically when a new column or a resume changes it.

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
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Append the metrics of a step."""
        row = {name: getattr(value, "item", lambda v=value: v)() for name, value in metrics.items()}
        row[STEP] = 0 if step is None else step
        # 1. At the first row: drop the steps that are repeated, and a row that was cut off.
        if not self._is_open:
            self._is_open = True
            self.folder.mkdir(parents=True, exist_ok=True)
            self._columns, rows = read_rows(self.path)
            self._replace([old for old in rows if step is None or int(old[STEP]) < step])
        # 2. A new column changes the header.
        new = row.keys() - set(self._columns)
        if new:
            rows = read_rows(self.path)[1]
            self._columns = sorted([*self._columns, *new])
            self._replace(rows)
        # 3. The row itself.
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _replace(self, rows: list[dict[str, str]]) -> None:
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
    """W&B that never ends a run: if the server cannot be reached, it logs offline instead.

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
