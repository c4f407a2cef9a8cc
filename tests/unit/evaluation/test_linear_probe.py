"""The linear probe: which features, of which images, and how well they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from bigr.data.sealed_json import read_sealed
from bigr.evaluation.evaluator import EvaluationContext
from bigr.evaluation.feature_chunks import FeatureChunks
from bigr.evaluation.linear_heads import HeadSettings
from bigr.evaluation.linear_probe import LinearProbe, load_layer
from tests.models import tiny_autoencoder, tiny_generator
from tests.tiny_training import PairsDataModule

HEAD = HeadSettings(
    learning_rates=(0.3, 3.0), optimizer="sgd", epochs=30, warmup_epochs=1, batch_size=32
)


class Batch(NamedTuple):
    labels: Tensor
    images: Tensor | None = None
    codes: Tensor | None = None


class Data:
    """Codes whose first bits are the class; their features tell it."""

    num_classes = 3

    def __init__(self, train: int = 60, val: int = 30) -> None:
        generator = torch.Generator().manual_seed(0)
        self.splits = {}
        for name, count in (("train", train), ("val", val)):
            codes = torch.randint(2, (count, 16, 6), generator=generator).float()
            labels = torch.arange(count) % 3
            codes[:, :8] = torch.nn.functional.one_hot(labels, 6)[:, None].float()
            self.splits[name] = (codes, labels)

    def num_images(self, split: str) -> int:
        return len(self.splits[split][1])

    def ordered_loader(self, split: str, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        codes, labels = self.splits[split]
        for batch in batches:
            yield Batch(labels[list(batch)], codes=codes[list(batch)])

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return batch


def context(output: Path, **fields: Any) -> EvaluationContext:
    given = {"generator": tiny_generator(num_layers=3), "data": Data(), "output": output}
    return EvaluationContext(**{**given, **fields})


def probe(**settings: Any) -> LinearProbe:
    return LinearProbe(
        head=HEAD, **{"embedding": None, "batch_size": 7, "chunk_size": 20, **settings}
    )


def test_features_and_accuracy(tmp_path: Path) -> None:
    """The files hold the model's own pooled features, and classes that are there are found."""
    given = context(tmp_path)
    found = probe(layers=[0, 2])
    found.check(given)
    done: list[int] = []
    report = found(given, done.append)
    assert report is not None
    assert sum(done) == found.num_images(given) == 90
    assert list(report.metrics["layers"]) == ["0", "2"]
    assert report.figures["top1"] > 0.9
    assert report.metrics["best"]["layer"] in (0, 2)
    assert list(report.curves["layers.png"].points) == [0, 2]
    chunks = FeatureChunks(
        tmp_path / "features" / "val",
        read_sealed(tmp_path / "features" / "val" / "settings.json"),
        30,
        20,
    )
    codes = given.data.splits["val"][0]
    null = torch.full((30,), given.generator.config.null_class)  # type: ignore[union-attr]
    with torch.inference_mode():
        expected = given.generator.pooled_features(codes, null, [0, 2])  # type: ignore[union-attr]
    torch.testing.assert_close(load_layer(chunks, 1).float(), expected[:, 1], atol=2e-3, rtol=2e-3)


def test_images_are_encoded(tmp_path: Path) -> None:
    """The same report from images as from their most likely codes."""
    autoencoder = tiny_autoencoder()
    generator = torch.Generator().manual_seed(1)
    data, images = Data(), Data()
    for name in ("train", "val"):
        count = data.num_images(name)
        pixels = torch.rand(count, 3, 8, 8, generator=generator)
        with torch.inference_mode():
            bits = autoencoder.encode(pixels).gt(0.5).float()
        data.splits[name] = (bits.flatten(2).transpose(1, 2), torch.arange(count) % 3)
        images.splits[name] = (pixels, torch.arange(count) % 3)
    as_images = lambda batch, _: batch._replace(images=batch.codes, codes=None)  # noqa: E731
    images.on_after_batch_transfer = as_images  # type: ignore[method-assign]
    reports = [
        probe(layers="all")(context(tmp_path / str(number), data=one, autoencoder=autoencoder))
        for number, one in enumerate((data, images))
    ]
    assert reports[0] is not None
    assert reports[1] is not None
    assert reports[0].metrics["layers"] == reports[1].metrics["layers"]


def test_layers_and_images(tmp_path: Path) -> None:
    given = context(tmp_path)
    assert probe(layers="middle").chosen_layers(given) == [0]
    assert probe(layers="all").chosen_layers(given) == [0, 1, 2]
    assert probe(layers=[2, 0, 2]).chosen_layers(given) == [0, 2]
    assert probe(max_train_images=4).num_images(given) == 4 + 30
    assert probe(max_train_images=400).num_images(given) == 90


@pytest.mark.parametrize(
    ("settings", "fields", "message"),
    [
        ({"layers": [3]}, {}, r"probe.layers=\[3\]: this generator has 0\.\.2"),
        ({"layers": []}, {}, r"this generator has 0\.\.2"),
        ({}, {"generator": None}, "the probe needs a generator"),
        ({}, {"data": Data(val=0)}, "the probe needs a val split, and the data has none"),
    ],
)
def test_impossible(
    tmp_path: Path, settings: dict[str, Any], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        probe(**settings).check(context(tmp_path, **fields))


def test_images_need_a_b_ae(tmp_path: Path) -> None:
    data = Data()
    data.image_size = 8  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="still needed: autoencoder"):
        probe().check(context(tmp_path, data=data))


@pytest.mark.parametrize("settings", [{"layers": "last"}, {"embedding": "pca"}, {"chunk_size": 0}])
def test_bad_settings(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=rf"LinearProbe\.{name} must be"):
        probe(**settings)


def test_data_that_cannot_be_read_in_order(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read PairsDataModule in order: derive it"):
        LinearProbe(head=HEAD).check(context(tmp_path, data=PairsDataModule("codes")))
