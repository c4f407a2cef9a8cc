"""The sampler: fill in masked tokens, the most certain ones first (BiGR, arXiv 2410.14672).

One loop serves generation (everything is masked), inpainting, editing and enrichment (some tokens
are known). Shapes: B images, N tokens per image, M tokens of any images, K bits, D width.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bigr.models.bigr import BiGR
from bigr.models.config import BiGRConfig
from bigr.models.float8 import float8_missing, with_float8
from bigr.models.flops import chain_flops, transformer_flops
from bigr.models.key_value_memory import CausalMemory, Memory
from bigr.models.transcoder import BinaryTranscoder
from bigr.models.transformer import MaskedTransformer
from bigr.sampling.conditioning import initial_state
from bigr.sampling.denoising_chain import TokenDenoiser
from bigr.sampling.guidance import (
    GUIDANCE_SCHEDULES,
    CosineGuidance,
    GuidanceInterval,
    PiecewiseGuidance,
)
from bigr.sampling.gumbel import GUMBEL_SCHEDULES, PiecewiseGumbel, gumbel
from bigr.sampling.mask_schedules import MASK_SCHEDULES, MaskSchedule
from bigr.sampling.orders import ORDERS, SamplingOrder
from bigr.sampling.player import Player
from bigr.sampling.random_numbers import Noise, SeededNoise, image_seeds
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig
from bigr.sampling.selection import confidence, select
from bigr.sampling.token_softmax import TokenSoftmax


@dataclass(frozen=True)
class Progress:
    """State after one iteration, for a progress callback.

    Args:
        iteration: 1..num_iterations.
        num_iterations: n.
        codes: (B, N, K); masked tokens are 0.
        is_masked: (B, N) bool, the tokens that are left.
        confidence: (B, N) ``mean_k |2 p_k - 1|`` of each token when it was decided, otherwise NaN.
    """

    iteration: int
    num_iterations: int
    codes: Tensor
    is_masked: Tensor
    confidence: Tensor


ProgressCallback = Callable[[Progress], None]
ONE_BY_ONE = ([ORDERS["raster"]], MASK_SCHEDULES["linear"])
"""Orders and mask schedule of a causal generator, in as many iterations as there are tokens."""


class Sampler:
    """Sampling by the method of ``config``, computed as ``execution`` says."""

    def __init__(
        self, config: SamplerConfig, execution: ExecutionConfig = DEFAULT_EXECUTION
    ) -> None:
        self.config = config
        self.execution = execution
        # What has been computed so far, by the arguments of transformer_flops and chain_flops.
        self._images: Counter[tuple[BiGRConfig, int | None]] = Counter()
        self._rows: Counter[tuple[BiGRConfig, int]] = Counter()
        order, mask, guidance = config.order, config.mask_schedule, config.guidance_schedule
        if isinstance(order, SamplingOrder):
            self.orders = [order]
        else:
            self.orders = [*map(ORDERS.__getitem__, (order,) if isinstance(order, str) else order)]
        if isinstance(mask, str):
            mask = dataclasses.replace(MASK_SCHEDULES[mask], power=config.mask_power)
        self.mask_schedule: MaskSchedule = mask
        noise, heat = config.gumbel_schedule, config.temperature_schedule
        noise = PiecewiseGumbel(noise) if isinstance(noise, tuple) else noise
        self.gumbel_schedule = GUMBEL_SCHEDULES[noise] if isinstance(noise, str) else noise
        heat = PiecewiseGumbel(heat) if isinstance(heat, tuple) else heat
        self.temperature_schedule = GUMBEL_SCHEDULES[heat] if isinstance(heat, str) else heat
        if guidance == "cosine":
            guidance = CosineGuidance(config.guidance_power)
        elif isinstance(guidance, str):
            guidance = GUIDANCE_SCHEDULES[guidance]
        elif isinstance(guidance, tuple):
            guidance = PiecewiseGuidance(guidance)
        if config.guidance_interval != (0.0, 1.0):
            guidance = GuidanceInterval(guidance, *config.guidance_interval)
        self.guidance_schedule = guidance
        self._networks: _Networks | None = None

    @property
    def flops(self) -> float:
        """Floating-point operations of all calls so far; see :mod:`bigr.models.flops`."""
        passes = sum(count * transformer_flops(*key) for key, count in self._images.items())
        return passes + sum(count * chain_flops(*key) for key, count in self._rows.items())

    def check(self, model: BiGR) -> None:
        """Raise ``ValueError`` if ``model`` cannot be sampled with these settings on its device."""
        transcoder = model.transcoder
        if isinstance(transcoder, BinaryTranscoder) and model.config.objective != "direct":
            transcoder.schedule.levels(self.config.num_denoise_steps)
        compute_dtype(self.execution.precision, model.device)

    @torch.no_grad()
    def sample(
        self,
        model: BiGR,
        class_ids: Tensor,
        *,
        known_codes: Tensor | None = None,
        is_masked: Tensor | None = None,
        generator: torch.Generator | None = None,
        seeds: Sequence[int] | Tensor | None = None,
        on_iteration: ProgressCallback | None = None,
    ) -> Tensor:
        """Sample the masked tokens of a batch.

        Args:
            model: the generator; it is used in evaluation mode, on its own device.
            class_ids: (B,) int64 in 0..num_classes (the last is the null class), or (B, D)
                class embeddings.
            known_codes: (B, N, K) bits; needed with ``is_masked``.
            is_masked: (B, N) bool, True = sample this token; None samples all of them.
            generator: draws one seed per image; None uses torch's global generator.
            seeds: B seeds instead. An image depends on its seed, class and known tokens alone,
                not on the rest of the batch.
            on_iteration: called after every iteration.

        Returns:
            (B, N, K) of 0.0 and 1.0; tokens outside of ``is_masked`` as in ``known_codes``.

        Raises:
            ValueError: if shapes, classes or seeds do not fit the model.
        """
        class_ids = class_ids.to(model.device)
        codes, is_masked = initial_state(model, class_ids, known_codes, is_masked)
        numbers = image_seeds(len(class_ids), generator=generator, seeds=seeds)
        noise = SeededNoise(numbers, codes.shape[1], codes.shape[2], model.device)
        was_training = model.training
        model.eval()
        try:
            return self.run(model, class_ids, codes, is_masked, noise, on_iteration)
        finally:
            model.train(was_training)

    @torch.no_grad()
    def run(
        self,
        model: BiGR,
        class_ids: Tensor,
        codes: Tensor,
        is_masked: Tensor,
        noise: Noise,
        on_iteration: ProgressCallback | None = None,
    ) -> Tensor:
        """The loop of :meth:`sample`, on checked input and with any source of random numbers."""
        config, n = self.config, self.config.num_iterations
        orders, mask_schedule = self.orders, self.mask_schedule
        networks = self._prepare(model)
        denoiser = networks.denoiser
        denoiser.rows.clear()
        memory = Memory(model.config.num_layers) if config.reuse_decided else None
        if networks.transformer.is_causal:  # one token after the other, in raster order
            n, orders, mask_schedule = model.config.seq_len, *ONE_BY_ONE
            memory = CausalMemory(model.config.num_layers)
        certainty = torch.full(is_masked.shape, float("nan"), device=codes.device)
        # The host knows how many tokens are masked, and never has to wait for the device.
        totals: list[int] = is_masked.sum(dim=1).tolist()
        left = totals
        for iteration in range(1, n + 1):
            # 1. Schedule: how many tokens each image decides now.
            num_masked = functools.partial(mask_schedule.num_masked, iteration, n)
            remaining = list(map(num_masked, totals))
            counts = list(map(operator.sub, left, remaining))
            if any(counts):
                # 2. Condition: what the transformer knows, with and without the class.
                scale = self.guidance_schedule.scale(iteration, n, config.guidance_scale)
                is_blank = min(left) == model.config.seq_len
                conditions = self._conditions(
                    networks, class_ids, codes, is_masked, scale, memory, is_blank=is_blank
                )
                # 3. Order: scores of the tokens, and Gumbel noise on their confidence.
                uniforms = noise.order_uniforms(iteration)
                order = orders[(iteration - 1) * len(orders) // n]
                scores = order.scores(is_masked, uniforms)
                tau = self.gumbel_schedule.temperature(iteration, n, config.gumbel_temperature)
                by_confidence = order.uses_confidence
                if by_confidence and tau > 0:
                    head_start = tau * gumbel(uniforms)
                    scores = head_start if scores is None else scores + head_start
                # 4. Denoise tokens, and select those with the highest scores.
                warmth = self.temperature_schedule.temperature(iteration, n, config.temperature)
                denoise = functools.partial(
                    denoiser.bit_probs, conditions, noise=noise, iteration=iteration,
                    guidance_scale=scale, temperature=warmth,
                )  # fmt: skip
                tokens, probs = select(
                    denoise, scores, is_masked, counts, uses_confidence=by_confidence
                )
                # 5. Update: decide the bits of the chosen tokens.
                draws = noise.bit_uniforms(iteration, tokens.new_zeros(1), tokens)[0]
                bits = (0.5 if config.deterministic_bits else draws) < probs
                codes, certainty, is_masked = codes.clone(), certainty.clone(), is_masked.clone()
                codes.view(-1, codes.shape[2])[tokens] = bits.float()
                certainty.view(-1)[tokens] = confidence(probs)
                is_masked.view(-1)[tokens] = False
            left = remaining
            if on_iteration is not None:
                on_iteration(Progress(iteration, n, codes, is_masked, certainty))
        for num_steps, num_rows in denoiser.rows.items():
            self._rows[model.config, num_steps] += num_rows
        return codes

    def _conditions(
        self,
        networks: _Networks,
        class_ids: Tensor,
        codes: Tensor,
        is_masked: Tensor,
        scale: float,
        memory: Memory | None,
        *,
        is_blank: bool,
    ) -> Tensor:
        """Run the transformer: (1, B*N, D), or (2, B*N, D) with guidance, null class second."""
        transformer, dtype = networks.transformer, networks.dtype
        classes = transformer.embed_classes(class_ids)
        null = transformer.class_embedding.weight[-1].expand_as(classes)
        # Levels that are not guided need the class even for a scale of 0.
        alone = (0.0, 1.0) if self.config.guidance_levels == (0.0, 1.0) else (1.0,)
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
        with torch.autocast(codes.device.type, dtype, enabled=dtype != torch.float32):
            condition: Tensor = transformer(codes, classes, is_masked, memory)
        computed = None if memory is None else memory.num_computed
        self._images[transformer.config, computed] += len(condition)
        if is_guided and num < batch:
            condition = torch.cat([condition[:batch], condition[batch:].expand(batch, -1, -1)])
        return condition.view(-1, batch * condition.shape[1], condition.shape[2])

    def _prepare(self, model: BiGR) -> _Networks:
        """Arrange both networks for sampling; the result is kept while the weights stay."""
        config, is_float8 = self.config, self.execution.precision == "float8"
        dtype = compute_dtype(self.execution.precision, model.device)
        # Some ways of changing weights in place leave no other trace than the numbers.
        places, numbers = [], []
        for weight in (model if is_float8 else model.transcoder).parameters():
            places.append(weight.data_ptr())
            numbers += [weight.detach().float().norm(), weight.detach().float().sum()]
        state = (id(model), places, torch.stack(numbers).tolist())
        if self._networks is None or self._networks.state != state:
            denoiser: TokenDenoiser | TokenSoftmax
            if isinstance(model.transcoder, BinaryTranscoder):
                denoiser = TokenDenoiser(
                    model.transcoder, config.num_denoise_steps, config.denoise_spacing,
                    config.guidance_levels, dtype, is_float8=is_float8,
                    player=Player(self.execution.mode, model.device),
                )  # fmt: skip
            else:
                denoiser = TokenSoftmax(
                    model.transcoder, dtype, is_float8=is_float8,
                    deterministic_bits=config.deterministic_bits,
                )  # fmt: skip
            layers = model.transformer.with_layers(with_float8) if is_float8 else model.transformer
            self._networks = _Networks(state, layers, denoiser, dtype)
        return self._networks


class _Networks(NamedTuple):
    """Both networks arranged for sampling."""

    state: object
    """Changes with the weights."""
    transformer: MaskedTransformer
    denoiser: TokenDenoiser | TokenSoftmax
    dtype: torch.dtype
    """Of the matrix products."""


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of the matrix products; with ``float8`` that of all others.

    ``auto`` is bfloat16 on GPUs that support it, and float32 elsewhere.

    Raises:
        ValueError: if ``device`` does not support ``float8``.
    """
    if precision == "float8" and (missing := float8_missing(device)):
        raise ValueError(f"execution.precision=float8: {missing}; use bfloat16 or auto.")
    if precision == "auto":
        is_fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if is_fast else torch.float32
    return torch.float32 if precision == "float32" else torch.bfloat16
