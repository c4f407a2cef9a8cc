"""The linear probe of the paper: what a frozen generator's features know about classes.

Unmasked codes, null class, hidden states averaged over the tokens; then parameter-free BatchNorm
and a linear classifier. Features of all chosen layers come from one pass and are kept in files.
Shapes: n images, L layers, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bigr.checkpoints.identity import weights_sha256
from bigr.evaluation.feature_chunks import FeatureChunks
from bigr.evaluation.linear_heads import HeadScores, HeadSettings, LinearHeads
from bigr.evaluation.report import Curve, Evaluation
from bigr.inference.processes import ALONE, Processes
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.models.codes import grid_to_tokens

log = logging.getLogger(__name__)

SPLITS = ("train", "val")


class ProbeData(Protocol):
    """A data module of images or codes, set up."""

    num_classes: int

    def num_images(self, split: str) -> int:
        """Of ``train`` or ``val``."""

    def ordered_loader(self, split: str, batches: Sequence[Sequence[int]]) -> Any:
        """Batches of these images."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Bytes to floats, on the device."""


class LinearProbe:
    """Extract features, train heads, score them.

    Args:
        head: how the linear classifiers are trained.
        layers: 0-based; ``all``, ``middle`` (the paper's), or a list.
        batch_size: images at a time on each device.
        chunk_size: images per file of features.
        max_train_images: evenly spaced ones of the training split; None takes all.
        embedding: ``tsne``, ``umap`` or None: a picture of the best layer's features.
        num_embedded: images in that picture.
        keep_features: leave them in ``features/`` for another probe in the same folder.
        seed: of the picture.

    Raises:
        ValueError: for impossible settings.
    """

    def __init__(
        self,
        *,
        head: HeadSettings,
        layers: str | Sequence[int] = "middle",
        batch_size: int = 64,
        chunk_size: int = 4096,
        max_train_images: int | None = None,
        embedding: str | None = "tsne",
        num_embedded: int = 2000,
        keep_features: bool = True,
        seed: int = 0,
    ) -> None:
        if isinstance(layers, str) and layers not in ("all", "middle"):
            raise ValueError(
                f"probe.layers={layers}: it can be all, middle or a list such as [12]."
            )
        if embedding not in (None, "tsne", "umap"):
            raise ValueError(f"probe.embedding={embedding}: it can be tsne, umap or null.")
        if embedding == "umap":
            import importlib.util

            if importlib.util.find_spec("umap") is None:
                raise ValueError(
                    "probe.embedding=umap needs umap: pip install umap-learn, or tsne."
                )
        self.head = head
        self.layers = layers
        self.batch_size = batch_size
        self.chunk_size = chunk_size
        self.max_train_images = max_train_images
        self.embedding = embedding
        self.num_embedded = num_embedded
        self.keep_features = keep_features
        self.seed = seed

    def chosen_layers(self, num_layers: int) -> list[int]:
        """Of a generator with ``num_layers``; ``ValueError`` if one isn't there."""
        if self.layers == "all":
            return list(range(num_layers))
        if self.layers == "middle":
            return [num_layers // 2 - 1 if num_layers > 1 else 0]
        layers = [int(layer) for layer in self.layers]
        if not layers or any(not 0 <= layer < num_layers for layer in layers):
            raise ValueError(f"probe.layers={layers}: this generator has 0..{num_layers - 1}.")
        return sorted(set(layers))

    def __call__(
        self,
        generator: BiGR,
        autoencoder: BinaryAutoencoder | None,
        data: ProbeData,
        on_batch: Callable[[int], object] = lambda _: None,
        *,
        folder: Path,
        processes: Processes = ALONE,
    ) -> Evaluation | None:
        """Accuracy of every layer and learning rate; None in all processes but the first.

        Args:
            generator: frozen, on this process's device.
            autoencoder: makes the codes, if the data are images.
            data: both splits.
            on_batch: called with the number of images that were finished.
            folder: for features.
            processes: that share the work: images, then layers.

        Raises:
            ValueError: if data and model don't fit, or ``folder`` holds other features.
        """
        layers = self.chosen_layers(generator.config.num_layers)
        chunks, labels = {}, {}
        for split in SPLITS:
            chunks[split] = self._extract(
                generator, autoencoder, data, split, layers, on_batch, folder, processes
            )
        processes.barrier()
        for split in SPLITS:
            parts = [arrays["labels"] for arrays in chunks[split].read("labels")]
            labels[split] = torch.from_numpy(np.concatenate(parts)).long()
        mine: dict[int, HeadScores] = {}
        for place in range(processes.rank, len(layers), processes.count):
            heads = LinearHeads(generator.config.dim, data.num_classes, self.head, generator.device)
            heads.fit(load_layer(chunks["train"], place), labels["train"])
            mine[layers[place]] = heads.score(load_layer(chunks["val"], place), labels["val"])
            best = mine[layers[place]]
            log.info("layer %d: top-1 %.2f%%", layers[place], 100 * best.top1[best.best])
        scores = processes.gather(mine)
        if not processes.is_first:
            return None
        found = {layer: score for part in scores for layer, score in part.items()}
        result = self._result(dict(sorted(found.items())), labels)
        if self.embedding is not None:
            best_layer = int(result.metrics["best"]["layer"])
            place = layers.index(best_layer)
            result.files[f"{self.embedding}.png"] = lambda path: self._embed(
                load_layer(chunks["val"], place), labels["val"], path
            )
        if not self.keep_features:
            result.cleanup += [part.remove for part in chunks.values()]
        return result

    @torch.inference_mode()
    def _extract(
        self,
        generator: BiGR,
        autoencoder: BinaryAutoencoder | None,
        data: ProbeData,
        split: str,
        layers: list[int],
        on_batch: Callable[[int], object],
        folder: Path,
        processes: Processes,
    ) -> FeatureChunks:
        """Features of a split, in files."""
        images = self._images(data, split)
        settings = {
            "generator": weights_sha256(generator),
            "autoencoder": None if autoencoder is None else weights_sha256(autoencoder),
            "layers": layers,
            "of": data.num_images(split),
        }
        chunks = FeatureChunks(folder / "features" / split, settings, len(images), self.chunk_size)
        todo: list[range] = processes.broadcast(chunks.pending())
        on_batch(len(images) - sum(len(part) for part in todo))
        mine = todo[processes.rank :: processes.count]
        batches = [
            [images[i] for i in range(start, min(start + self.batch_size, part.stop))]
            for part in mine
            for start in range(part.start, part.stop, self.batch_size)
        ]
        loaded = iter(data.ordered_loader(split, batches))
        device, null = generator.device, generator.config.null_class
        for part in mine:
            features: list[np.ndarray[Any, Any]] = []
            labels: list[np.ndarray[Any, Any]] = []
            for _ in range(part.start, part.stop, self.batch_size):
                batch = next(loaded)
                labels.append(batch.labels.numpy())
                codes = _codes(batch, data, autoencoder, device)
                classes = torch.full((len(codes),), null, device=device)
                pooled = generator.pooled_features(codes, classes, layers)
                features.append(pooled.half().cpu().numpy())
                on_batch(len(codes) * processes.count)
            arrays = {"features": np.concatenate(features), "labels": np.concatenate(labels)}
            chunks.write(part, arrays)
        return chunks

    def _images(self, data: ProbeData, split: str) -> list[int]:
        count = data.num_images(split)
        if count == 0:
            raise ValueError(f"the probe needs a {split} split, and the data has none.")
        most = self.max_train_images
        if split == "val" or most is None or most >= count:
            return list(range(count))
        return [int(i) for i in np.linspace(0, count - 1, most).round()]

    def _result(self, scores: dict[int, HeadScores], labels: dict[str, Tensor]) -> Evaluation:
        rates = [float(rate) for rate in self.head.learning_rates]
        best_layer = max(scores, key=lambda layer: scores[layer].top1[scores[layer].best])
        top = scores[best_layer]
        by_layer = {layer: 100 * score.top1[score.best] for layer, score in scores.items()}
        rows: list[tuple[str, ...]] = [
            (
                f"layer {layer}{' (best)' if layer == best_layer and len(scores) > 1 else ''}",
                f"{100 * score.top1[score.best]:.2f}",
                f"{100 * score.top5[score.best]:.2f}",
                f"{rates[score.best]:g}",
            )
            for layer, score in scores.items()
        ]
        return Evaluation(
            metrics={
                "best": {"layer": best_layer, "learning_rate": rates[top.best]},
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
            curves={"layers.png": Curve("layer", "top-1 (%)", by_layer)} if len(scores) > 1 else {},
        )

    def _embed(self, features: Tensor, labels: Tensor, path: Path) -> None:
        """A picture of ``features`` in two dimensions, coloured by class."""
        from bigr.evaluation import plots

        count = min(self.num_embedded, len(features))
        chosen = torch.linspace(0, len(features) - 1, count).round().long()
        x, y = features[chosen].float(), labels[chosen]
        x = (x - x.mean(dim=0)) / x.std(dim=0).clamp_min(1e-6)
        plots.scatter(path, _in_two_dimensions(x, self.embedding or "tsne", self.seed), y.numpy())


def _in_two_dimensions(x: Tensor, method: str, seed: int) -> Any:
    if method == "umap":
        from umap import UMAP

        return UMAP(random_state=seed).fit_transform(x.numpy())
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(x) - 1) / 3)
    return TSNE(random_state=seed, perplexity=perplexity, init="pca").fit_transform(x.numpy())


def load_layer(chunks: FeatureChunks, place: int) -> Tensor:
    """(n, D) float16 features of the layer at ``place``."""
    parts = [arrays["features"][:, place] for arrays in chunks.read("features")]
    return torch.from_numpy(np.concatenate(parts))


def _codes(
    batch: Any, data: ProbeData, autoencoder: BinaryAutoencoder | None, device: torch.device
) -> Tensor:
    """(B, N, K) of a batch of codes or images; the likelier bits."""
    moved = batch._replace(
        images=None if batch.images is None else batch.images.to(device),
        codes=None if batch.codes is None else batch.codes.to(device),
    )
    moved = data.on_after_batch_transfer(moved, 0)
    if moved.codes is not None:
        codes: Tensor = moved.codes
        return codes
    if autoencoder is None:
        raise ValueError("still needed: autoencoder, because this data are images.")
    bit_probs = autoencoder.encode(moved.images)
    return grid_to_tokens(autoencoder.quantize(bit_probs, deterministic=True))
