"""Comparison of images with real ones: FID, sFID, IS, precision, recall, density, coverage, KID.

The images are generated, or read from files. The protocol is ADM's (arXiv 2105.05233): images
rounded to uint8, TensorFlow's Inception, 50,000 samples against a reference file. In the feature
space of another network the same formulas have other names.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bigr.checkpoints.cached import CachedFileError
from bigr.data.digits import check_digit_classes
from bigr.evaluation.computed_references import point_indices
from bigr.evaluation.evaluator import EvaluationContext, OnBatch
from bigr.evaluation.feature_chunks import FeatureChunks
from bigr.evaluation.fidelity_figures import SHOWN, set_figures, shown_images
from bigr.evaluation.fidelity_report import ComparedSets, add_pictures, comparison_report
from bigr.evaluation.fidelity_settings import FULL_COUNT, FidelitySettings
from bigr.evaluation.image_supplies import (
    GeneratedImages,
    ImageSupply,
    feature_batches,
    first_images_of,
)
from bigr.evaluation.nearest import (
    NearestImages,
    NearestSearch,
    nearest_images,
    search_images,
)
from bigr.evaluation.own_classifier import accuracy_text, own_network
from bigr.evaluation.references import cached_reference, check_count, reference_images
from bigr.evaluation.report import Report
from bigr.evaluation.report_text import sampler_text
from bigr.evaluation.sample_archive import write_samples
from bigr.evaluation.stored_images import (
    StoredImages,
    check_exists,
    find_images,
    whole_split,
)
from bigr.metrics.feature_networks import load_network
from bigr.metrics.features import FeatureNetwork
from bigr.metrics.own_network import OwnNetwork
from bigr.metrics.statistics import Reference

TRAINING = "evaluation.training"
TRAINING_FOLDER = "features_training"


@functools.lru_cache(maxsize=2)
def cached_network(name: str, weights: str | None, checksum: str | None) -> FeatureNetwork:
    """Return a network, which the jobs of a sweep share."""
    return load_network(name, weights, checksum)


class FidelityEvaluation(FidelitySettings):
    """Compare generated images, or images in files, with a reference; the settings are inherited.

    Raises:
        CachedFileError: if Inception's weights are missing or damaged.
    """

    is_shared = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("samples", "against"):  # before anything is downloaded or read
            if (where := getattr(self, key)) is not None:
                check_exists(where, key)
        self.extractor: FeatureNetwork | None = None  # "own" does not exist before the images
        if self.network != "own":
            file = self.weights or (self.inception_file if self.network == "inception" else None)
            try:
                self.extractor = cached_network(self.network, file, self.weights_sha256)
            except CachedFileError as error:
                if file is not None:
                    raise
                raise CachedFileError(
                    f"{error} Without such a file, evaluation=own trains a network on the "
                    "reference."
                ) from error

    def check(self, context: EvaluationContext) -> None:
        """Raise ``ValueError`` if there are no images, or they do not fit the other settings."""
        if self.samples is not None:
            if context.generator is not None:
                raise ValueError("samples=… and generator=… exclude each other: give one of them.")
            self._supplies(context)
        elif context.generator is None:
            raise ValueError(
                "there are no images to compare: add samples=…, or generator=… and autoencoder=…."
            )
        elif self.network == "digits":
            generator = context.models.generator
            check_digit_classes(
                generator.config.num_classes,
                generator.settings.class_names,
                "evaluation.network=digits",
            )
        else:
            _ = context.models
        if self.training is not None:
            self._training_images(self._supplies(context)[0].image_size)

    def _training_images(self, image_size: int) -> StoredImages:
        assert self.training is not None
        return find_images(self.training, TRAINING, image_size=image_size, split="train")

    def num_images(self, context: EvaluationContext) -> int:
        """Return the number of images."""
        return sum(supply.count for supply in self._supplies(context))

    def _supplies(self, context: EvaluationContext) -> Sequence[ImageSupply]:
        """Return the sets of images: repetitions, or the samples and those to compare them with."""
        if self.samples is None:
            count = FULL_COUNT if self.count is None else self.count
            return [
                GeneratedImages(
                    context,
                    count,
                    order=self.labels,
                    seed=self.seed + number * count,
                    batch_size=self.batch_size,
                )
                for number in range(self.repeats)
            ]
        return first_images_of(self._stored, count=self.count, batch_size=self.batch_size)

    @functools.cached_property
    def _stored(self) -> dict[str, StoredImages]:
        """The images in files, by the names that the user gave."""
        given = {"samples": self.samples, "against": self.against}
        return {
            f"{key}={where}": find_images(
                where, key, image_size=self.image_size, split=self.samples_split
            )
            for key, where in given.items()
            if where is not None
        }

    def __call__(
        self, context: EvaluationContext, on_batch: OnBatch = lambda _: None
    ) -> Report | None:
        """Process the images that earlier runs did not finish, and compare all with the reference.

        Raises:
            ValueError: if the reference does not fit, or the folder holds another evaluation.
        """
        processes, device = context.processes, context.device
        supplies = self._supplies(context)
        network = self._network(context, supplies[0]).to(device)
        reference = self._reference(context, network, supplies[0].image_size)
        # 1. The features of all images, in files.
        sets = []
        for number, supply in enumerate(supplies):
            folder = context.output / ("features" if number == 0 else f"features_{number}")
            settings = self._settings(supply, network) if processes.is_first else {}
            settings = processes.broadcast(settings)
            chunks = FeatureChunks(folder, settings, supply.count, self.chunk_size)
            is_kept = functools.partial(self._keeps, supply)
            compute = feature_batches(supply, network, device, keeps=is_kept)
            chunks.fill(processes, compute, on_batch)
            sets.append(chunks)
        # 2. The training images nearest to the first samples.
        shown = None
        if processes.is_first or self.training is not None:
            shown = shown_images(sets[0], supplies[0])
        nearest = shown and self._nearest(context, network, reference, *shown)
        if not processes.is_first:
            return None
        # 3. The figures, from the files.
        place = device if device.type == "cuda" else "cpu"
        found = [
            set_figures(
                chunks,
                supply.labels,
                network,
                reference,
                place,
                keeps_spatial=self.num_resamples > 0,
            )
            for chunks, supply in zip(sets, supplies, strict=True)
        ]
        compared = ComparedSets(
            *(found, network, reference, supplies[0].image_size, self._source(context), place)
        )
        report = comparison_report(compared, self)
        assert shown is not None  # in the first process
        add_pictures(report, shown[1], nearest, network)
        report.metrics |= {name: settings[name] for name in ("sampler",) if name in settings}
        if isinstance(network, OwnNetwork):
            report.metrics["network"]["accuracy"] = network.accuracy
            report.notes.append(f"In this feature space, {accuracy_text(network)}.")
        # 4. The images themselves, if they are to be kept, and deletion of temporary files.
        if self.save_images:
            chunks, labels = sets[0], supplies[0].labels
            labels = torch.zeros(chunks.count).long() if labels is None else labels
            report.files["samples.npz"] = lambda path: write_samples(
                (arrays["images"] for arrays in chunks.read("images")), labels, path
            )
            report.captions["samples.npz"] = "all images, for ADM's evaluation suite"
        if not self.keep_features:
            report.cleanup += [chunks.remove for chunks in sets]
            report.cleanup.append(
                lambda: shutil.rmtree(context.output / TRAINING_FOLDER, ignore_errors=True)
            )
        return report

    def _nearest(
        self,
        context: EvaluationContext,
        network: FeatureNetwork,
        reference: Reference,
        numbers: list[int],
        samples: Tensor,
        points: Tensor,
    ) -> NearestImages | None:
        """Return the training images, or those of the reference, nearest to a few samples."""
        assert self.reference is not None
        size = samples.shape[-1]
        if self.training is not None:
            images = self._training_images(size)
            search = search_images(
                points,
                images,
                network,
                context.output / TRAINING_FOLDER,
                processes=context.processes,
                device=context.device,
            )
            return nearest_images(search, samples, images, self.training, numbers)
        known = reference_images(reference, self.reference, size, split=self.reference_split)
        if known is None or reference.points is None or not context.processes.is_first:
            return None
        search = NearestSearch(points)
        search.update(reference.points)
        search.indices = point_indices(len(known))[search.indices]
        return nearest_images(search, samples, known, self.reference, numbers)

    def _reference(
        self, context: EvaluationContext, network: FeatureNetwork, image_size: int
    ) -> Reference:
        """Return the reference, after checking the number of its images."""
        assert self.reference is not None
        reference = cached_reference(
            self.reference,
            network,
            image_size,
            split=self.reference_split,
            processes=context.processes,
            device=context.device,
        )
        check_count(reference, self.reference, self.reference_count)
        return reference

    def _source(self, context: EvaluationContext) -> str:
        """Return where the images come from, in words."""
        if self.samples is not None:
            return f"those of {self.samples}"
        count = FULL_COUNT if self.count is None else self.count
        seeds = f"seeds {self.seed} to {self.seed + self.repeats * count - 1}"
        settings = f"{sampler_text(context.sampler)}; {self.labels} classes; {seeds}"
        return f"generated by the model {context.title} ({settings})"

    def _network(self, context: EvaluationContext, supply: ImageSupply) -> FeatureNetwork:
        """Return the network whose features are compared."""
        if self.extractor is not None:
            return self.extractor
        assert self.reference is not None
        return own_network(
            self.reference,
            supply.image_size,
            split=whole_split(self.reference_split),
            processes=context.processes,
            labels=supply.labels,
            training=self.training,
            name=self.network_name,
            max_steps=self.network_steps,
        )

    def _keeps(self, supply: ImageSupply, images: range) -> bool:
        """Return whether the pixels of some images are kept, for the picture or for a file."""
        return self.save_images or (not supply.can_repeat() and images.start < SHOWN)

    def _settings(self, supply: ImageSupply, network: FeatureNetwork) -> dict[str, Any]:
        """Return everything that the features depend on."""
        return {**supply.identity(), "network": network.identity, "images": self.save_images}
