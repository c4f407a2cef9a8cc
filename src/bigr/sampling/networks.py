"""The networks of a generator arranged for sampling, and what the transformer computes for a pass.

Shapes: B images, N tokens per image, K bits, D width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from bigr.models.bigr import BiGR
from bigr.models.config import BiGRConfig
from bigr.models.cpu import cpu_supports
from bigr.models.float8 import float8_missing
from bigr.models.key_value_memory import Memory
from bigr.models.products import Products
from bigr.models.transcoder import BinaryTranscoder
from bigr.models.transformer import MaskedTransformer
from bigr.sampling.denoising_chain import TokenDenoiser
from bigr.sampling.player import Player
from bigr.sampling.sampler_config import ExecutionConfig, SamplerConfig
from bigr.sampling.token_softmax import TokenSoftmax

MIN_BFLOAT16_DIM = 256
"""From this width of the transformer on, bfloat16 is faster on CPUs for every batch size."""
MIN_CHANGED_DIM = 512
"""Narrower transformers have no layers for which oneDNN was measured to be faster."""
BFLOAT16_PRODUCTS = ("avx512_bf16", "amx_bf16")
"""Instructions for products of bfloat16, as ``torch.cpu.get_capabilities`` calls them."""


class Networks(NamedTuple):
    """Both networks of a generator, in the types in which they compute."""

    state: object
    """A value that changes with the weights."""
    transformer: MaskedTransformer
    denoiser: TokenDenoiser | TokenSoftmax
    dtype: torch.dtype
    """Type of the matrix products."""
    guides_all: bool
    """Whether guidance applies at all noise levels."""
    guide: Networks | None
    """The networks of the guide, if there is one."""
    conditional_guide: bool
    """Whether the guide sees the class."""

    def conditions(
        self,
        class_ids: Tensor,
        codes: Tensor,
        is_masked: Tensor,
        scale: float,
        memories: Sequence[Memory],
        computed: Counter[tuple[BiGRConfig, int | None]],
        *,
        is_blank: bool,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Run the transformer.

        Args:
            class_ids: (B,) classes, or (B, D) class embeddings.
            codes: (B, N, K) bits.
            is_masked: (B, N) bool.
            scale: guidance scale of this pass.
            memories: keys and values of decided tokens, for the generator and for the guide; may
                be empty.
            computed: counts the images that are computed, by the arguments of
                :func:`bigr.models.flops.transformer_flops`.
            is_blank: whether every token of every image is masked.

        Returns:
            (1, B*N, D), or (2, B*N, D) with guidance, where the second half is that of the null
            class. With a guide, (B*N, D) of the generator, and (B*N, D) of the guide.
        """
        # 1. A guide replaces the unconditional half.
        if self.guide is not None and scale != 1.0:
            null_ids = torch.full((len(codes),), self.guide.transformer.config.null_class)
            seen = class_ids if self.conditional_guide else null_ids.to(codes.device)
            given = (codes, is_masked, 1.0)
            main = self._replace(guide=None).conditions(
                class_ids, *given, memories[:1], computed, is_blank=is_blank
            )
            other = self.guide.conditions(seen, *given, memories[1:], computed, is_blank=is_blank)
            return main[0], other[0]
        # 2. The classes of one half, or of both.
        transformer, memory = self.transformer, memories[0] if memories else None
        classes = transformer.embed_classes(class_ids)
        null = transformer.class_embedding.weight[-1].expand_as(classes)
        # Levels that are not guided need the class even for a scale of 0.
        alone = (0.0, 1.0) if self.guides_all else (1.0,)
        batch, is_guided = len(codes), scale not in alone
        if is_guided:
            # With everything masked, the unconditional half is the same for all images.
            num = 1 if is_blank and memory is None else batch
            codes, is_masked = (
                torch.cat([codes, codes[:num]]),
                torch.cat([is_masked, is_masked[:num]]),
            )
            classes = torch.cat([classes, null[:num]])
        elif scale == 0.0:
            classes = null
        # 3. One pass for all of them.
        with torch.autocast(codes.device.type, self.dtype, enabled=self.dtype != torch.float32):
            condition: Tensor = transformer(codes, classes, is_masked, memory)
        num_computed = None if memory is None else memory.num_computed
        computed[transformer.config, num_computed] += len(condition)
        if is_guided and num < batch:
            condition = torch.cat([condition[:batch], condition[batch:].expand(batch, -1, -1)])
        return condition.view(-1, batch * condition.shape[1], condition.shape[2])


def prepare(
    model: BiGR,
    config: SamplerConfig,
    execution: ExecutionConfig,
    earlier: Networks | None,
    guide: BiGR | None = None,
) -> Networks:
    """Arrange both networks of ``model``, and of ``guide`` if there is one.

    The ``earlier`` ones are kept while the weights stay.
    """
    others = None
    if guide is not None:
        execution_of_guide = replace(
            execution, precision=execution.guide_precision or execution.precision
        )
        # Only the generator decides which levels are guided.
        everywhere = replace(config, guidance_levels=(0.0, 1.0))
        others = prepare(guide, everywhere, execution_of_guide, earlier and earlier.guide)
    is_float8 = execution.precision == "float8"
    dtype = compute_dtype(execution.precision, model.device, model.config.dim)
    products = Products(dtype, is_float8=is_float8)
    # Some in-place changes of weights can only be noticed by their values.
    places, numbers = [], []
    for weight in (model if is_float8 else model.transcoder).parameters():
        places.append(weight.data_ptr())
        numbers += [weight.detach().float().norm(), weight.detach().float().sum()]
    state = (id(model), places, torch.stack(numbers).tolist())
    if earlier is not None and earlier.state == state and earlier.guide is others:
        return earlier
    denoiser: TokenDenoiser | TokenSoftmax
    if isinstance(model.transcoder, BinaryTranscoder):
        guide_denoiser = others and others.denoiser
        assert not isinstance(guide_denoiser, TokenSoftmax)  # check_guide has refused it
        denoiser = TokenDenoiser(
            model.transcoder, config.num_denoise_steps, config.denoise_spacing,
            config.guidance_levels, products,
            player=Player(execution.mode, model.device), guide=guide_denoiser,
        )  # fmt: skip
    else:
        denoiser = TokenSoftmax(
            model.transcoder, products, deterministic_bits=config.deterministic_bits
        )
    layers = model.transformer
    if is_float8 or model.config.dim >= MIN_CHANGED_DIM:
        layers = layers.with_layers(products.changed)
    guides_all = config.guidance_levels == (0.0, 1.0)
    return Networks(state, layers, denoiser, dtype, guides_all, others, config.conditional_guide)


def compute_dtype(precision: str, device: torch.device, dim: int) -> torch.dtype:
    """Return the type of the matrix products; with ``float8`` that of all others.

    ``auto`` is bfloat16 on GPUs that support it, and on processors that multiply it natively if the
    transformer is at least :data:`MIN_BFLOAT16_DIM` wide; it is float32 elsewhere.

    Args:
        precision: of :class:`~bigr.sampling.sampler_config.ExecutionConfig`.
        device: where the generator is.
        dim: width of its transformer.

    Raises:
        ValueError: if ``device`` does not support ``float8``.
    """
    if precision == "float8" and (missing := float8_missing(device)):
        raise ValueError(f"execution.precision=float8: {missing}; use bfloat16 or auto.")
    if precision == "auto":
        is_wide = device.type == "cuda" or dim >= MIN_BFLOAT16_DIM
        return torch.bfloat16 if is_wide and multiplies_bfloat16(device) else torch.float32
    return torch.float32 if precision == "float32" else torch.bfloat16


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a device has products of bfloat16, and PyTorch a library that uses them.

    All other devices emulate these products, which is slower than float32. ARM processors count
    as such, because nothing was measured on one.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    return cpu_supports(*BFLOAT16_PRODUCTS) and torch.backends.mkldnn.is_available()
