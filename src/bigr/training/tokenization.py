"""Images to packed codes through Lightning's predict loop, shard by shard.

A shard is the unit of work: a fixed range of images in fixed batches, whose bits depend on
(seed, image, view, draw) alone. A process makes every R-th shard of R processes and skips those
that are there, so that what comes out depends neither on R nor on interruptions.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from bigr.data.broken import BrokenImage, BrokenImages
from bigr.data.codes_store import broken_in, read_shard, shard_name
from bigr.data.codes_writer import StoreWriter
from bigr.data.decoding import BrokenImageError
from bigr.data.image_arrays import to_float
from bigr.data.image_dataset import TokenizableImages
from bigr.data.packing import pack_codes
from bigr.data.seeds import mixed_seed
from bigr.data.transforms import View
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.codes import grid_to_tokens
from bigr.sampling.random_numbers import SeededNoise

log = logging.getLogger(__name__)

LINES_APART = 30.0
"""Seconds between two lines of progress where there is no terminal."""


class Job(NamedTuple):
    """One batch: where it belongs."""

    split: str
    shard: int
    start: int
    stop: int
    ends_shard: bool


class TokenizeBatch(NamedTuple):
    """Views of the images of a job, without the broken ones."""

    job: Job
    images: Tensor
    """(B, V, 3, H, W) uint8, or float in [0, 1]."""
    labels: Tensor
    """(B,) int64."""
    indices: Tensor
    """(B,) int64, in their source."""
    broken: tuple[tuple[int, BrokenImage], ...]


def plan_jobs(
    writer: StoreWriter, batch_size: int, *, rank: int = 0, num_ranks: int = 1
) -> list[Job]:
    """The batches that a process still has to do, in order.

    Args:
        writer: of the store; shards that are there are skipped.
        batch_size: images at a time; no batch reaches into another shard.
        rank: this process.
        num_ranks: processes; each takes every ``num_ranks``-th shard.
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
    """One item is a whole batch.

    Args:
        pictures: images by split.
        jobs: the batches.
        views: of each image.
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


class TokenizeModule(lightning.LightningModule):
    """Encodes, draws bits, packs them.

    Args:
        autoencoder: the B-AE.
        writer: of the store; its settings say how.
        pictures: images by split.
        batch_size: images at a time on each device.
        num_workers: loader processes of each device.
    """

    def __init__(
        self,
        autoencoder: BinaryAutoencoder,
        writer: StoreWriter,
        pictures: dict[str, TokenizableImages],
        *,
        batch_size: int,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.writer = writer
        self.pictures = pictures
        self.batch_size = batch_size
        self.num_workers = num_workers

    def predict_dataloader(self) -> DataLoader[TokenizeBatch]:
        """This process's batches."""
        jobs = plan_jobs(
            self.writer,
            self.batch_size,
            rank=self.trainer.global_rank,
            num_ranks=self.trainer.world_size,
        )
        views: Any = self.writer.settings.views
        return DataLoader(
            TokenizeSet(self.pictures, jobs, views),
            batch_size=None,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    def predict_step(self, batch: TokenizeBatch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """(B, V, bytes) uint8: entry v * num_draws + d is draw d of view v."""
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
        """U[0, 1) for every bit, (B*V*D, N, K); a hash of (seed, split, image, entry, bit)."""
        settings = self.writer.settings
        entries = torch.arange(settings.entries, device=self.device)
        seeds = indices[:, None] * settings.entries + entries
        seeds = seeds.flatten() + mixed_seed("tokenize", settings.seed, split)
        noise = SeededNoise(seeds, settings.grid_size**2, settings.code_dim, self.device)
        tokens = torch.arange(len(seeds) * settings.grid_size**2, device=self.device)
        return noise.bit_uniforms(0, 0, tokens).view(len(seeds), -1, settings.code_dim)


class ShardWriter(BasePredictionWriter):
    """Writes each shard when its last batch is done, and counts broken images.

    Args:
        writer: of the store.
        max_broken_share: above this share of broken images it stops.
    """

    def __init__(self, writer: StoreWriter, max_broken_share: float) -> None:
        super().__init__("batch")
        self.writer = writer
        counts = writer.settings.num_images
        self.broken = BrokenImages(sum(counts.values()), max_broken_share)
        self._batches: list[tuple[TokenizeBatch, Tensor]] = []

    def on_predict_start(
        self,
        trainer: lightning.Trainer,  # noqa: ARG002
        pl_module: lightning.LightningModule,  # noqa: ARG002
    ) -> None:
        """Count what earlier starts left out."""
        for split in self.writer.settings.num_images:
            for number in range(self.writer.settings.num_shards(split)):
                if self.writer.has(split, number):
                    arrays = read_shard(self.writer.folder / shard_name(split, number))
                    self.broken.add(image for _, image in broken_in(arrays))

    def write_on_batch_end(
        self,
        trainer: lightning.Trainer,  # noqa: ARG002
        pl_module: lightning.LightningModule,  # noqa: ARG002
        prediction: Tensor,
        batch_indices: Any,  # noqa: ARG002
        batch: TokenizeBatch,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int,  # noqa: ARG002
    ) -> None:
        """Keep the codes on the device until the shard is full: reading them would wait for it."""
        for image in self.broken.add(image for _, image in batch.broken):
            log.warning("left out %s: %s", *image)
        self._batches.append((batch._replace(images=torch.empty(0)), prediction))
        if not batch.job.ends_shard:
            return
        batches, self._batches = self._batches, []
        self.writer.write(
            batch.job.split,
            batch.job.shard,
            torch.cat([codes for _, codes in batches]).cpu().numpy(),
            np.concatenate([one.labels.cpu().numpy() for one, _ in batches]),
            np.concatenate([one.indices.cpu().numpy() for one, _ in batches]),
            [item for one, _ in batches for item in one.broken],
        )


class TokenizeProgress(lightning.Callback):
    """Images per second and the time left, of all processes together."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm[Any] | None = None
        self._done = self._total = self._scale = 0
        self._began = self._spoke = 0.0

    def on_predict_start(
        self,
        trainer: lightning.Trainer,
        pl_module: TokenizeModule,  # type: ignore[override]  # the only one it is for
    ) -> None:
        """Count this process's images; the others have about as many."""
        jobs = plan_jobs(
            pl_module.writer,
            pl_module.batch_size,
            rank=trainer.global_rank,
            num_ranks=trainer.world_size,
        )
        self._scale = trainer.world_size
        self._total = sum(job.stop - job.start for job in jobs) * self._scale
        self._began = self._spoke = time.monotonic()
        if trainer.is_global_zero and sys.stderr.isatty():
            self._bar = tqdm(total=self._total, unit=" images", dynamic_ncols=True)

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: TokenizeBatch,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Move on."""
        count = (batch.job.stop - batch.job.start) * self._scale
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif trainer.is_global_zero and time.monotonic() - self._spoke > LINES_APART:
            self._spoke = time.monotonic()
            rate = self._done / (self._spoke - self._began)
            left = (self._total - self._done) / rate
            log.info(
                "%d/%d images, %.0f images/s, %d:%02d minutes left",
                self._done,
                self._total,
                rate,
                *divmod(round(left), 60),
            )

    def on_predict_end(
        self,
        trainer: lightning.Trainer,  # noqa: ARG002
        pl_module: lightning.LightningModule,  # noqa: ARG002
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
