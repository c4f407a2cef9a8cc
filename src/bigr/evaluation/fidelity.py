"""Generated images against real ones, as papers score them: FID, sFID, IS, precision, recall, KID.

The protocol is ADM's (arXiv 2105.05233): images rounded to uint8, TensorFlow's Inception, 50,000
samples against a reference file. In the feature space of another network the same formulas have
other names.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from bigr.checkpoints.identity import weights_sha256
from bigr.data.image_arrays import to_float, to_uint8
from bigr.evaluation.evaluator import EvaluationContext, OnBatch
from bigr.evaluation.feature_chunks import FeatureChunks, feature_arrays
from bigr.evaluation.references import cached_reference
from bigr.evaluation.report import Curve, Report
from bigr.evaluation.sample_archive import write_samples
from bigr.inference.generate import class_labels, generate_batches
from bigr.metrics.feature_networks import load_network
from bigr.metrics.features import FeatureNetwork
from bigr.metrics.statistics import FeatureStatistics, Reference, compare, frechet_by_count
from bigr.sampling.sampler import Sampler
from bigr.schema import NonNegativeInt, PositiveInt, check_fields

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
"""Only in the feature space of Inception these are FID, IS and KID."""
OTHER_NAMES = {"fid": "frechet", "is": "score", "kid": "kernel"}


def metric_name(name: str, network: FeatureNetwork) -> str:
    """Return the name of a figure in ``metrics.json``; only Inception's is called ``fid``."""
    return f"{network.prefix}{OTHER_NAMES.get(name, name)}" if network.prefix else name


def metric_title(name: str, network: FeatureNetwork, count: int | None = None) -> str:
    """Return the title of a figure; that of FID contains the number of images, if it is given."""
    title = OTHER_TITLES.get(name, TITLES[name]) if network.prefix else TITLES[name]
    if name in ("fid", "sfid") and count is not None:
        title += f"-{count // 1000}k" if count % 1000 == 0 else f"-{count}"
    return f"{title} ({network.title})" if network.prefix else title


@functools.lru_cache(maxsize=2)
def _network(name: str, weights: str | None) -> FeatureNetwork:
    return load_network(name, weights)


@dataclasses.dataclass(kw_only=True)
class FidelityEvaluation:
    """Generate images and compare them with a reference.

    Args:
        reference: ADM's ``.npz``, one that was written here, a folder of images, or ``digits``.
        reference_split: split of a folder.
        network: ``inception``, or ``digits`` for a small classifier of digits.
        inception_file: Inception's weights; None looks in torch's hub cache.
        count: number of images.
        labels: ``balanced`` or ``random``; see :func:`bigr.inference.generate.class_labels`.
        batch_size: images at a time on each device; it does not change them.
        chunk_size: images per file of features, the most that an interruption loses.
        seed: seed of the first image; image i uses ``seed + i``.
        save_images: write ``samples.npz`` for ADM's own evaluation suite.
        keep_features: keep the features in ``features/``.
        published: figures of the paper by name, for the table.
        tolerance: largest accepted differences from them, by name.

    Raises:
        CachedFileError: if Inception's weights are missing or damaged.
    """

    is_shared = True
    reference: str
    reference_split: Literal["train", "val"] = "val"
    network: Literal["inception", "digits"] = "inception"
    inception_file: str | None = None
    count: Annotated[int, Ge(2)] = FULL_COUNT  # a covariance needs two images
    labels: Literal["balanced", "random"] = "balanced"
    batch_size: PositiveInt = 64
    chunk_size: PositiveInt = 256
    seed: NonNegativeInt = 0
    save_images: bool = False
    keep_features: bool = False
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    tolerance: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        for name in [*self.published, *self.tolerance]:
            if name not in TITLES:
                raise ValueError(
                    f"evaluation.published: there is no figure {name}; there are "
                    f"{', '.join(TITLES)}."
                )
        self.extractor = _network(self.network, self.inception_file)

    def check(self, context: EvaluationContext) -> None:
        """Raise ``ValueError`` if the classifier of digits is to judge other classes."""
        classes = context.models.generator.config.num_classes
        if self.extractor.prefix == "digits_" and classes != 10:
            raise ValueError(
                "evaluation.network=digits needs a generator of 10 classes, this one has "
                f"{classes}."
            )

    def num_images(self, context: EvaluationContext) -> int:  # noqa: ARG002
        """Return the number of generated images."""
        return self.count

    def __call__(
        self, context: EvaluationContext, on_batch: OnBatch = lambda _: None
    ) -> Report | None:
        """Generate the images that an earlier run has not, and compare all with the reference.

        Raises:
            ValueError: if the reference does not fit, or the folder holds another evaluation.
        """
        processes, device = context.processes, context.device
        network = self.extractor.to(device)
        reference = cached_reference(
            self.reference,
            network,
            context.codec.config.image_size,
            split=self.reference_split,
            processes=processes,
            device=device,
        )
        settings = processes.broadcast(self._settings(context) if processes.is_first else {})
        chunks = FeatureChunks(context.output / "features", settings, self.count, self.chunk_size)
        classes = context.models.generator.config.num_classes
        labels = class_labels(self.count, classes, self.labels, self.seed)
        sampler = Sampler(context.sampler, context.execution)

        def batches_of(todo: Sequence[range]) -> Iterator[dict[str, Tensor]]:
            for images in todo:
                for batch in generate_batches(
                    context.models,
                    sampler,
                    labels[images.start : images.stop],
                    seed=self.seed + images.start,
                    batch_size=self.batch_size,
                ):
                    pixels = to_uint8(batch.images).to(device)
                    keeps = self.save_images or images.start < SHOWN
                    yield feature_arrays(network, pixels) | ({"images": pixels} if keeps else {})

        chunks.fill(processes, batches_of, on_batch)
        if not processes.is_first:
            return None
        report = self._report(chunks, labels, reference, device)
        report.metrics["sampler"] = settings["sampler"]
        if self.save_images:
            report.files["samples.npz"] = lambda path: write_samples(chunks, labels, path)
        if not self.keep_features:
            report.cleanup.append(chunks.remove)
        return report

    def _settings(self, context: EvaluationContext) -> dict[str, Any]:
        """Return everything that the features depend on."""
        generator, autoencoder = context.models
        return {
            "generator": weights_sha256(generator),
            "autoencoder": weights_sha256(autoencoder),
            "sampler": context.sampler.to_dict(),
            "execution": dataclasses.asdict(context.execution),
            "network": self.extractor.identity,
            "labels": self.labels,
            "seed": self.seed,
            "images": self.save_images,
        }

    def _report(
        self, chunks: FeatureChunks, labels: Tensor, reference: Reference, device: torch.device
    ) -> Report:
        """Compute the figures from the files of features."""
        network = self.extractor
        statistics = FeatureStatistics(device=device if device.type == "cuda" else "cpu")
        hits = 0
        for features in chunks.features():
            start = statistics.count
            statistics.update(features)
            read = features.logits.argmax(dim=1)
            if network.prefix:
                hits += int((read == labels[start : start + len(read)]).sum())
        found = compare(statistics, reference, device=statistics.device)
        if network.prefix:
            found["accuracy"] = hits / self.count
        by_count = frechet_by_count(statistics.points, reference, statistics.device)
        by_count[self.count] = found["fid"]
        shown: list[Tensor] = []
        for arrays in chunks.read("images"):
            if "images" not in arrays or len(shown) >= SHOWN:
                break
            shown += list(torch.from_numpy(arrays["images"]))[: SHOWN - len(shown)]
        curve = Curve("generated images", metric_title("fid", network), by_count, is_log=True)
        return Report(
            metrics={
                "count": self.count,
                "network": network.title,
                "reference": {"path": self.reference, **reference.identity},
                "published": dict(self.published),
                f"{metric_name('fid', network)}_by_count": by_count,
                "seed": self.seed,
            },
            figures={metric_name(name, network): value for name, value in found.items()},
            rows=[self._row(name, value) for name, value in found.items()],
            columns=("measured", "published", "tolerance", "agrees"),
            pictures={"samples.png": (to_float(torch.stack(shown)), COLUMNS)} if shown else {},
            curves={"frechet_by_count.png": curve},
        )

    def _row(self, name: str, value: float) -> tuple[str, ...]:
        """Return the row of a figure in the table, compared with the published one."""
        shown = value * 1000 if name == "kid" else value
        published, tolerance = self.published.get(name), self.tolerance.get(name)
        cells = ["", "", ""]
        if published is not None:
            cells[0] = f"{published:g}"
            if tolerance is not None:
                agrees = "yes" if abs(value - published) <= tolerance else "NO"
                cells[1:] = [f"{tolerance:g}", agrees]
        return (metric_title(name, self.extractor, self.count), f"{shown:.4g}", *cells)
