"""The linear probe of the paper: what the features of a frozen generator reveal about the class.

The features are hidden states for unmasked codes and the null class, averaged over the tokens;
a BatchNorm without parameters and a linear classifier follow. One pass computes the features of all
chosen layers, which are kept in files. Shapes: n images, L layers, D width.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from bigr.evaluation import plots
from bigr.evaluation.evaluator import EvaluationContext, OnBatch
from bigr.evaluation.feature_chunks import FeatureChunks, split
from bigr.evaluation.linear_heads import HeadScores, HeadSettings, LinearHeads
from bigr.evaluation.report import Curve, Report
from bigr.models.bigr import BiGR
from bigr.models.codes import grid_to_tokens
from bigr.schema import NonNegativeInt, PositiveInt, check_fields

log = logging.getLogger(__name__)

SPLITS = ("train", "val")


class ProbeData(Protocol):
    """A data module of images or codes, set up for validation."""

    num_classes: int

    def num_images(self, split: str) -> int:
        """Return the number of images of ``train`` or ``val``."""

    def ordered_loader(self, split: str, batches: Sequence[Sequence[int]]) -> Any:
        """Return a loader of batches with the given images of a split."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Turn bytes into floats, on the device."""


@dataclass(kw_only=True)
class LinearProbe:
    """Extract features, train linear classifiers on them, and measure their accuracy.

    Args:
        head: how the linear classifiers are trained.
        layers: 0-based numbers; or ``all``; or ``middle``, as in the paper.
        batch_size: images at a time on each device.
        chunk_size: images per file of features.
        max_train_images: number of evenly spaced images of the training split; None takes all.
        embedding: ``tsne`` or ``umap`` draws the features of the best layer; None draws nothing.
        num_embedded: images in that picture.
        keep_features: keep the features in ``features/`` for another probe in the same folder.
        seed: seed of the picture.
    """

    is_shared = True
    head: HeadSettings
    layers: Literal["all", "middle"] | Sequence[NonNegativeInt] = "middle"
    batch_size: PositiveInt = 64
    chunk_size: PositiveInt = 4096
    max_train_images: PositiveInt | None = None
    embedding: Literal["tsne", "umap"] | None = "tsne"
    num_embedded: PositiveInt = 2000
    keep_features: bool = True
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.embedding == "umap" and importlib.util.find_spec("umap") is None:
            raise ValueError(
                "probe.embedding=umap needs umap (pip install umap-learn): install it, or use "
                "probe.embedding=tsne."
            )

    def check(self, context: EvaluationContext) -> None:
        """Raise ``ValueError`` if a layer does not exist, or data and models do not fit."""
        _generator(context)
        self.chosen_layers(context)
        if not hasattr(context.data, "ordered_loader"):
            raise ValueError(
                f"the probe cannot read {type(context.data).__name__} in order: derive it from "
                "bigr.training.data.resumable_data.ResumableDataModule."
            )
        for name in SPLITS:
            if context.data.num_images(name) == 0:
                raise ValueError(f"the probe needs a {name} split, and the data has none.")
        context.check_image_size()
        if context.autoencoder is None and hasattr(context.data, "image_size"):
            raise ValueError(
                "still needed: autoencoder (the B-AE that makes codes of these images). Add "
                "autoencoder=… to the command, or probe codes (data=codes)."
            )

    def num_images(self, context: EvaluationContext) -> int:
        """Return the number of images whose features are needed."""
        return sum(len(self._images(context.data, name)) for name in SPLITS)

    def chosen_layers(self, context: EvaluationContext) -> list[int]:
        """Return the numbers of the layers; ``ValueError`` if the generator lacks one."""
        num_layers = _generator(context).config.num_layers
        if self.layers == "all":
            return list(range(num_layers))
        if self.layers == "middle":
            return [max(num_layers // 2 - 1, 0)]
        layers = sorted({int(layer) for layer in self.layers})
        if not layers or layers[-1] >= num_layers:
            raise ValueError(f"probe.layers={layers}: this generator has 0..{num_layers - 1}.")
        return layers

    def __call__(
        self, context: EvaluationContext, on_batch: OnBatch = lambda _: None
    ) -> Report | None:
        """Measure the accuracy of every layer and learning rate.

        The processes share the images first, and then the layers.

        Raises:
            ValueError: if the folder contains other features.
        """
        generator, processes = _generator(context), context.processes
        layers = self.chosen_layers(context)
        chunks = {name: self._extract(context, name, layers, on_batch) for name in SPLITS}
        labels = {}
        for name, part in chunks.items():
            arrays = [array["labels"] for array in part.read("labels")]
            labels[name] = torch.from_numpy(np.concatenate(arrays)).long()
        mine: dict[int, HeadScores] = {}
        for place in range(processes.rank, len(layers), processes.count):
            classes = context.data.num_classes
            heads = LinearHeads(generator.config.dim, classes, self.head, generator.device)
            heads.fit(load_layer(chunks["train"], place), labels["train"])
            found = heads.score(load_layer(chunks["val"], place), labels["val"])
            mine[layers[place]] = found
            log.info("layer %d: top-1 %.2f%%", layers[place], 100 * found.top1[found.best])
        scores = {layer: s for part in processes.gather(mine) for layer, s in part.items()}
        if not processes.is_first:
            return None
        report = self._report(context.title, dict(sorted(scores.items())), labels)
        if self.embedding is not None:
            place = layers.index(int(report.metrics["best"]["layer"]))
            report.files[f"{self.embedding}.png"] = lambda path: self._embed(
                load_layer(chunks["val"], place), labels["val"], path
            )
        if not self.keep_features:
            report.cleanup += [part.remove for part in chunks.values()]
        return report

    def _extract(
        self, context: EvaluationContext, name: str, layers: list[int], on_batch: OnBatch
    ) -> FeatureChunks:
        """Compute the features of a split that are not in files yet."""
        generator, data = _generator(context), context.data
        images = self._images(data, name)
        settings = {**context.checksums(), "layers": layers, "of": data.num_images(name)}
        folder = context.output / "features" / name
        chunks = FeatureChunks(folder, settings, len(images), self.chunk_size)

        @torch.inference_mode()
        def batches_of(todo: Sequence[range]) -> Iterator[dict[str, Tensor]]:
            places = split(todo, self.batch_size)
            chosen = [images[place.start : place.stop] for place in places]
            for batch in data.ordered_loader(name, chosen):
                codes = _codes(batch, context)
                null = torch.full((len(codes),), generator.config.null_class, device=codes.device)
                pooled = generator.pooled_features(codes, null, layers)
                yield {"features": pooled.half(), "labels": batch.labels}

        chunks.fill(context.processes, batches_of, on_batch)
        return chunks

    def _images(self, data: ProbeData, name: str) -> list[int]:
        """Return the numbers of the images of a split whose features are used."""
        count, most = data.num_images(name), self.max_train_images
        if name == "val" or most is None or most >= count:
            return list(range(count))
        return [int(i) for i in np.linspace(0, count - 1, most).round()]

    def _report(
        self, title: str, scores: dict[int, HeadScores], labels: dict[str, Tensor]
    ) -> Report:
        """Return the accuracies by layer, at the best learning rate of each."""
        rates = [float(rate) for rate in self.head.learning_rates]
        best = max(scores, key=lambda layer: scores[layer].top1[scores[layer].best])
        top = scores[best]
        rows: list[tuple[str, ...]] = [
            (
                f"layer {layer}{' (best)' if layer == best and len(scores) > 1 else ''}",
                f"{100 * score.top1[score.best]:.2f}",
                f"{100 * score.top5[score.best]:.2f}",
                f"{rates[score.best]:g}",
            )
            for layer, score in scores.items()
        ]
        by_layer = {layer: 100 * score.top1[score.best] for layer, score in scores.items()}
        return Report(
            metrics={
                "best": {"layer": best, "learning_rate": rates[top.best]},
                "layers": {
                    str(layer): {"top1": score.top1, "top5": score.top5}
                    for layer, score in scores.items()
                },
                "learning_rates": rates,
                "train_images": len(labels["train"]),
                "val_images": len(labels["val"]),
            },
            figures={"top1": top.top1[top.best], "top5": top.top5[top.best]},
            rows=rows,
            columns=("top-1 (%)", "top-5 (%)", "learning rate"),
            headline={
                f"{name} (%)": f"{100 * values[top.best]:.2f}"
                for name, values in (("top-1", top.top1), ("top-5", top.top5))
            },
            setting=(
                f"A linear classifier of the features of layer {best} of the model {title}, "
                f"trained on {len(labels['train']):,} images, was tested on "
                f"{len(labels['val']):,} others. The best of {len(rates)} learning rates "
                f"is {rates[top.best]:g}."
            ),
            conditions={f"{name} images": len(part) for name, part in labels.items()},
            captions={
                "layers.png": "Accuracy by layer",
                f"{self.embedding}.png": f"Features of the best layer, by {self.embedding}, one "
                "colour per class",
            },
            curves={"layers.png": Curve("layer", "top-1 (%)", by_layer)} if len(scores) > 1 else {},
        )

    def _embed(self, features: Tensor, labels: Tensor, path: Path) -> None:
        """Draw ``features`` in two dimensions, with a colour for each class."""
        count = min(self.num_embedded, len(features))
        chosen = torch.linspace(0, len(features) - 1, count).round().long()
        x, y = features[chosen].float(), labels[chosen]
        x = (x - x.mean(dim=0)) / x.std(dim=0).clamp_min(1e-6)
        if self.embedding == "umap":
            from umap import UMAP

            points = UMAP(random_state=self.seed).fit_transform(x.numpy())
        else:
            from sklearn.manifold import TSNE

            perplexity = min(30.0, (len(x) - 1) / 3)
            tsne = TSNE(random_state=self.seed, perplexity=perplexity, init="pca")
            points = tsne.fit_transform(x.numpy())
        plots.scatter(path, points, y.numpy())


def load_layer(chunks: FeatureChunks, place: int) -> Tensor:
    """Return the (n, D) float16 features of the layer at position ``place``."""
    parts = [arrays["features"][:, place] for arrays in chunks.read("features")]
    return torch.from_numpy(np.concatenate(parts))


def _generator(context: EvaluationContext) -> BiGR:
    if context.generator is None:
        raise ValueError("the probe needs a generator: add generator=… to the command.")
    return context.generator


def _codes(batch: Any, context: EvaluationContext) -> Tensor:
    """Return the codes (B, N, K) of a batch of codes, or the most likely ones of images."""
    device = context.device
    moved = batch._replace(
        images=None if batch.images is None else batch.images.to(device),
        codes=None if batch.codes is None else batch.codes.to(device),
    )
    moved = context.data.on_after_batch_transfer(moved, 0)
    if moved.codes is not None:
        codes: Tensor = moved.codes
        return codes
    autoencoder = context.codec
    return grid_to_tokens(
        autoencoder.quantize(autoencoder.encode(moved.images), deterministic=True)
    )
