"""When checkpoints are made, what is left when that fails, which one a run goes on from."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from bigr import load_autoencoder, load_generator
from bigr.convert import main as convert
from bigr.training.callbacks.checkpointing import Checkpoints
from bigr.training.callbacks.ema import EMA
from bigr.training.callbacks.weight_export import ExportError, ExportWeights
from bigr.training.checkpoint_files import (
    DurableCheckpointIO,
    newest_whole,
    saved_checkpoints,
    what_is_wrong,
)
from tests.disk import full_disk
from tests.integration.test_interruptions import overrides
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
        assert "it is damaged or truncated" in caplog.text
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
a = save_autoencoder(tiny_autoencoder(image_size=8), here / "a.st")
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


@pytest.mark.parametrize("kind", ["generator", "autoencoder"])
def test_a_disk_that_is_full_at_the_end(tmp_path: Path, codes: Path, kind: str) -> None:
    """The command in the message exports the same weights later: the averaged ones."""
    module: Any = build(kind, codes)
    expected: dict[str, torch.Tensor] = {}
    with contextlib.ExitStack() as disk:

        class Fill(Callback):
            def on_fit_end(self, *_: Any) -> None:
                network = module.model if kind == "generator" else module.autoencoder
                expected.update({k: v.clone() for k, v in network.state_dict().items()})
                disk.enter_context(full_disk())

        callbacks = (EMA(0.8), Checkpoints(str(tmp_path / "saved")), Fill(), ExportWeights())
        with pytest.raises(ExportError, match="They are safe in the last checkpoint") as caught:
            fit(module, tmp_path, 3, *callbacks, enable_checkpointing=True)
    path = tmp_path / f"{kind}.safetensors"
    assert not path.exists()
    convert(str(caught.value).partition("bigr.convert ")[2].split())
    weights = (load_generator if kind == "generator" else load_autoencoder)(path).state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    raw = torch.load(tmp_path / "saved" / "step_00000003.ckpt")["current_model_state"]
    prefix = "model" if kind == "generator" else "autoencoder"
    assert not all(torch.equal(weights[name], raw[f"{prefix}.{name}"]) for name in weights)


def test_damage_that_a_command_finds(tmp_path: Path, codes: Path) -> None:
    """The export fails; then the newest checkpoint has a flipped bit."""
    (tmp_path / "file").write_text("not a folder")
    run = tmp_path / "run"

    def train(*words: str) -> tuple[int, str]:
        command = ["-m", "bigr.train", *overrides(codes, run)]
        command += ["callbacks.checkpoint.keep_last=null", "trainer.max_steps=2", *words]
        command += ["task.lr_scheduler.warmup_steps=0"]
        result = python(*command, cwd=tmp_path)
        return result.returncode, result.stdout + result.stderr

    code, output = train("callbacks.export.folder=file")
    assert code == 2, output
    assert "bigr.train: The training is complete, but its weights could not be written" in output
    assert names(run / "checkpoints") == [2, 1]
    newest = run / "checkpoints" / "step_00000002.ckpt"
    weight = torch.load(newest)["state_dict"]["model.transformer.norm.weight"].numpy().tobytes()
    data = bytearray(newest.read_bytes())
    data[data.index(weight)] ^= 1
    newest.write_bytes(data)
    code, output = train(f"resume={newest}")
    assert code == 2, output
    assert f"bigr.train: resume={newest}: it is damaged (Bad CRC-32" in output
    code, output = train("resume=auto")
    assert code == 0, output
    assert f"skipping {newest}: it is damaged (Bad CRC-32" in output
    assert what_is_wrong(newest) is None  # it was made again
    load_generator(run)
