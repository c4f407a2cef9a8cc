"""Flipped bits in codes, features and references, and writers that are killed anywhere.

Whatever a flipped bit changes is refused with the name of the file, or computed again. A bit that
changes nothing that is read, such as padding in an archive, is harmless: the content is compared.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bigr.cli import reports
from bigr.data.codes_format import StoreError
from bigr.data.codes_store import CodesStore
from bigr.data.codes_writer import StoreWriter
from bigr.data.files import write_atomically
from bigr.data.sealed_json import DamagedFileError, seal
from bigr.evaluation.feature_chunks import FeatureChunks
from bigr.evaluation.reference_files import read_reference, write_reference
from bigr.evaluation.references import load_reference
from bigr.inference.processes import ALONE
from bigr.metrics.features import Features
from bigr.metrics.statistics import Reference
from tests.codes_stores import SETTINGS, fill, make_store
from tests.robustness.conftest import Cases
from tests.robustness.mutations import killed_at, operations, spread

NUM_FLIPS = Cases.number(500, 60)
NUM_KILLS = Cases.number(30, 6)
COUNT, CHUNK = 12, 5


def flips(path: Path, seed: int) -> Iterator[str]:
    """Damage a file by one bit, again and again; the file is intact at the end."""
    whole = path.read_bytes()
    places = random.Random(seed).sample(range(8 * len(whole)), NUM_FLIPS)
    for place in places:
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        yield f"bit {place % 8} of byte {place // 8}"
    path.write_bytes(whole)


def refusal(read: Callable[[], Any], expected: Any) -> str:
    """Return the message with which a damaged file is refused, or "" if it reads as before."""
    try:
        found = read()
    except (StoreError, DamagedFileError) as error:
        return str(error)
    assert found == expected
    return ""


def content_of(store: Path) -> Any:
    """Everything that training reads from a store."""
    opened = CodesStore(store)
    splits = {name: opened.split(name) for name in opened.shards}
    return opened.settings, {
        name: (codes.labels.tolist(), codes.take(np.arange(len(codes) * 6)).tobytes())
        for name, codes in splits.items()
    }


@pytest.mark.parametrize("name", ["train-00001.safetensors", "manifest.json"])
def test_flips_in_codes(tmp_path: Path, cases: Cases, name: str) -> None:
    make_store(tmp_path)
    expected = content_of(tmp_path)
    refused = 0
    for flip in flips(tmp_path / name, seed=1):
        with cases.limited(name, flip):
            message = refusal(lambda: content_of(tmp_path), expected)
            assert not message or str(tmp_path / name) in message, flip
            refused += bool(message)
    assert content_of(tmp_path) == expected
    assert refused > NUM_FLIPS * 0.7  # spaces in a manifest may become other spaces
    if name != "manifest.json":
        assert refused == NUM_FLIPS


def test_flips_in_the_codes_of_an_interrupted_command(tmp_path: Path, cases: Cases) -> None:
    """They are refused when it is repeated, before a manifest signs them."""
    with StoreWriter(tmp_path, SETTINGS).open():
        fill(StoreWriter(tmp_path, SETTINGS))
    for flip in flips(tmp_path / "train-00001.safetensors", seed=2):
        with (
            cases.limited("interrupted", flip),
            pytest.raises(StoreError, match=r"train-00001\.safetensors is damaged"),
            StoreWriter(tmp_path, SETTINGS).open(),
        ):
            pass


def waves(todo: Sequence[range]) -> Iterator[dict[str, Tensor]]:
    """Features that are a formula of the number of the image."""
    for images in todo:
        x = torch.tensor(list(images)).float()[:, None] * torch.arange(1, 4)
        pixels = (x * 7).to(torch.uint8)
        yield {"pool": x.sin(), "logits": x.cos(), "spatial": x.exp().log1p(), "images": pixels}


def chunks_in(folder: Path) -> FeatureChunks:
    return FeatureChunks(folder, {"seed": 3}, COUNT, CHUNK)


def features_of(chunks: FeatureChunks) -> list[dict[str, list[Any]]]:
    found = chunks.read("pool", "logits", "spatial", "images")
    return [{name: array.tolist() for name, array in arrays.items()} for arrays in found]


def test_flips_in_feature_chunks(tmp_path: Path, cases: Cases) -> None:
    chunks = chunks_in(tmp_path)
    chunks.fill(ALONE, waves)
    expected = features_of(chunks)
    refused = 0
    path = chunks.path(CHUNK)
    for flip in flips(path, seed=3):
        with cases.limited("chunk", flip):
            again = chunks_in(tmp_path).pending()
            assert again in ([], [range(CHUNK, 2 * CHUNK)])
            refused += len(again)
            if not again:
                assert features_of(chunks) == expected, flip
            else:
                with pytest.raises(DamagedFileError, match=path.name):
                    list(chunks.read())
    assert refused > NUM_FLIPS * 0.7
    chunks.fill(ALONE, waves)
    assert features_of(chunks) == expected


def test_flips_in_the_settings_of_features(tmp_path: Path, cases: Cases) -> None:
    """The features of the same settings are still known; the file is written again."""
    chunks_in(tmp_path).fill(ALONE, waves)
    for flip in flips(tmp_path / "settings.json", seed=4):
        with cases.limited("settings", flip):
            assert chunks_in(tmp_path).pending() == [], flip


def some_reference() -> Reference:
    x = torch.randn(9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Reference(x.mean(0), x.T.cov(), x.mean(0)[:2], x.T.cov()[:2, :2], x, {"count": 9})


def tensors_of(reference: Reference) -> list[Any]:
    parts = vars(reference).values()
    return [part.tolist() if isinstance(part, Tensor) else part for part in parts]


def test_flips_in_references(tmp_path: Path, cases: Cases) -> None:
    path = tmp_path / "reference.npz"
    write_reference(some_reference(), path)
    expected = tensors_of(read_reference(path))
    refused = 0
    for flip in flips(path, seed=5):
        with cases.limited("reference", flip):
            message = refusal(lambda: tensors_of(read_reference(path)), expected)
            assert not message or str(path) in message, flip
            refused += bool(message)
    assert refused > NUM_FLIPS * 0.7


def test_flips_in_metrics(tmp_path: Path, cases: Cases) -> None:
    """An evaluation with damaged metrics is repeated."""
    metrics = {"figures": {"fid": 2.125, "is": 180.5}, "settings_sha256": "ab" * 32}
    path = tmp_path / reports.METRICS
    path.write_bytes(seal(metrics))
    harmless = 0
    for flip in flips(path, seed=6):
        with cases.limited("metrics", flip):
            found = reports.finished(tmp_path, "ab" * 32)
            assert found in (None, metrics), flip
            harmless += found is not None
    assert harmless < NUM_FLIPS * 0.3


def write_store(folder: Path) -> None:
    make_store(folder)


def write_features(folder: Path) -> None:
    chunks_in(folder).fill(ALONE, waves)


def write_metrics(folder: Path) -> None:
    if reports.finished(folder, "ab") is None:
        content = {"figures": {"fid": 2.125}, "settings_sha256": "ab"}
        write_atomically(folder / reports.METRICS, seal(content))


class Corners:
    """A network that is a formula."""

    prefix, title, identity = "", "corners", "corners-1"

    def to(self, device: torch.device) -> Corners:
        return self

    def __call__(self, images: Tensor) -> Features:
        x = images[:, 0, ::4, ::4].flatten(1).float()
        return Features(x, x[:, :2], None)


def write_cache(folder: Path) -> None:
    cpu = torch.device("cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGR_CACHE", str(folder))
        load_reference("digits", Corners(), 16, processes=ALONE, device=cpu)


def contents(folder: Path) -> dict[str, bytes]:
    """The files that count: not those of locks, nor those that a killed process left behind."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


WRITERS = {
    "codes": write_store,
    "features": write_features,
    "reference": write_cache,
    "metrics": write_metrics,
}


@pytest.mark.parametrize("name", WRITERS)
def test_writers_that_are_killed(tmp_path: Path, cases: Cases, name: str) -> None:
    """The next run ends with the same files as an undisturbed one."""
    write: Callable[[Path], None] = WRITERS[name]
    write(tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    total = operations(lambda: write(tmp_path / "counted"))
    for moment in spread(NUM_KILLS, total):
        folder = tmp_path / str(moment)
        with cases.limited("kill", name, moment):
            assert killed_at(moment, lambda folder=folder: write(folder))
            write(folder)
            assert contents(folder) == expected, moment
