"""Damaged files of every format: refused by name, or what they say is what they said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from PIL import Image
from torch import Tensor

from bigr import BiGRPipeline, load_autoencoder, load_generator
from bigr.checkpoints.export import save_released_generator
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.cli import reports
from bigr.data.broken import TooManyBrokenError
from bigr.data.codes_store import CodesStore
from bigr.data.codes_writer import StoreWriter
from bigr.data.image_dataset import ImageSet
from bigr.data.sources.find import find_source
from bigr.data.user_pictures import read_mask, read_picture
from bigr.evaluation.feature_chunks import FeatureChunks, split
from bigr.evaluation.reference_files import write_reference
from bigr.evaluation.references import load_reference
from bigr.evaluation.report import Report
from bigr.inference.processes import ALONE
from bigr.metrics.features import Features
from bigr.metrics.statistics import Reference
from bigr.training.callbacks.checkpointing import Checkpoints
from bigr.training.checkpoint_files import DurableCheckpointIO, what_is_wrong
from tests.codes_stores import SETTINGS, fill
from tests.image_files import encoded, photograph, write_nested_tar, write_parquet
from tests.models import tiny_autoencoder, tiny_generator
from tests.robustness.conftest import Cases
from tests.robustness.mutations import MUTATIONS, Mutation
from tests.tiny_training import LinearModule, tiny_trainer

SMALL: dict[str, Any] = {"dim": 16, "num_layers": 1, "denoiser_dim": 16, "denoiser_blocks": 1}


class Format(NamedTuple):
    """A file on disk, and what reads it."""

    path: Path
    read: Callable[[], object]
    """Returns all that the file says, or raises ``ValueError`` with the file's name."""
    is_checked: bool = True
    """Whether damage cannot go unnoticed; of a picture's pixels nobody can tell."""


def plain(state: Any) -> Any:
    """Tensors and arrays as bytes with their types and shapes, for comparisons."""
    if isinstance(state, Tensor):
        state = state.numpy()
    if isinstance(state, np.ndarray):
        return str(state.dtype), state.shape, state.tobytes()
    if isinstance(state, dict):
        return {name: plain(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return [plain(value) for value in state]
    return state


def export(folder: Path) -> Format:
    path = save_generator(tiny_generator(**SMALL), folder / "generator.safetensors")

    def read() -> object:
        model = load_generator(path)
        return model.config, plain(model.state_dict())

    return Format(path, read)


def autoencoder(folder: Path) -> Format:
    path = save_autoencoder(tiny_autoencoder(), folder / "autoencoder.safetensors")

    def read() -> object:
        model = load_autoencoder(path)
        return model.config, plain(model.state_dict())

    return Format(path, read)


def released(folder: Path) -> Format:
    path = folder / "bigr.pt"
    save_released_generator(tiny_generator(**SMALL), path)

    def read() -> object:
        model = load_generator(path)
        return model.config, plain(model.state_dict())

    return Format(path, read)


def checkpoint(folder: Path) -> Format:
    """To resume from."""
    saver = Checkpoints(str(folder), every_n_steps=2)
    io = DurableCheckpointIO()
    tiny_trainer(2, saver, enable_checkpointing=True, plugins=[io]).fit(LinearModule())
    (path,) = folder.glob("*.ckpt")

    def read() -> object:
        problem = what_is_wrong(path)
        if problem is not None:
            raise ValueError(f"{path}: {problem}")
        return plain(torch.load(path, weights_only=True))

    return Format(path, read)


def store(folder: Path) -> Path:
    writer = StoreWriter(folder / "codes", SETTINGS)
    fill(writer)
    writer.finish()
    return folder / "codes"


def codes(folder: Path) -> object:
    """Everything in a store."""
    opened = CodesStore(folder)
    found: dict[str, object] = {"settings": opened.settings}
    for name in sorted(opened.shards):
        packed = opened.split(name)
        everything = packed.take(np.arange(len(packed) * packed.num_entries))
        found[name] = plain([everything, packed.labels])
    return found


def shard(folder: Path) -> Format:
    place = store(folder)
    return Format(place / "train-00001.safetensors", lambda: codes(place))


def manifest(folder: Path) -> Format:
    place = store(folder)
    return Format(place / "manifest.json", lambda: codes(place))


def squares(todo: Sequence[range]) -> Iterator[dict[str, Tensor]]:
    for images in split(todo, 4):
        x = torch.tensor(list(images)).float()
        yield {"pool": torch.stack([x, x * x], dim=1), "logits": x[:, None]}


def all_features(folder: Path) -> object:
    chunks = FeatureChunks(folder, {"of": "squares"}, 10, 4)
    chunks.fill(ALONE, squares)
    return plain(list(chunks.read("pool", "logits")))


def chunk(folder: Path) -> Format:
    """Computed again if it is damaged."""
    all_features(folder / "features")
    path = FeatureChunks(folder / "features", {"of": "squares"}, 10, 4).path(4)
    return Format(path, lambda: all_features(folder / "features"))


def chunk_settings(folder: Path) -> Format:
    all_features(folder / "features")
    return Format(folder / "features" / "settings.json", lambda: all_features(folder / "features"))


class Brightness:
    """A feature network that is a formula."""

    prefix, title, identity = "", "brightness", "brightness-1"

    def to(self, device: torch.device) -> Brightness:
        return self

    def __call__(self, images: Tensor) -> Features:
        x = images.float() / 255
        pool = torch.cat([x.mean(dim=(2, 3)), x.square().mean(dim=(2, 3))], dim=1)
        return Features(pool, pool, x.flatten(1)[:, :5])


def everything(reference: Reference) -> object:
    return plain(vars(reference))


def given_reference(folder: Path) -> Format:
    path = folder / "given.npz"
    x = torch.rand(20, 6, generator=torch.Generator().manual_seed(0)).double()
    identity = {"network": Brightness.identity, "image_size": 8}
    write_reference(Reference(x.mean(0), x.T.cov(), None, None, x.float(), identity), path)
    where = (str(path), Brightness(), 8)
    more: Any = {"processes": ALONE, "device": torch.device("cpu")}
    return Format(path, lambda: everything(load_reference(*where, **more)))


def cached_reference(folder: Path) -> Format:
    """Computed again if it is damaged."""
    for number in range(5):
        path = folder / "real" / "val" / "a" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(photograph(9, 9, shift=number), "PNG"))
    more: Any = {"processes": ALONE, "device": torch.device("cpu")}

    def read() -> object:
        return everything(load_reference(str(folder / "real"), Brightness(), 8, **more))

    read()
    (path,) = (folder / "cache" / "references").glob("*.npz")
    return Format(path, read)


def results(folder: Path) -> Format:
    """Metrics of an evaluation that is repeated if they are damaged."""

    def read() -> object:
        done = reports.finished(folder, "ab" * 32)
        return done or reports.write(
            Report({"count": 3}, {"fid": 2.5}, [("FID", "2.5")]), folder, settings_sha256="ab" * 32
        )

    read()
    return Format(folder / "metrics.json", read)


def class_names(folder: Path) -> Format:
    pipeline = BiGRPipeline(
        tiny_generator(**SMALL), tiny_autoencoder(), class_names=["ant", "bee", "cat"], device="cpu"
    )
    pipeline.save_pretrained(folder)
    files = folder / "generator.safetensors", folder / "autoencoder.safetensors"
    path = folder / "classes.txt"
    return Format(path, lambda: BiGRPipeline.from_files(*files).class_names, is_checked=False)


def picture(kind: str) -> Callable[[Path], Format]:
    def make(folder: Path) -> Format:
        path = folder / f"picture.{kind.lower()}"
        path.write_bytes(encoded(photograph(40, 30), kind))
        return Format(
            path, lambda: plain(np.array(read_picture(path, path.name))), is_checked=False
        )

    return make


def mask(folder: Path) -> Format:
    path = folder / "mask.png"
    Image.new("L", (16, 16), 255).save(path)
    original = Image.new("RGB", (16, 16))
    return Format(
        path, lambda: plain(np.array(read_mask(path, original, path.name))), is_checked=False
    )


def archive(folder: Path) -> Format:
    images = {("a", f"{n}.png"): encoded(photograph(9, 9, shift=n), "PNG") for n in range(3)}
    path = folder / "train.tar"
    write_nested_tar(path, images)

    return Format(path, lambda: samples(folder), is_checked=False)


def samples(folder: Path) -> object:
    """All images of a data set; broken ones are replaced and listed."""
    images = ImageSet(find_source(folder, "train"), 8)
    try:
        return [plain(images[index].image) for index in range(len(images))]
    except TooManyBrokenError:  # which names them
        return None


def parquet(folder: Path) -> Format:
    images = {("a", f"{n}.png"): encoded(photograph(9, 9, shift=n), "PNG") for n in range(3)}
    write_parquet(folder, "train", images, shards=1)
    (path,) = (folder / "data").glob("*.parquet")

    return Format(path, lambda: samples(folder), is_checked=False)


FORMATS: dict[str, Callable[[Path], Format]] = {
    "export": export,
    "autoencoder": autoencoder,
    "released": released,
    "checkpoint": checkpoint,
    "shard": shard,
    "manifest": manifest,
    "chunk": chunk,
    "chunk_settings": chunk_settings,
    "given_reference": given_reference,
    "cached_reference": cached_reference,
    "results": results,
    "class_names": class_names,
    **{kind.lower(): picture(kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")},
    "mask": mask,
    "archive": archive,
    "parquet": parquet,
}


@pytest.mark.parametrize("name", FORMATS)
def test_damage(name: str, tmp_path: Path, cases: Cases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGR_CACHE", str(tmp_path / "cache"))
    path, read, is_checked = FORMATS[name](tmp_path)
    whole, expected = path.read_bytes(), read()
    wrong: list[str] = []

    @settings(
        max_examples=cases.number(100, 5), deadline=None, database=None, derandomize=True,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(MUTATIONS)
    def check(mutation: Mutation) -> None:
        path.write_bytes(mutation(whole))
        with cases.limited(name, mutation):
            try:
                after = read()
            except ValueError as error:
                if path.name not in str(error):
                    wrong.append(f"{mutation}: the file is not named: {error}")
            except Exception as error:
                wrong.append(f"{mutation}: {type(error).__name__}: {error}")
            else:
                if is_checked and after != expected:
                    wrong.append(f"{mutation}: not noticed")

    check()
    assert not wrong, "\n".join(wrong)
