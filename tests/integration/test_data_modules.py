"""DataModules in training: which samples, which flips, what a mismatch says."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from bigr.checkpoints.identity import weights_sha256
from bigr.checkpoints.native import save_autoencoder
from bigr.data.broken import TooManyBrokenError
from bigr.data.codes_format import StoreError, StoreSettings
from bigr.data.codes_store import CodesStore
from bigr.data.codes_writer import StoreWriter
from bigr.data.released_codes import write_released
from bigr.models.config import BiGRConfig
from bigr.training.data.codes_data import CodesDataModule
from bigr.training.data.image_data import ImageNetDataModule
from bigr.training.data.resumable_data import ResumableDataModule
from bigr.training.generator_module import GeneratorModule
from bigr.training.optimizers import adamw
from tests.image_files import encoded, photograph, write_folders
from tests.models import TINY, tiny_autoencoder

COUNT = 40
ENTRIES = 3


class Seen(Callback):
    """Everything that reaches a training step."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.batches: list[Any] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, *_: Any) -> None:
        if self.stop is not None and trainer.global_step == self.stop:
            raise KeyboardInterrupt
        self.batches.append(batch)


def train(
    data: ResumableDataModule,
    folder: Path,
    steps: int,
    *callbacks: Callback,
    autoencoder: Path | None = None,
    resume: Path | None = None,
) -> lightning.Trainer:
    module = GeneratorModule(
        BiGRConfig(**TINY),
        functools.partial(adamw, lr=1e-3),
        autoencoder=None if autoencoder is None else str(autoencoder),
    )
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    data.setup("fit")
    module.check(data)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    return trainer


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_autoencoder(tiny_autoencoder(), tmp_path_factory.mktemp("ae") / "a.safetensors")


def settings(**changes: Any) -> StoreSettings:
    values: dict[str, Any] = {
        "tokenizer_sha256": weights_sha256(tiny_autoencoder()),
        "code_dim": 6,
        "grid_size": 4,
        "image_size": 8,
        "num_classes": 3,
        "views": ("center",),
        "num_views": 1,
        "num_draws": ENTRIES,
        "deterministic": False,
        "seed": 0,
        "decoder": "none",
        "honour_exif": False,
        "precision": "32-true",
        "shard_size": 16,
        "sources": {"train": "1", "val": "2"},
        "num_images": {"train": COUNT, "val": 5},
        "classes": ("a", "b", "c"),
    }
    return StoreSettings(**{**values, **changes})


def codes_of(split: str) -> np.ndarray:
    """(n, V, N, K)."""
    shape = (settings().num_images[split], ENTRIES, 16, 6)
    return np.random.default_rng(len(split)).integers(0, 2, shape, dtype=np.uint8)


def make_store(folder: Path, **changes: Any) -> Path:
    about = settings(**changes)
    writer = StoreWriter(folder, about)
    for split, count in about.num_images.items():
        packed = np.packbits(codes_of(split).reshape(count, ENTRIES, -1), axis=-1)
        for number in range(about.num_shards(split)):
            part = np.arange(number * 16, min(number * 16 + 16, count))
            writer.write(split, number, packed[part], part % 3, part, [])
    writer.finish()
    return folder


def module_of(root: Path, **changes: Any) -> CodesDataModule:
    values = {"code_dim": 6, "grid_size": 4, "num_classes": 3, "batch_size": 8, "seed": 1}
    return CodesDataModule(root=str(root), **{**values, **changes})


def test_sizes_that_are_not_given_are_those_of_the_codes(tmp_path: Path) -> None:
    root = make_store(tmp_path / "store")
    data = module_of(root, code_dim=None, grid_size=None)
    data.setup("fit")
    assert (data.code_dim, data.grid_size) == (6, 4)
    batch = next(iter(data.ordered_loader("train", [[0, 1]])))
    codes = data.on_after_batch_transfer(batch, 0).codes
    assert codes is not None
    assert codes.shape == (2, 16, 6)
    write_released(CodesStore(root), tmp_path / "released")
    with pytest.raises(StoreError, match=r"set data\.code_dim and data\.grid_size"):
        module_of(tmp_path / "released", code_dim=None, grid_size=None).setup("fit")


@pytest.mark.parametrize("form", ["store", "released"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_codes_reach_the_step(tmp_path: Path, form: str, num_workers: int) -> None:
    """Each epoch takes every image once; its bits are one of its entries'."""
    root = make_store(tmp_path / "store")
    expected = {  # by their bits: 96 random ones are unique
        codes_of("train")[image, entry].tobytes(): (image, entry, image % 3)
        for image in range(COUNT)
        for entry in range(ENTRIES)
    }
    count = COUNT
    if form == "released":
        write_released(CodesStore(root), tmp_path / "released")
        root, count = tmp_path / "released", COUNT * ENTRIES
    seen = Seen()
    steps_per_epoch = count // 8
    train(module_of(root, num_workers=num_workers), tmp_path, 3 * steps_per_epoch, seen)
    entries = []
    for epoch in range(3):
        found = []
        for batch in seen.batches[epoch * steps_per_epoch : (epoch + 1) * steps_per_epoch]:
            assert batch.codes.shape == (8, 16, 6)
            assert batch.codes.dtype == torch.float32
            for bits, label in zip(batch.codes, batch.labels.tolist(), strict=True):
                image, entry, expected_label = expected[bits.byte().numpy().tobytes()]
                assert label == expected_label
                found.append((image, entry))
        if form == "store":
            assert sorted(image for image, _ in found) == list(range(COUNT))
        else:
            assert len(set(found)) == count
        entries.append(dict(found))
    if form == "store":
        assert entries[0] != entries[1] != entries[2]


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_resumed_with_other_workers(tmp_path: Path, num_workers: int) -> None:
    root = make_store(tmp_path / "store")
    whole, broken, rest = Seen(), Seen(stop=7), Seen()
    train(module_of(root), tmp_path, 13, whole)

    class Save(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.save_checkpoint(tmp_path / "last.ckpt")

    with pytest.raises(SystemExit):
        train(module_of(root, num_workers=2), tmp_path, 13, broken, Save())
    train(
        module_of(root, num_workers=num_workers),
        tmp_path,
        13,
        rest,
        resume=tmp_path / "last.ckpt",
    )
    together = [*broken.batches, *rest.batches]
    assert len(together) == len(whole.batches) == 13
    for ours, theirs in zip(together, whole.batches, strict=True):
        assert torch.equal(ours.codes, theirs.codes)
        assert torch.equal(ours.labels, theirs.labels)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    files = {
        (f"class{n % 3}", f"{n:03d}.JPEG"): encoded(photograph(60, 50, shift=13 * n), quality=85)
        for n in range(COUNT)
    }
    files["class1", "007.JPEG"] = b""
    write_folders(root, "train", files)
    write_folders(root, "val", dict(list(files.items())[:5]))
    return root


def images_of(root: Path, **changes: Any) -> ImageNetDataModule:
    values = {"num_classes": 3, "image_size": 8, "batch_size": 8, "num_workers": 0, "seed": 2}
    return ImageNetDataModule(root=str(root), **{"max_broken_share": 0.1, **values, **changes})


def test_flips_are_half_and_survive_a_restart(
    tmp_path: Path, images: Path, autoencoder: Path
) -> None:
    whole, plain, broken, rest = Seen(), Seen(), Seen(stop=4), Seen()
    run = functools.partial(train, autoencoder=autoencoder)
    run(images_of(images), tmp_path, 10, whole)
    run(images_of(images, flip=False), tmp_path, 10, plain)
    flips = []
    for flipped, straight in zip(whole.batches, plain.batches, strict=True):
        assert flipped.images.dtype == torch.float32
        assert 0 <= flipped.images.min() <= flipped.images.max() <= 1
        for ours, theirs in zip(flipped.images, straight.images, strict=True):
            is_flipped = torch.equal(ours, theirs.flip(2))
            assert is_flipped != torch.equal(ours, theirs)
            flips.append(is_flipped)
    assert 20 < sum(flips) < 60

    class Save(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.save_checkpoint(tmp_path / "last.ckpt")

    with pytest.raises(SystemExit):
        run(images_of(images), tmp_path, 10, broken, Save())
    run(images_of(images, num_workers=2), tmp_path, 10, rest, resume=tmp_path / "last.ckpt")
    together = [*broken.batches, *rest.batches]
    assert len(together) == 10
    for ours, theirs in zip(together, whole.batches, strict=True):
        assert torch.equal(ours.images, theirs.images)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_broken_images_are_listed_once(
    tmp_path: Path, images: Path, autoencoder: Path, num_workers: int
) -> None:
    report = tmp_path / "broken_files.txt"
    data = images_of(images, broken_report=str(report), num_workers=num_workers)
    train(data, tmp_path, 15, autoencoder=autoencoder)
    assert report.read_text() == "class1/007.JPEG: empty file\n"
    with pytest.raises(TooManyBrokenError, match="1 of 45 images is broken"):
        train(images_of(images, max_broken_share=0.01), tmp_path, 15, autoencoder=autoencoder)


def test_number_of_classes(images: Path) -> None:
    with pytest.raises(ValueError, match=r"has 3 classes.*set data\.num_classes=3"):
        images_of(images, num_classes=1000).setup("fit")


MISMATCHES = {
    "code_dim": ({"code_dim": 12}, {}, "code_dim 6, and the generator learns 12"),
    "grid_size": ({"grid_size": 8}, {}, "grid_size 4, and the generator learns 8"),
    "classes": ({"num_classes": 4}, {}, "has 3 classes, but data.num_classes is 4"),
    "splits": ({}, {"num_images": {"val": 5}, "sources": {"val": "2"}}, "has no train split"),
}


@pytest.mark.parametrize("kind", MISMATCHES)
def test_codes_of_something_else(tmp_path: Path, kind: str) -> None:
    ours, theirs, message = MISMATCHES[kind]
    data = module_of(make_store(tmp_path, **theirs), **ours)
    with pytest.raises(StoreError, match=message.replace(".", r"\.")):
        data.setup("fit")


def test_another_tokenizer_than_the_codes(tmp_path: Path, autoencoder: Path) -> None:
    good = module_of(make_store(tmp_path / "good"))
    other = dataclasses.replace(settings(), tokenizer_sha256="0" * 64).tokenizer_sha256
    bad = module_of(make_store(tmp_path / "bad", tokenizer_sha256=other))
    for data in (good, bad):
        data.setup("fit")
    module = GeneratorModule(
        BiGRConfig(**TINY), functools.partial(adamw, lr=1e-3), autoencoder=str(autoencoder)
    )
    module.check(good)
    with pytest.raises(ValueError, match=r"task\.autoencoder isn't the B-AE that made these codes"):
        module.check(bad)


def test_validation_is_shared_out(tmp_path: Path) -> None:
    """Every sample once over all processes, and none of them without work."""
    data = module_of(make_store(tmp_path / "store"))
    data.setup("fit")

    class World:
        world_size = 4

        def __init__(self, rank: int) -> None:
            self.global_rank = rank

    found = []
    for rank in range(4):
        data.trainer = World(rank)  # type: ignore[assignment]
        batches = list(data.val_dataloader())
        assert batches
        found += [bits.numpy().tobytes() for batch in batches for bits in batch.codes]
    packed = np.packbits(codes_of("val")[:, 0].reshape(5, -1), axis=-1)
    assert sorted(found) == sorted(row.tobytes() for row in packed)
