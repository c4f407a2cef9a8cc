"""The checkpoint files of a run: writing them safely, and finding the one to resume from."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from bigr.checkpoints.archives import find_damage
from bigr.checkpoints.errors import SaveError, saving
from bigr.checkpoints.read import read_checkpoint
from bigr.data.files import SpecialFileError, check_regular, is_verifying

log = logging.getLogger(__name__)

PATTERN = "step_*.ckpt"
TEMPORARY = f".{PATTERN}.*.part"
"""The files that :func:`bigr.data.files.replacing` leaves if the process is killed."""
REQUIRED = ("state_dict", "loops", "optimizer_states", "global_step")
AUTO = "auto"
TRAINED = "trained"
"""Key in the entry "bigr" with the names of the trained parameters."""


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name, flushes it to disk, and renames it.

    If that fails, for example because the disk is full, it logs an error and the run continues
    without that checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write ``checkpoint`` to ``path``, or log an error."""
        target = Path(path)
        try:
            with saving(target) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
        except SaveError as error:
            log.error("CHECKPOINT NOT SAVED: %s: %s", target, error.reason)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint of an optimiser step."""
    return folder / f"step_{step:08d}.ckpt"


def step_of(path: Path) -> int:
    """Return the optimiser step of a checkpoint, from its name."""
    return int(path.stem.removeprefix("step_"))


def saved_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, the newest first."""
    return sorted((p for p in folder.glob(PATTERN) if p.stem[5:].isdigit()), key=step_of)[::-1]


def newest_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint in ``folder`` that is intact, or None if there is none at all.

    Every newer one is left where it is, and a warning says what is wrong with it.

    Raises:
        ValueError: if there are checkpoints, but none of them is intact.
    """
    saved = saved_checkpoints(folder)
    for path in saved:
        problem = what_is_wrong(path)
        if problem is None:
            return path
        log.warning("skipping %s: %s", path, problem)
    if saved:
        raise ValueError(
            f"resume=auto: none of the {len(saved)} checkpoints in {folder} can be used. The "
            f"oldest one, {path.name}: {problem}. To start again, choose another hydra.run.dir."
        )
    return None


def what_is_wrong(path: Path) -> str | None:
    """Return why training cannot resume from a file, or None.

    All records of the file are compared with their checksums, unless ``BIGR_VERIFY=0``.
    """
    try:
        check_regular(path)
        damage = find_damage(path) if is_verifying() else None
        if damage is not None:
            return damage
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except SpecialFileError as error:
        return str(error).rstrip(".")
    except Exception as error:  # a broken file can make the reader raise anything
        return f"it can't be read ({type(error).__name__})"
    if not isinstance(content, Mapping):
        return f"it holds a {type(content).__name__}, not a checkpoint"
    missing = [name for name in REQUIRED if name not in content]
    return f"it has no {', '.join(missing)}" if missing else None


def find_checkpoint(resume: str | None, folder: Path) -> str | None:
    """Return the checkpoint to resume from, or None for a new run.

    Args:
        resume: a path, ``auto`` for the newest intact checkpoint in ``folder``, or None.
        folder: the checkpoints of this run.

    Raises:
        ValueError: if the checkpoint at the path is damaged, or all that ``auto`` finds.
    """
    if resume is None:
        return None
    if resume == AUTO:
        found = newest_whole(folder)
        log.info("resuming from %s", found) if found else log.info(
            "starting a new run: there is no checkpoint yet"
        )
        return None if found is None else str(found)
    path = Path(resume).expanduser()
    problem = what_is_wrong(path)
    if problem is not None:
        raise ValueError(f"resume={path}: {problem}. Give another checkpoint, or resume=auto.")
    return str(path)


def check_sizes(resume: str | None, kind: str, config: Any) -> None:
    """Raise ``ValueError`` unless a checkpoint was trained with the sizes of this run.

    A setting that an older version of this package did not know had its default value.

    Args:
        resume: path of a checkpoint that :func:`find_checkpoint` has verified; None is not checked.
        kind: ``generator`` or ``autoencoder``.
        config: dataclass with the sizes of this run's network.
    """
    if resume is None:
        return
    saved = read_checkpoint(resume, kind, verify=False).config or {}
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name, value in dataclasses.asdict(config).items():
        # A checkpoint holds lists or tuples, depending on how it was saved.
        before = saved.get(name, defaults[name])
        before = tuple(before) if isinstance(before, list) else before
        if before != value:
            raise ValueError(
                f"resume={resume} was trained with {name}={before}, and this run has "
                f"{name}={value}: use the settings of its run (config.yaml beside checkpoints/)."
            )


def check_trained(resume: str | None, trained: Collection[str]) -> None:
    """Raise ``ValueError`` unless a checkpoint was trained with the same frozen parameters.

    Args:
        resume: path of a checkpoint that :func:`find_checkpoint` has verified; None is not checked.
        trained: names of the parameters of this run that are trained.
    """
    if resume is None:
        return
    content = torch.load(resume, map_location="cpu", weights_only=True, mmap=True)
    before = content.get("bigr", {}).get(TRAINED)
    if before is not None and set(before) != set(trained):
        raise ValueError(
            f"resume={resume} was trained with other values of task.freeze, task.train or task.lora"
            ": use the settings of its run (config.yaml beside checkpoints/)."
        )
