"""Finding the checkpoint to resume from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from bigr import BiGRConfig
from bigr.training.checkpoint_files import (
    DurableCheckpointIO,
    check_sizes,
    checkpoint_path,
    find_checkpoint,
    saved_checkpoints,
    step_of,
)
from tests.models import TINY, tiny_generator

CONTENT = {"state_dict": {}, "loops": {}, "optimizer_states": [], "global_step": 1}


def save(folder: Path, *steps: int) -> None:
    for step in steps:
        DurableCheckpointIO().save_checkpoint(CONTENT, checkpoint_path(folder, step))


def test_newest_first_by_number(tmp_path: Path) -> None:
    save(tmp_path, 99_999_999, 3, 100_000_000)
    (tmp_path / "step_best.ckpt").write_text("another file")
    assert [step_of(path) for path in saved_checkpoints(tmp_path)] == [100_000_000, 99_999_999, 3]


def test_which_one_to_resume_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find_checkpoint(None, tmp_path) is None
    assert find_checkpoint("auto", tmp_path) is None
    save(tmp_path, 1, 2)
    broken = checkpoint_path(tmp_path, 3)
    broken.write_bytes(b"PK")
    assert find_checkpoint("auto", tmp_path) == str(checkpoint_path(tmp_path, 2))
    assert "skipping" in caplog.text
    assert find_checkpoint(str(checkpoint_path(tmp_path, 1)), Path("nowhere")) is not None
    with pytest.raises(ValueError, match=r"resume=.*00003\.ckpt: it is cut off \(2 bytes\)"):
        find_checkpoint(str(broken), tmp_path)


def test_sizes_have_to_be_the_same(tmp_path: Path) -> None:
    config = BiGRConfig(**TINY)
    weights = {f"model.{name}": w for name, w in tiny_generator().state_dict().items()}
    about = {"kind": "generator", "config": dataclasses.asdict(config), "run": {}}
    torch.save({**CONTENT, "state_dict": weights, "bigr": about}, tmp_path / "a.ckpt")
    check_sizes(str(tmp_path / "a.ckpt"), "generator", config)
    check_sizes(None, "generator", config)
    with pytest.raises(ValueError, match="trained with num_layers=2, and this run has num_layers"):
        check_sizes(
            str(tmp_path / "a.ckpt"), "generator", dataclasses.replace(config, num_layers=1)
        )
