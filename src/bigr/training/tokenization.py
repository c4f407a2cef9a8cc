"""Encoding images as packed codes with Lightning's predict loop, shard by shard.

A shard is a fixed range of images in fixed batches, and its bits depend only on the seed, the
image, the view and the draw. Each of R processes makes every R-th shard, unless it exists already.
The result therefore depends neither on R nor on interruptions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from lightning import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bigr.checkpoints.identity import weights_sha256
from bigr.data.broken import BrokenImage
from bigr.data.codes_format import StoreSettings
from bigr.data.codes_writer import StoreWriter
from bigr.data.decoding import BrokenImageError
from bigr.data.image_arrays import to_float
from bigr.data.image_dataset import TokenizableImages
from bigr.data.packing import pack_codes
from bigr.data.seeds import mixed_seed
from bigr.data.transforms import View, count_views
from bigr.metrics.patch_features import PatchEncoder
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.codes import grid_to_tokens
from bigr.sampling.random_numbers import SeededNoise
from bigr.training.data.image_data import ImageDataModule
from bigr.training.data.resumable_data import loader_processes


def check_tokenizable(data: Any) -> None:
    """Raise ``ValueError`` if a data module has no images whose views can be read in order."""
    if not isinstance(data, ImageDataModule):
        raise ValueError(
            f"{type(data).__name__} cannot be tokenized: choose other data, or derive the class "
            "from bigr.training.data.image_data.ImageDataModule."
        )


def store_settings(
    autoencoder: BinaryAutoencoder,
    data: Any,
    pictures: dict[str, TokenizableImages],
    views: tuple[View, ...],
    encoder: PatchEncoder | None = None,
    **settings: Any,
) -> StoreSettings:
    """Return what identifies a store of codes.

    Args:
        autoencoder: the B-AE that encodes.
        data: an :class:`~bigr.training.data.image_data.ImageDataModule`, after ``setup``.
        pictures: its images by split.
        views: views of each image.
        encoder: computes features of every token; None stores none.
        **settings: the remaining fields of :class:`StoreSettings`.
    """
    sizes = autoencoder.config
    return StoreSettings(
        tokenizer_sha256=weights_sha256(autoencoder),
        code_dim=sizes.code_dim,
        grid_size=sizes.grid_size,
        image_size=sizes.image_size,
        num_classes=data.num_classes,
        views=views,
        num_views=count_views(views),
        decoder=data.decoder,
        honour_exif=data.honour_exif,
        sources={split: images.fingerprint() for split, images in pictures.items()},
        num_images={split: len(images) for split, images in pictures.items()},
        classes=tuple(data.classes),
        feature_dim=0 if encoder is None else encoder.dim,
        feature_encoder="" if encoder is None else encoder.identity,
        **settings,
    )


class Job(NamedTuple):
    """The place of one batch: images ``start`` to ``stop`` of a split."""

    split: str
    shard: int
    start: int
    stop: int
    ends_shard: bool


class TokenizeBatch(NamedTuple):
    """The views of the readable images of a job."""

    job: Job
    images: Tensor
    """(B, V, 3, H, W) uint8, or float in [0, 1]."""
    labels: Tensor
    """(B,) int64."""
    indices: Tensor
    """(B,) int64, positions in their source."""
    broken: tuple[tuple[int, BrokenImage], ...]


class Encoded(NamedTuple):
    """What a batch is turned into."""

    codes: Tensor
    """(B, E, bytes) uint8."""
    features: Tensor | None
    """(B, V, N, C) float16, or None."""


def plan_jobs(
    writer: StoreWriter, batch_size: int, *, rank: int = 0, num_ranks: int = 1
) -> list[Job]:
    """Return the batches that a process still has to encode, in order.

    Args:
        writer: writer of the store; shards that it has are skipped.
        batch_size: maximum number of images; a batch never spans two shards.
        rank: index of the process.
        num_ranks: number of processes; each takes every ``num_ranks``-th shard.
    """
    settings = writer.settings
    shards = [
        (split, number)
        for split in settings.num_images
        for number in range(settings.num_shards(split))
    ]
    jobs = []
    for split, number in shards[rank::num_ranks]:
        if writer.has(split, number):
            continue
        first = number * settings.shard_size
        end = min(first + settings.shard_size, settings.num_images[split])
        for start in range(first, end, batch_size):
            stop = min(start + batch_size, end)
            jobs.append(Job(split, number, start, stop, stop == end))
    return jobs


class TokenizeSet(Dataset[TokenizeBatch]):
    """A dataset whose items are whole batches.

    Args:
        pictures: images by split.
        jobs: places of the batches.
        views: views of each image.
    """

    def __init__(
        self, pictures: dict[str, TokenizableImages], jobs: list[Job], views: tuple[View, ...]
    ) -> None:
        self.pictures = pictures
        self.jobs = jobs
        self.views = views

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, index: int) -> TokenizeBatch:
        job = self.jobs[index]
        source = self.pictures[job.split]
        images: list[Tensor] = []
        good: list[int] = []
        broken: list[tuple[int, BrokenImage]] = []
        for image in range(job.start, job.stop):
            try:
                images.append(source.views(image, self.views))
                good.append(image)
            except BrokenImageError as error:
                broken.append((image, BrokenImage(source.name(image), str(error))))
        return TokenizeBatch(
            job,
            torch.stack(images) if images else torch.empty(0),
            torch.tensor([source.label(image) for image in good], dtype=torch.int64),
            torch.tensor(good, dtype=torch.int64),
            tuple(broken),
        )


class TokenizeModule(LightningModule):
    """Encodes images, draws their bits, and packs them.

    Args:
        autoencoder: the B-AE.
        writer: writer of the store, with its settings.
        pictures: images by split.
        batch_size: images per device.
        num_workers: loader processes per device, at most one for each processor core.
        encoder: computes features of every token; None computes none.
    """

    def __init__(
        self,
        autoencoder: BinaryAutoencoder,
        writer: StoreWriter,
        pictures: dict[str, TokenizableImages],
        *,
        batch_size: int,
        num_workers: int = 0,
        encoder: PatchEncoder | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.writer = writer
        self.pictures = pictures
        self.batch_size = batch_size
        self.num_workers = num_workers

    def jobs(self) -> list[Job]:
        """Return the batches that this process still has to encode."""
        rank, num_ranks = self.trainer.global_rank, self.trainer.world_size
        return plan_jobs(self.writer, self.batch_size, rank=rank, num_ranks=num_ranks)

    def predict_dataloader(self) -> DataLoader[TokenizeBatch]:
        """Return the batches of this process."""
        views: Any = self.writer.settings.views
        return DataLoader(
            TokenizeSet(self.pictures, self.jobs(), views),
            batch_size=None,
            num_workers=loader_processes(self.num_workers),
            pin_memory=torch.cuda.is_available(),
        )

    def predict_step(self, batch: TokenizeBatch, batch_idx: int) -> Encoded:
        """Return the codes and features of a batch."""
        return Encoded(self.codes_of(batch), self.features_of(batch))

    def features_of(self, batch: TokenizeBatch) -> Tensor | None:
        """Return the features (B, V, N, C) float16 of the V views; None without an encoder."""
        if self.encoder is None:
            return None
        settings = self.writer.settings
        count = len(batch.labels)
        if count == 0:
            return torch.empty(0, *settings.feature_shape, dtype=torch.float16, device=self.device)
        images = to_float(batch.images).flatten(0, 1)
        features = self.encoder.to(self.device)(images, settings.grid_size)
        return features.half().view(count, *settings.feature_shape)

    def codes_of(self, batch: TokenizeBatch) -> Tensor:
        """Return packed codes (B, E, bytes) uint8; entry v * num_draws + d is draw d of view v."""
        settings = self.writer.settings
        count = len(batch.labels)
        shape = (count, settings.entries, settings.entry_bytes)
        if count == 0:
            return torch.empty(shape, dtype=torch.uint8, device=self.device)
        probs = grid_to_tokens(self.autoencoder.encode(to_float(batch.images).flatten(0, 1)))
        probs = probs.float()[:, None].expand(-1, settings.num_draws, -1, -1).flatten(0, 1)
        if settings.deterministic:
            codes = probs > 0.5
        else:
            codes = self._uniforms(batch.job.split, batch.indices) < probs
        return pack_codes(codes).view(shape)

    def _uniforms(self, split: str, indices: Tensor) -> Tensor:
        """Return U[0, 1) for each bit, (B*V*D, N, K): a hash of seed, split, image, entry, bit."""
        settings = self.writer.settings
        entries = torch.arange(settings.entries, device=self.device)
        seeds = indices[:, None] * settings.entries + entries
        seeds = seeds.flatten() + mixed_seed("tokenize", settings.seed, split)
        noise = SeededNoise(seeds, settings.grid_size**2, settings.code_dim, self.device)
        tokens = torch.arange(len(seeds) * settings.grid_size**2, device=self.device)
        draws = torch.ones(1, dtype=torch.int64, device=self.device)
        return noise.bit_uniforms(0, draws, tokens).view(len(seeds), -1, settings.code_dim)
