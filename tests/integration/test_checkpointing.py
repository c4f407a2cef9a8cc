"""When checkpoints are made, what is left when that fails, which one a run goes on from."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from bigr.training.callbacks.checkpointing import Checkpoints
from bigr.training.checkpoint_files import (
    DurableCheckpointIO,
    newest_whole,
    saved_checkpoints,
    what_is_wrong,
)
from tests.integration.test_training import GENERATOR, build, codes, fit
from tests.processes import python

__all__ = ["GENERATOR", "codes"]  # a fixture
ROOT = Path(__file__).parents[2]


def names(folder: Path) -> list[int]:
    return [int(path.stem[5:]) for path in saved_checkpoints(folder)]


def test_what_is_kept(tmp_path: Path, codes: Path) -> None:
    saver = Checkpoints(str(tmp_path), every_n_steps=2, keep_last=2, keep_every_n_steps=4)
    fit(build("generator", codes), tmp_path, 11, saver, enable_checkpointing=True)
    assert names(tmp_path) == [11, 10, 8, 4]


def test_every_so_many_minutes(
    tmp_path: Path, codes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"now": 0.0}
    monkeypatch.setattr(
        "bigr.training.callbacks.checkpointing.time.monotonic", lambda: clock["now"]
    )

    class Tick(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            clock["now"] += 60.0

    saver = Checkpoints(str(tmp_path), every_minutes=4.0, keep_last=9)
    fit(build("generator", codes), tmp_path, 13, Tick(), saver, enable_checkpointing=True)
    assert names(tmp_path) == [13, 12, 8, 4]


def test_a_broken_checkpoint_is_passed_over(
    tmp_path: Path, codes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saver = Checkpoints(str(tmp_path), every_n_steps=1, keep_last=9)
    fit(build("generator", codes), tmp_path, 5, saver, enable_checkpointing=True)
    assert names(tmp_path) == [5, 4, 3, 2, 1]
    whole = (tmp_path / "step_00000005.ckpt").read_bytes()
    for share in (0.0, 0.3, 0.999):
        (tmp_path / "step_00000005.ckpt").write_bytes(whole[: int(share * len(whole))])
        assert newest_whole(tmp_path) == tmp_path / "step_00000004.ckpt"
        assert "skipping" in caplog.text
        assert "it is cut off" in caplog.text
        caplog.clear()
    (tmp_path / "step_00000004.ckpt").write_text("<!doctype html>")
    torch.save({"state_dict": {}}, tmp_path / "step_00000003.ckpt")
    assert newest_whole(tmp_path) == tmp_path / "step_00000002.ckpt"
    assert what_is_wrong(tmp_path / "step_00000003.ckpt") == (
        "it has no loops, optimizer_states, global_step"
    )
    assert newest_whole(tmp_path / "nothing") is None


def test_left_overs_of_a_killed_process_are_removed(tmp_path: Path, codes: Path) -> None:
    (tmp_path / ".step_00000002.ckpt.123.part").write_text("half")
    saver = Checkpoints(str(tmp_path))
    fit(build("generator", codes), tmp_path, 1, saver, enable_checkpointing=True)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001.ckpt"]


FULL = """
import logging, resource, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from lightning.pytorch.callbacks import Callback
from bigr.checkpoints.native import save_autoencoder
from bigr.training.callbacks.checkpointing import Checkpoints
from bigr.training.checkpoint_files import DurableCheckpointIO, saved_checkpoints
from tests.integration.test_training import build, fit
from tests.models import tiny_autoencoder

logging.basicConfig(level=logging.ERROR)
here = Path(".").resolve()
a = save_autoencoder(tiny_autoencoder(image_size=16, channel_multipliers=(1, 1, 1)), here / "a.st")
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
seen = {{}}

class Disk(Callback):
    def on_train_batch_start(self, trainer, *_):
        full = 4 <= trainer.global_step < 8
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000 if full else soft, hard))
        seen[trainer.global_step] = [path.name for path in saved_checkpoints(here)]

saver = Checkpoints(str(here), every_n_steps=2, retry_after_minutes=1e-9, keep_last=1)
fit(build("generator", a), here, 12, Disk(), saver, enable_checkpointing=True,
    plugins=[DurableCheckpointIO()])
import json
print(json.dumps(seen))
"""


def test_a_full_disk_ends_nothing(tmp_path: Path) -> None:
    """While no file may grow beyond 20 kB, the last whole checkpoint stays; then it goes on."""
    (tmp_path / "full.py").write_text(FULL.format(root=str(ROOT)))
    result = python("full.py", cwd=tmp_path, OMP_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr
    assert "CHECKPOINT NOT SAVED" in result.stderr
    assert "File too large" in result.stderr
    seen = json.loads(result.stdout.splitlines()[-1])
    assert seen["4"] == seen["7"] == seen["8"] == ["step_00000004.ckpt"]
    assert seen["9"] == ["step_00000009.ckpt"]  # tried again at the first step that it could
    assert [path.name for path in saved_checkpoints(tmp_path)] == ["step_00000012.ckpt"]
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


def test_impossible_settings() -> None:
    with pytest.raises(ValueError, match=r"keep_last must be a positive integer or null, got 0"):
        Checkpoints("x", keep_last=0)


def test_saving_streams_and_is_atomic(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = tmp_path / "deep" / "step_00000001.ckpt"
    DurableCheckpointIO().save_checkpoint({"a": torch.arange(5)}, target)
    assert torch.load(target, weights_only=True)["a"].tolist() == [0, 1, 2, 3, 4]
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.ERROR):
        DurableCheckpointIO().save_checkpoint({}, tmp_path / "file" / "step_00000001.ckpt")
    assert "CHECKPOINT NOT SAVED" in caplog.text


def test_skipped_batches_are_named(tmp_path: Path, codes: Path) -> None:
    """The run stops after three bad steps in a row and says which samples they were made of."""
    module = build("generator", codes)
    module.guard.max_skipped = 2

    class Poison(Callback):
        def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
            if trainer.global_step == 6:
                with torch.no_grad():
                    module.model.transformer.norm.weight[0] = float("nan")

    seen: list[list[int]] = []

    class Spy(Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
            seen.append(batch.labels.tolist())

    with pytest.raises(ValueError, match="wasn't finite in 3 steps in a row, up to step 8"):
        fit(module, tmp_path, 20, Poison(), Spy())
    report = json.loads((tmp_path / "skipped_batches.json").read_text())
    assert [(part["epoch"], part["batch"]) for part in report] == [(1, 1), (1, 2), (1, 3)]
    from bigr.data.digits import load_digits

    labels = load_digits("train", 16).labels
    for part, batch in zip(report, seen[-3:], strict=True):
        assert [int(labels[index]) for index in part["samples"]] == batch
