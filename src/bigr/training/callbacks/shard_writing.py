"""The callbacks of tokenization: they write the shards and show the progress."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import lightning
import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from bigr.data.broken import BrokenImages
from bigr.data.codes_format import broken_in, open_shard
from bigr.data.codes_writer import StoreWriter
from bigr.inference.progress import progress
from bigr.training.stopping import Stopped
from bigr.training.tokenization import Encoded, TokenizeBatch, TokenizeModule

log = logging.getLogger(__name__)


class ShardWriter(BasePredictionWriter):
    """Writes each shard after its last batch, and counts unreadable images.

    Args:
        writer: writer of the store.
        max_broken_share: the run stops if a larger share of the images is unreadable.
    """

    def __init__(self, writer: StoreWriter, max_broken_share: float) -> None:
        super().__init__("batch")
        self.writer = writer
        counts = writer.settings.num_images
        self.broken = BrokenImages(sum(counts.values()), max_broken_share)
        self._batches: list[tuple[TokenizeBatch, Encoded]] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the images that earlier runs left out."""
        for split in self.writer.settings.num_images:
            for number in range(self.writer.settings.num_shards(split)):
                if self.writer.has(split, number):
                    folder, settings = self.writer.folder, self.writer.settings
                    arrays = open_shard(folder, settings, split, number)
                    self.broken.add(image for _, image in broken_in(arrays))

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Encoded,
        batch_indices: Any,
        batch: TokenizeBatch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Keep the codes on the device until the shard is complete; reading them would wait."""
        for image in self.broken.add(image for _, image in batch.broken):
            log.warning("left out %s: %s", *image)
        self._batches.append((batch._replace(images=torch.empty(0)), prediction))
        if not batch.job.ends_shard:
            return
        batches, self._batches = self._batches, []
        features = [encoded.features for _, encoded in batches if encoded.features is not None]
        self.writer.write(
            batch.job.split,
            batch.job.shard,
            torch.cat([encoded.codes for _, encoded in batches]).cpu().numpy(),
            np.concatenate([one.labels.cpu().numpy() for one, _ in batches]),
            np.concatenate([one.indices.cpu().numpy() for one, _ in batches]),
            [item for one, _ in batches for item in one.broken],
            torch.cat(features).cpu().numpy() if features else None,
        )


class StopOnSignal(lightning.Callback):
    """Ends the process at once on SIGTERM or SIGHUP, which Lightning only handles in training.

    Only the current shard is lost, because files are replaced atomically.
    """

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the signal handlers. Lightning restores the earlier ones after the run."""
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(signum) != signal.SIG_IGN:  # with nohup
                    signal.signal(signum, self._stop)

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        raise Stopped(signum)


class TokenizeProgress(lightning.Callback):
    """Shows the progress of all processes together, assuming that they are equally fast."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        self._advance: Callable[[int], object] = lambda count: count

    def on_predict_start(
        self,
        trainer: Trainer,
        pl_module: TokenizeModule,  # type: ignore[override]  # the only class that it is used with
    ) -> None:
        """Count the images that are still to be encoded."""
        jobs = pl_module.jobs()
        total = sum(job.stop - job.start for job in jobs) * trainer.world_size
        if trainer.is_global_zero:
            self._advance = self._stack.enter_context(progress(total, "images"))

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: TokenizeBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Advance by the images of a batch, of each process."""
        self._advance((batch.job.stop - batch.job.start) * trainer.world_size)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the bar, even after an exception."""
        self._stack.close()
