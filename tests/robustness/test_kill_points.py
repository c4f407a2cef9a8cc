"""Killed at any operation on a file, each writer ends with what an undisturbed one leaves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bigr import BiGRPipeline, load_generator
from bigr.checkpoints.native import save_generator
from bigr.cli import reports
from bigr.data.codes_store import CodesStore
from bigr.data.codes_writer import StoreWriter
from bigr.evaluation.feature_chunks import FeatureChunks, split
from bigr.evaluation.references import load_reference
from bigr.evaluation.report import Report
from bigr.inference.processes import ALONE
from bigr.training.callbacks.checkpointing import Checkpoints
from bigr.training.callbacks.ema import EMA
from bigr.training.checkpoint_files import DurableCheckpointIO, newest_whole
from bigr.training.loggers import ResumableCSVLogger
from tests.codes_stores import NUM_SHARDS, SETTINGS, fill
from tests.image_files import encoded, photograph
from tests.models import tiny_autoencoder, tiny_generator
from tests.processes import ROOT, python
from tests.robustness.conftest import Cases
from tests.robustness.mutations import killed_at, killed_at_size, operations, spread
from tests.robustness.test_file_bytes import Brightness, plain
from tests.tiny_training import LinearModule, PairsDataModule, tiny_trainer
from tests.unit.checkpoints.test_hub import Hub, hub

SMALL: dict[str, Any] = {"dim": 16, "num_layers": 1, "denoiser_dim": 16, "denoiser_blocks": 1}


class Writer(NamedTuple):
    """Something that writes files."""

    write: Callable[[Path], object]
    """Writes into a folder, or goes on with what an earlier call left there."""
    result: Callable[[Path], object]
    """Reads what a finished ``write`` leaves."""


def contents(folder: Path) -> object:
    """Every file by name, except those of a lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".bigr.lock")
    }


def train(folder: Path) -> None:
    """Six steps with a checkpoint after each of them, from the newest one that is whole."""
    torch.manual_seed(0)
    saver = Checkpoints(str(folder / "checkpoints"), every_n_steps=1, keep_last=2)
    logger = ResumableCSVLogger(str(folder))
    more: dict[str, Any] = {"plugins": [DurableCheckpointIO()], "log_every_n_steps": 1}
    trainer = tiny_trainer(6, saver, EMA(0.9), enable_checkpointing=True, logger=logger, **more)
    resume = newest_whole(folder / "checkpoints")
    # Of a loader that cannot be resumed within an epoch, all batches are the same.
    batch = next(iter(PairsDataModule().train_dataloader()))
    data = DataLoader([batch] * 6, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(LinearModule(), data, ckpt_path=resume, weights_only=True)


def trained(folder: Path) -> object:
    path = newest_whole(folder / "checkpoints")
    assert path is not None
    saved = torch.load(path, weights_only=True)
    rows = (folder / "csv" / "metrics.csv").read_text().splitlines()
    kept = [item.name for item in sorted((folder / "checkpoints").iterdir())]
    return kept, plain(saved["state_dict"]), plain(saved["optimizer_states"]), rows[0], rows[-1]


def export(folder: Path) -> None:
    save_generator(tiny_generator(**SMALL), folder / "generator.safetensors")


def exported(folder: Path) -> object:
    return plain(load_generator(folder / "generator.safetensors").state_dict())


def save_pretrained(folder: Path) -> None:
    pipeline = BiGRPipeline(
        tiny_generator(**SMALL), tiny_autoencoder(), class_names=["ant", "bee", "cat"], device="cpu"
    )
    pipeline.save_pretrained(folder)


def pretrained(folder: Path) -> object:
    pipeline = BiGRPipeline.from_pretrained(folder, device="cpu")
    states = [plain(model.state_dict()) for model in pipeline.models]
    return states, pipeline.class_names, (folder / "README.md").read_text()


class Missing(StoreWriter):
    """Writes only the shards that are not there, as ``bigr.tokenize`` does."""

    def write(self, split: str, number: int, *rest: Any) -> None:
        if not self.has(split, number):
            super().write(split, number, *rest)


def tokenize(folder: Path) -> None:
    writer = Missing(folder / "codes", SETTINGS)
    fill(writer)
    writer.finish()


def codes(folder: Path) -> object:
    store = CodesStore(folder / "codes")
    store.verify()
    assert {name: len(shards) for name, shards in store.shards.items()} == NUM_SHARDS
    return contents(folder / "codes")


def squares(todo: Sequence[range]) -> Iterator[dict[str, Tensor]]:
    for images in split(todo, 4):
        x = torch.tensor(list(images)).float()
        yield {"pool": torch.stack([x, x * x], dim=1), "logits": x[:, None]}


def chunks(folder: Path) -> FeatureChunks:
    return FeatureChunks(folder / "features", {"of": "squares"}, 10, 4)


def features(folder: Path) -> object:
    return plain(list(chunks(folder).read("pool", "logits")))


def reference(folder: Path) -> object:
    images = folder.parent / "real" / "val" / "a"
    if not images.exists():
        images.mkdir(parents=True)
        for number in range(5):
            data = encoded(photograph(9, 9, shift=number), "PNG")
            (images / f"{number}.png").write_bytes(data)
    more: Any = {"processes": ALONE, "device": torch.device("cpu")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGR_CACHE", str(folder))
        found = load_reference(str(folder.parent / "real"), Brightness(), 8, **more)
    return plain(vars(found))


def metrics(folder: Path) -> None:
    report = Report({"count": 3}, {"fid": 2.5}, [("FID", "2.5")])
    reports.write(report, folder, title="scores", settings_sha256="ab" * 32)


WRITERS = {
    "checkpoints": Writer(train, trained),
    "export": Writer(export, exported),
    "pretrained": Writer(save_pretrained, pretrained),
    "codes": Writer(tokenize, codes),
    "chunks": Writer(lambda folder: chunks(folder).fill(ALONE, squares), features),
    "reference": Writer(reference, reference),
    "metrics": Writer(metrics, lambda folder: reports.finished(folder, "ab" * 32)),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("how", ["operation", "size"])
def test_killed(name: str, how: str, tmp_path: Path, cases: Cases) -> None:
    """Before an operation on a file, or when one reaches a size; then once more, undisturbed."""
    write, result = WRITERS[name]
    whole = tmp_path / "whole"
    whole.mkdir()
    write(whole)
    expected = result(whole)
    (tmp_path / "counted").mkdir()
    if how == "operation":
        total = operations(lambda: write(tmp_path / "counted"))
    else:
        total = max(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    moments = spread(cases.number(40, 4), total)
    for moment in moments:
        folder = tmp_path / str(moment)
        folder.mkdir()
        kill = killed_at if how == "operation" else killed_at_size
        with cases.limited(name, how, moment):
            assert kill(moment, functools.partial(write, folder)), f"it survived {how} {moment}"
            write(folder)
            assert result(folder) == expected, f"another result after {how} {moment}"


HUB = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
import huggingface_hub.constants
from huggingface_hub import hf_hub_download
from bigr.checkpoints.hub import find_pair
from tests.robustness.mutations import killed_at, operations, spread

def find(folder):
    huggingface_hub.constants.HF_HUB_CACHE = str(folder)
    return find_pair("haoosz/BiGR")

def show(folder):
    for path in find(folder):
        print(folder.name, path.resolve().name, flush=True)

for moment in spread({count}, operations(lambda: find(Path("counted")))):
    folder = Path(str(moment))
    assert killed_at(moment, lambda: find(folder))
    assert not killed_at(10**9, lambda: show(folder))
"""

__all__ = ["hub"]


def test_downloads_killed(hub: Hub, tmp_path: Path, cases: Cases) -> None:
    """The next start downloads what is missing, and the checksums agree."""
    count = cases.number(30, 3)
    code = HUB.format(root=str(ROOT), count=count)
    variables = {"HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1"}
    result = python("-c", code, cwd=tmp_path, **variables)
    assert result.returncode == 0, result.stderr
    found = [line.split() for line in result.stdout.splitlines()]
    by_folder: dict[str, set[str]] = {}
    for folder, name in found:
        by_folder.setdefault(folder, set()).add(name)
    assert len(by_folder) >= count
    assert len({frozenset(names) for names in by_folder.values()}) == 1
    for folder in by_folder:
        cases.seen.add(("hub", folder))
