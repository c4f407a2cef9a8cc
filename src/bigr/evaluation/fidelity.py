"""Generated images against real ones, as papers score them: FID, sFID, IS, precision, recall, KID.

The protocol is ADM's (arXiv 2105.05233): images rounded to uint8, TensorFlow's Inception, 50,000
samples against a reference file. In another network's feature space the same formulas have other
names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from bigr.checkpoints.identity import weights_sha256
from bigr.data.image_arrays import to_float, to_uint8
from bigr.evaluation.feature_chunks import FeatureChunks, fill
from bigr.evaluation.report import Curve, Evaluation
from bigr.evaluation.sample_archive import write_samples
from bigr.evaluation.shared_models import cached_network, cached_reference
from bigr.inference.generate import Models, generate
from bigr.inference.processes import ALONE, Processes
from bigr.metrics.feature_networks import FeatureNetwork
from bigr.metrics.statistics import FeatureStatistics, Reference, compare, frechet_by_count
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig

Labels = Literal["balanced", "random"]
FULL_COUNT = 50_000
SHOWN = 64
COLUMNS = 8
TITLES = {
    "fid": "FID",
    "sfid": "sFID",
    "is": "IS",
    "precision": "precision",
    "recall": "recall",
    "kid": "KID (x1000)",
    "accuracy": "accuracy",
}
OTHER_TITLES = {"fid": "Frechet distance", "is": "exp KL score", "kid": "kernel distance (x1000)"}
"""In another space than Inception's these are no FID, IS or KID."""
OTHER_NAMES = {"fid": "frechet", "is": "score", "kid": "kernel"}


def class_labels(count: int, num_classes: int, how: Labels, seed: int) -> Tensor:
    """The classes of ``count`` images, (count,) int64.

    ``balanced``: as many of each as possible, in an order drawn from ``seed``, so that any part of
    the images is a fair sample, too. ``random``: drawn independently, as ADM does.
    """
    generator = torch.Generator().manual_seed(seed)
    if how == "random":
        return torch.randint(num_classes, (count,), generator=generator)
    return (torch.arange(count) * num_classes // count)[torch.randperm(count, generator=generator)]


def metric_name(name: str, network: FeatureNetwork) -> str:
    """How a figure is called in ``metrics.json``: ``fid`` is Inception's alone."""
    return f"{network.prefix}{OTHER_NAMES.get(name, name)}" if network.prefix else name


def metric_title(name: str, network: FeatureNetwork, count: int) -> str:
    """How a figure is called in tables; the number of images belongs to the name of FID."""
    title = TITLES[name]
    if network.prefix:
        title = OTHER_TITLES.get(name, title)
    if name in ("fid", "sfid"):
        title += f"-{count // 1000}k" if count % 1000 == 0 else f"-{count}"
    return f"{title} ({network.title})" if network.prefix else title


class FidelityEvaluation:
    """Draw images and compare them with a reference.

    Args:
        reference: ADM's ``.npz``, one from here, a folder of images, or ``digits``.
        reference_split: ``val`` or ``train``, of a folder.
        network: ``inception``, or ``digits`` for a small classifier of digits.
        inception_file: Inception's weights; None is torch's hub cache.
        count: images.
        labels: ``balanced`` or ``random``.
        batch_size: images at a time on each device; without influence on the images.
        chunk_size: images per file of features: what an interruption loses at most.
        seed: of the first image; image i uses ``seed + i``.
        save_images: write ``samples.npz`` (``arr_0`` uint8 (n, H, W, 3), ``arr_1`` labels) for
            ADM's own suite.
        keep_features: leave the features in ``features/``.
        published: figures of the paper, by name, for the table.
        tolerance: how far from them is all right, by name.

    Raises:
        ValueError: for impossible settings.
    """

    def __init__(
        self,
        *,
        reference: str,
        reference_split: str = "val",
        network: str = "inception",
        inception_file: str | None = None,
        count: int = FULL_COUNT,
        labels: Labels = "balanced",
        batch_size: int = 64,
        chunk_size: int = 256,
        seed: int = 0,
        save_images: bool = False,
        keep_features: bool = False,
        published: dict[str, float] | None = None,
        tolerance: dict[str, float] | None = None,
    ) -> None:
        if count < 2:
            raise ValueError(f"evaluation.count={count} is too small: a covariance needs 2 images.")
        if labels not in ("balanced", "random"):
            raise ValueError(f"evaluation.labels={labels}: it can be balanced or random.")
        if reference_split not in ("train", "val"):
            raise ValueError(f"evaluation.reference_split={reference_split}: train or val.")
        for name in [*(published or {}), *(tolerance or {})]:
            if name not in TITLES:
                raise ValueError(
                    f"evaluation.published: there is no figure {name}; there are "
                    f"{', '.join(TITLES)}."
                )
        self.reference = reference
        self.reference_split = reference_split
        self.count = count
        self.labels: Labels = labels
        self.batch_size = batch_size
        self.chunk_size = chunk_size
        self.seed = seed
        self.save_images = save_images
        self.keep_features = keep_features
        self.published = dict(published or {})
        self.tolerance = dict(tolerance or {})
        self.network = cached_network(network, inception_file)

    def check(self, models: Models) -> None:
        """Raise ``ValueError`` if ``models`` draw no images of classes."""
        if self.network.prefix == "digits_" and models.generator.config.num_classes != 10:
            raise ValueError(
                "evaluation.network=digits needs a generator of 10 classes, this one has "
                f"{models.generator.config.num_classes}."
            )

    def __call__(
        self,
        models: Models,
        sampler: SamplerConfig,
        on_batch: Callable[[int], object] = lambda _: None,
        *,
        folder: Path,
        processes: Processes = ALONE,
        execution: ExecutionConfig = DEFAULT_EXECUTION,
    ) -> Evaluation | None:
        """Figures of ``models``; None in all processes but the first.

        Args:
            models: on this process's device.
            sampler: settings.
            on_batch: called with the number of images that were finished.
            folder: for features that outlive an interruption; the same in all processes.
            processes: that share the work.
            execution: precision and mode of the computation.

        Raises:
            ValueError: if the reference doesn't fit, or ``folder`` holds another evaluation.
        """
        device = models.generator.device
        network = self.network.to(device)
        reference = cached_reference(
            self.reference,
            network,
            models.autoencoder.config.image_size,
            self.reference_split,
            processes=processes,
            device=device,
        )
        settings = self._settings(models, sampler, execution) if processes.is_first else {}
        settings = processes.broadcast(settings)
        chunks = FeatureChunks(folder / "features", settings, self.count, self.chunk_size)
        labels = class_labels(
            self.count, models.generator.config.num_classes, self.labels, self.seed
        )
        todo: list[range] = processes.broadcast(chunks.pending())
        on_batch(self.count - sum(len(images) for images in todo))

        def images_of(images: range) -> Iterator[Tensor]:
            for start in range(images.start, images.stop, self.batch_size):
                chosen = slice(start, min(start + self.batch_size, images.stop))
                drawn = generate(
                    models,
                    sampler,
                    labels[chosen],
                    execution=execution,
                    seed=self.seed + start,
                    batch_size=self.batch_size,
                )
                yield to_uint8(drawn).to(device)

        mine = todo[processes.rank :: processes.count]
        fill(
            chunks,
            mine,
            images_of,
            network,
            keep_images=lambda images: self.save_images or images.start < SHOWN,
            on_images=lambda number: on_batch(number * processes.count),
        )
        processes.barrier()
        if not processes.is_first:
            return None
        result = self._evaluate(chunks, labels, reference, network, device)
        result.metrics["sampler"] = settings["sampler"]
        if self.save_images:
            result.files["samples.npz"] = lambda path: write_samples(chunks, labels, path)
        if not self.keep_features:
            result.cleanup.append(chunks.remove)
        return result

    def _settings(
        self, models: Models, sampler: SamplerConfig, execution: ExecutionConfig
    ) -> dict[str, Any]:
        return {
            "generator": weights_sha256(models.generator),
            "autoencoder": weights_sha256(models.autoencoder),
            "sampler": dataclasses.asdict(sampler),
            "execution": dataclasses.asdict(execution),
            "network": self.network.identity,
            "labels": self.labels,
            "seed": self.seed,
            "images": self.save_images,
        }

    def _evaluate(
        self,
        chunks: FeatureChunks,
        labels: Tensor,
        reference: Reference,
        network: FeatureNetwork,
        device: torch.device,
    ) -> Evaluation:
        statistics = FeatureStatistics(device=device if device.type == "cuda" else "cpu")
        hits = 0
        shown: list[Tensor] = []
        for features in chunks.features():
            start = statistics.count
            statistics.update(features)
            if network.prefix:
                read = features.logits.argmax(dim=1)
                hits += int((read == labels[start : start + len(read)]).sum())
        for arrays in chunks.read("images"):
            if "images" not in arrays or len(shown) >= SHOWN:
                break
            shown += list(torch.from_numpy(arrays["images"]))[: SHOWN - len(shown)]
        by_name = compare(statistics, reference, device=statistics.device)
        if network.prefix:
            by_name["accuracy"] = hits / self.count
        by_count = frechet_by_count(statistics.points, reference, statistics.device)
        by_count[self.count] = by_name["fid"]
        figures = {metric_name(name, network): value for name, value in by_name.items()}
        return Evaluation(
            metrics={
                "count": self.count,
                "network": network.title,
                "reference": {"path": self.reference, **reference.identity},
                "published": self.published,
                f"{metric_name('fid', network)}_by_count": by_count,
                "seed": self.seed,
            },
            figures=figures,
            rows=self._rows(by_name, network),
            columns=("measured", "published", "tolerance", "agrees"),
            pictures={"samples.png": (to_float(torch.stack(shown)), COLUMNS)} if shown else {},
            curves={
                "frechet_by_count.png": Curve(
                    "generated images",
                    metric_title("fid", network, self.count).replace(f"-{self.count}", ""),
                    by_count,
                    is_log=True,
                )
            },
        )

    def _rows(self, figures: dict[str, float], network: FeatureNetwork) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for name, value in figures.items():
            scale = 1000.0 if name == "kid" else 1.0
            published, tolerance = self.published.get(name), self.tolerance.get(name)
            if published is None:
                cells = ("", "", "")
            elif tolerance is None:
                cells = (f"{published:g}", "", "")
            else:
                agrees = "yes" if abs(value - published) <= tolerance else "NO"
                cells = (f"{published:g}", f"{tolerance:g}", agrees)
            title = metric_title(name, network, self.count)
            rows.append((title, f"{value * scale:.4g}", *cells))
        return rows
