"""Finding the checkpoint to resume from."""

from __future__ import annotations

import dataclasses
import os
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

WEIGHTS = torch.arange(1000.0)
CONTENT = {
    "state_dict": {"w": WEIGHTS},
    "loops": {},
    "optimizer_states": [],
    "global_step": 1,
}


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
    with pytest.raises(
        ValueError, match=r"resume=.*00003\.ckpt: it is damaged or truncated \(2 bytes\)"
    ):
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


def test_a_setting_that_an_older_version_lacks_had_its_default(tmp_path: Path) -> None:
    config = BiGRConfig(**TINY)
    weights = {f"model.{name}": w for name, w in tiny_generator().state_dict().items()}
    sizes = {k: v for k, v in dataclasses.asdict(config).items() if k != "attention"}
    about = {"kind": "generator", "config": sizes, "run": {}}
    torch.save({**CONTENT, "state_dict": weights, "bigr": about}, tmp_path / "a.ckpt")
    check_sizes(str(tmp_path / "a.ckpt"), "generator", config)
    other = dataclasses.replace(config, attention="causal")
    with pytest.raises(ValueError, match=r"attention=bidirectional, and this run has .*=causal"):
        check_sizes(str(tmp_path / "a.ckpt"), "generator", other)


def flip(path: Path) -> Path:
    """Flip the last bit of one of the weights."""
    data = bytearray(path.read_bytes())
    data[data.index(WEIGHTS[500:510].numpy().tobytes())] ^= 1
    path.write_bytes(data)
    return path


def test_damaged_ones_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1, 2, 3)
    newest = flip(checkpoint_path(tmp_path, 3))
    torch.save({**CONTENT, "state_dict": {}}, checkpoint_path(tmp_path, 2))
    assert find_checkpoint("auto", tmp_path) == str(checkpoint_path(tmp_path, 2))
    assert f"skipping {newest}: it is damaged (Bad CRC-32 for file" in caplog.text
    assert newest.is_file()
    with pytest.raises(ValueError, match=r"resume=.*3\.ckpt: it is damaged .* or resume=auto"):
        find_checkpoint(str(newest), tmp_path)
    monkeypatch.setenv("BIGR_VERIFY", "0")
    assert find_checkpoint("auto", tmp_path) == str(newest)


def test_a_run_does_not_start_again_if_all_are_damaged(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for step in (1, 2):
        flip(checkpoint_path(tmp_path, step))
    with pytest.raises(ValueError, match=r"none of the 2 checkpoints .* can be used\. The oldest"):
        find_checkpoint("auto", tmp_path)


def test_special_files_and_other_contents(tmp_path: Path) -> None:
    os.mkfifo(checkpoint_path(tmp_path, 3))
    checkpoint_path(tmp_path, 2).mkdir()
    torch.save(3, checkpoint_path(tmp_path, 1))
    save(tmp_path, 0)
    assert find_checkpoint("auto", tmp_path) == str(checkpoint_path(tmp_path, 0))
    for step, problem in (
        (3, "is a named pipe"),
        (2, r"is a folder, .* is needed here\. Give another"),
        (1, "holds a int"),
    ):
        with pytest.raises(ValueError, match=problem):
            find_checkpoint(str(checkpoint_path(tmp_path, step)), tmp_path)
