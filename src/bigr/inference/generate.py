"""The generation loop: class labels and seeds in, codes and images out, batch by batch.

Image i depends only on its own seed, class and known tokens, not on its batch or on the process
that samples it. Everything in the package that generates images uses this loop.

Shapes: n images in total, B images of a batch, N tokens, K bits, D width of the transformer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.models.codes import grid_to_tokens, tokens_to_grid
from bigr.sampling.networks import compute_dtype
from bigr.sampling.random_numbers import SeededNoise, image_seeds
from bigr.sampling.sampler import ProgressCallback, Sampler
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig

log = logging.getLogger(__name__)

LabelOrder = Literal["balanced", "random", "sorted"]


class Models(NamedTuple):
    """A generator and the B-AE that decodes its codes, on one device."""

    generator: BiGR
    autoencoder: BinaryAutoencoder


class Generated(NamedTuple):
    """One batch of generated images."""

    indices: range
    """Positions of these images among all n."""
    codes: Tensor
    """(B, N, K) of 0.0 and 1.0, on the device of the generator."""
    images: Tensor
    """(B, 3, H, W) float32 in [0, 1], on the CPU."""


def class_labels(count: int, num_classes: int, order: LabelOrder, seed: int = 0) -> Tensor:
    """Return the classes of ``count`` images, (count,) int64.

    Args:
        count: number of images.
        num_classes: the labels are 0..num_classes - 1.
        order: ``balanced`` contains each class equally often (up to one image) in random order, so
            that the first images are a random sample of all classes; ``sorted`` has the same
            labels class by class; ``random`` draws each label independently, as ADM does.
        seed: seed of the order or of the labels.
    """
    generator = torch.Generator().manual_seed(seed)
    if order == "random":
        return torch.randint(num_classes, (count,), generator=generator)
    labels = torch.arange(count) * num_classes // count
    return labels if order == "sorted" else labels[torch.randperm(count, generator=generator)]


@torch.inference_mode()
def generate_batches(
    models: Models,
    sampler: Sampler,
    class_ids: Tensor,
    *,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    batch_size: int = 64,
    known_codes: Tensor | None = None,
    is_masked: Tensor | None = None,
    share: tuple[int, int] = (0, 1),
    on_iteration: ProgressCallback | None = None,
) -> Iterator[Generated]:
    """Sample and decode n images, and yield each batch as soon as it is finished.

    If a batch does not fit into the memory of the device, its size is halved until it does, and a
    warning is logged. This does not change the images.

    Args:
        models: the generator and its B-AE.
        sampler: the sampler with its settings.
        class_ids: (n,) int64, or (n, D) class embeddings.
        seed: seed of image 0; image i has seed ``seed + i``.
        seeds: n seeds to use instead.
        batch_size: number of images that are sampled at a time.
        known_codes: (n, N, K) codes of tokens that are not to be sampled; needed with
            ``is_masked``.
        is_masked: (n, N) bool, True for tokens to sample; None samples all of them.
        share: (rank, count): this process samples the batches rank, rank + count, ….
        on_iteration: called after each iteration of each batch.

    Raises:
        torch.OutOfMemoryError: if not even one image fits.
    """
    generator = models.generator
    dtype = compute_dtype(sampler.execution.precision, generator.device, generator.config.dim)
    count, size = len(class_ids), batch_size
    seeds = range(seed, seed + count) if seeds is None else seeds
    for start in range(share[0] * batch_size, count, share[1] * batch_size):
        waiting = range(start, min(start + batch_size, count))
        while waiting:
            batch = waiting[:size]
            chosen = slice(batch.start, batch.stop)
            try:
                codes = sampler.sample(
                    models.generator,
                    class_ids[chosen],
                    known_codes=None if known_codes is None else known_codes[chosen],
                    is_masked=None if is_masked is None else is_masked[chosen],
                    seeds=seeds[chosen],
                    on_iteration=on_iteration,
                )
                images = decode(models.autoencoder, codes, len(codes), dtype).cpu()
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                size = len(batch) // 2
            else:
                waiting = waiting[len(batch) :]
                yield Generated(batch, codes, images)
                continue
            # This is outside of the handler, because its traceback keeps the memory in use.
            log.warning("out of memory: continuing with batches of %d", size)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def generate(
    models: Models,
    sampler: SamplerConfig,
    class_ids: Tensor,
    *,
    execution: ExecutionConfig = DEFAULT_EXECUTION,
    seed: int = 0,
    batch_size: int = 64,
    on_batch: Callable[[int], object] = lambda _: None,
) -> Tensor:
    """Return the images of :func:`generate_batches`, (n, 3, H, W) in [0, 1] on the CPU.

    ``on_batch`` is called with the number of images of each finished batch.
    """
    batches = generate_batches(
        models, Sampler(sampler, execution), class_ids, seed=seed, batch_size=batch_size
    )
    images = []
    for batch in batches:
        images.append(batch.images)
        on_batch(len(batch.indices))
    return torch.cat(images)


@torch.inference_mode()
def encode(
    autoencoder: BinaryAutoencoder,
    images: Tensor,
    batch_size: int,
    seeds: Sequence[int] | None = None,
) -> Tensor:
    """Encode images as codes of 0.0 and 1.0.

    Args:
        autoencoder: the B-AE.
        images: (B, 3, H, W) in [0, 1].
        batch_size: number of images that are encoded at a time.
        seeds: V for each image, which draw V codes from the probabilities of its bits; the same
            seed draws the same bits in any batch. None takes the more likely value of each bit.

    Returns:
        (B * V, N, K), image by image; V is 1 without seeds.

    Raises:
        ValueError: if a seed is out of range.
    """
    device = autoencoder.last_weight.device
    parts = images.split(1 if device.type == "cpu" else batch_size)  # see decode
    probs = grid_to_tokens(torch.cat([autoencoder.encode(part.to(device)) for part in parts]))
    if seeds is None:
        return autoencoder.quantize(probs, deterministic=True)
    probs = probs.repeat_interleave(len(seeds) // len(images), dim=0)
    count, seq_len, code_dim = probs.shape
    noise = SeededNoise(image_seeds(count, seeds=seeds), seq_len, code_dim, device)
    # Iteration 0 is before all random numbers of the sampler.
    tokens = torch.arange(count * seq_len, device=device)
    uniforms = noise.bit_uniforms(0, tokens.new_zeros(1), tokens)[0]
    return (uniforms.view_as(probs) < probs).float()


@torch.inference_mode()
def decode(
    autoencoder: BinaryAutoencoder,
    codes: Tensor,
    batch_size: int,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Decode codes (B, N, K) into images (B, 3, H, W) float32 in [0, 1].

    Args:
        autoencoder: the B-AE, on the device of ``codes``.
        codes: 0.0 and 1.0.
        batch_size: number of images that are decoded at a time.
        dtype: type of the convolutions; bfloat16 changes a pixel by half a grey level on average.
    """
    # On a CPU, convolutions round differently with the size of the batch, and an image must not
    # depend on that; one image at a time is hardly slower there.
    kind = codes.device.type
    parts = tokens_to_grid(codes).split(1 if kind == "cpu" else batch_size)
    with torch.autocast(kind, dtype, enabled=dtype != torch.float32):
        images = torch.cat(list(map(autoencoder.decode, parts)))
    return images.float().clamp(0, 1)
