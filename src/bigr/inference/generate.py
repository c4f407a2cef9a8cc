"""Images of a generator, batch by batch, the same whatever the batch size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.models.codes import grid_to_tokens, tokens_to_grid
from bigr.sampling.sampler import ProgressCallback, Sampler, compute_dtype
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig

log = logging.getLogger(__name__)


class Models(NamedTuple):
    """A generator and the B-AE whose codes it makes, on one device."""

    generator: BiGR
    autoencoder: BinaryAutoencoder


@torch.inference_mode()
def generate(
    models: Models,
    sampler: SamplerConfig | Sampler,
    class_ids: Tensor,
    *,
    execution: ExecutionConfig = DEFAULT_EXECUTION,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    batch_size: int = 64,
    known_codes: Tensor | None = None,
    is_masked: Tensor | None = None,
    on_batch: Callable[[int], object] | None = None,
    on_iteration: ProgressCallback | None = None,
    on_codes: Callable[[Tensor], object] | None = None,
) -> Tensor:
    """Sample and decode; image i uses seed ``seed + i``.

    A batch that doesn't fit into the device's memory is halved until it does, with a warning; the
    images are the same.

    Args:
        models: generator and B-AE.
        sampler: settings, or a sampler, which counts its operations.
        class_ids: (n,) int64, or (n, D) class embeddings.
        execution: how the samples are computed, if ``sampler`` are settings.
        seed: of the first image.
        seeds: n of them instead.
        batch_size: images at a time.
        known_codes: (n, N, K), with ``is_masked`` (n, N): sample these tokens only.
        is_masked: see ``known_codes``.
        on_batch: called with the number of images that were finished.
        on_iteration: called after every iteration of every batch.
        on_codes: called with the codes (b, N, K) of every batch.

    Returns:
        (n, 3, H, W) in [0, 1], on the CPU.

    Raises:
        torch.OutOfMemoryError: if not even one image fits.
    """
    images: list[Tensor] = []
    if isinstance(sampler, SamplerConfig):
        sampler = Sampler(sampler, execution)
    dtype = compute_dtype(sampler.execution.precision, models.generator.device)
    start, size = 0, batch_size
    if seeds is None:
        seeds = range(seed, seed + len(class_ids))
    while start < len(class_ids):
        chosen = slice(start, start + size)
        classes = class_ids[chosen]
        try:
            codes = sampler.sample(
                models.generator,
                classes,
                known_codes=None if known_codes is None else known_codes[chosen],
                is_masked=None if is_masked is None else is_masked[chosen],
                seeds=seeds[chosen],
                on_iteration=on_iteration,
            )
            images.append(decode(models.autoencoder, codes, len(codes), dtype).cpu())
            if on_codes is not None:
                on_codes(codes)
        except torch.OutOfMemoryError:
            if len(classes) == 1:
                raise
            size = len(classes) // 2
        else:
            start += len(classes)
            if on_batch is not None:
                on_batch(len(classes))
            continue
        # Here, not in the handler, which holds on to what has filled the memory.
        log.warning("out of memory: going on with batches of %d", size)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return torch.cat(images)


@torch.inference_mode()
def encode(autoencoder: BinaryAutoencoder, images: Tensor, batch_size: int) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] to their likeliest codes (B, N, K)."""
    device = next(autoencoder.parameters()).device
    parts = images.split(_at_a_time(device, batch_size))
    bit_probs = torch.cat([autoencoder.encode(part.to(device)) for part in parts])
    return grid_to_tokens(autoencoder.quantize(bit_probs, deterministic=True))


@torch.inference_mode()
def decode(
    autoencoder: BinaryAutoencoder,
    codes: Tensor,
    batch_size: int,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Codes (B, N, K) to images (B, 3, H, W) float32 in [0, 1].

    Args:
        autoencoder: on the device of ``codes``.
        codes: bits.
        batch_size: images at a time.
        dtype: of the convolutions; bfloat16 is half a grey level off on average.
    """
    parts = tokens_to_grid(codes).split(_at_a_time(codes.device, batch_size))
    with torch.autocast(codes.device.type, dtype, enabled=dtype != torch.float32):
        images = torch.cat([autoencoder.decode(part) for part in parts])
    return images.float().clamp(0, 1)


def _at_a_time(device: torch.device, batch_size: int) -> int:
    """Images per pass of the B-AE: one on a CPU.

    A CPU's convolutions round by the size of the batch, which an image must not depend on; there,
    one at a time costs next to nothing.
    """
    return 1 if device.type == "cpu" else batch_size
