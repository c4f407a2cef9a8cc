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

import torch
from torch import Tensor

from bigr.models.bigr import BiGR
from bigr.models.config import BiGRConfig
from bigr.models.flops import chain_flops, transformer_flops
from bigr.models.key_value_memory import CausalMemory, Memory
from bigr.models.transcoder import BinaryTranscoder
from bigr.sampling.conditioning import initial_state
from bigr.sampling.corrector import hide_least_certain
from bigr.sampling.guidance import (
    GUIDANCE_SCHEDULES,
    CosineGuidance,
    GuidanceInterval,
    PiecewiseGuidance,
)
from bigr.sampling.guide import check_guide, load_guide
from bigr.sampling.gumbel import GUMBEL_SCHEDULES, PiecewiseGumbel, gumbel
from bigr.sampling.mask_schedules import MASK_SCHEDULES, MaskSchedule
from bigr.sampling.networks import Networks, compute_dtype, prepare
from bigr.sampling.orders import ORDERS, SamplingOrder
from bigr.sampling.random_numbers import Noise, SeededNoise, image_seeds
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig
from bigr.sampling.selection import confidence, select


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
    """Sampling by the method of ``config``, computed as ``execution`` says.

    A generator given as ``guide`` is used instead of one that the configuration names.
    """

    def __init__(
        self,
        config: SamplerConfig,
        execution: ExecutionConfig = DEFAULT_EXECUTION,
        *,
        guide: BiGR | None = None,
    ) -> None:
        if not isinstance(config, SamplerConfig):
            raise TypeError(f"a Sampler needs a SamplerConfig, got {config!r}.")
        self.guide = guide
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
        # An iteration is one pass of the networks, and one more for each round of the corrector.
        self.passes: list[tuple[int, int, bool]] = []
        (first, last), n = config.corrector_interval, config.num_iterations
        for iteration in range(1, n + 1):
            is_corrected = config.corrector_share > 0 and first <= (iteration - 0.5) / n <= last
            rounds = config.corrector_rounds if is_corrected else 0
            for number in range(rounds + 1):
                self.passes.append((iteration, number, number == rounds))
        self._networks: Networks | None = None

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
        compute_dtype(self.execution.precision, model.device, model.config.dim)
        if self.config.guide is not None or self.guide is not None:
            guide = self.guide_of(model)
            precision = self.execution.guide_precision or self.execution.precision
            compute_dtype(precision, guide.device, guide.config.dim)

    def guide_of(self, model: BiGR) -> BiGR:
        """Return the guide of ``model``, which is loaded if the configuration names it.

        Raises:
            ValueError: if it cannot be loaded, or does not fit ``model``.
        """
        guide = self.guide or load_guide(str(self.config.guide), model.device)
        check_guide(guide, model, is_conditional=self.config.conditional_guide)
        return guide

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
            seeds: (B,) one seed per image, instead of ``generator``. An image depends only on its
                seed, class and known tokens, not on the rest of the batch.
            on_iteration: called after every iteration.

        Returns:
            (B, N, K) of 0.0 and 1.0; tokens outside of ``is_masked`` as in ``known_codes``.

        Raises:
            ValueError: if shapes, classes or seeds do not fit the model.
        """
        codes, is_masked = initial_state(model, class_ids, known_codes, is_masked)
        class_ids = class_ids.to(model.device)
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
        passes, orders, mask_schedule = self.passes, self.orders, self.mask_schedule
        guide = None
        if config.guide is not None or self.guide is not None:
            guide = self.guide_of(model)
            if config.conditional_guide and class_ids.is_floating_point():
                raise ValueError(
                    "class embeddings, such as mixtures of two classes, cannot be given to a "
                    "guide: set sampler.conditional_guide=false."
                )
        networks = prepare(model, config, self.execution, self._networks, guide)
        self._networks, denoiser = networks, networks.denoiser
        models = (model,) if guide is None else (model, guide)
        memories: list[Memory] = []
        if networks.transformer.is_causal:  # one token after the other, in raster order
            n, orders, mask_schedule = model.config.seq_len, *ONE_BY_ONE
            passes = [(iteration, 0, True) for iteration in range(1, n + 1)]
            memories = [CausalMemory(one.config.num_layers) for one in models]
        elif config.reuse_decided:
            memories = [Memory(one.config.num_layers) for one in models]
        certainty = torch.full(is_masked.shape, float("nan"), device=codes.device)
        # The host knows how many tokens are masked, and never has to wait for the device.
        totals: list[int] = is_masked.sum(dim=1).tolist()
        left = totals
        for iteration, round_number, is_last in passes:
            step = iteration + n * round_number  # of the random numbers
            # 1. Schedule: how many tokens each image decides now.
            num_masked = functools.partial(mask_schedule.num_masked, iteration, n)
            remaining = list(map(num_masked, totals))
            if round_number > 0:
                hidden = hide_least_certain(config.corrector_share, certainty, totals, left)
                left = list(map(operator.add, left, hidden.counts))
                is_masked = is_masked | hidden.tokens
                codes = codes.masked_fill(hidden.tokens[..., None], 0.0)
                certainty = certainty.masked_fill(hidden.tokens, float("nan"))
            counts = list(map(operator.sub, left, remaining))
            if any(counts):
                # 2. Condition: what the transformer knows, with and without the class.
                scale = self.guidance_schedule.scale(iteration, n, config.guidance_scale)
                is_blank = min(left) == model.config.seq_len
                conditions = networks.conditions(
                    class_ids, codes, is_masked, scale, memories, self._images, is_blank=is_blank
                )
                # 3. Order: scores of the tokens, and Gumbel noise on their confidence.
                uniforms = noise.order_uniforms(step)
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
                    denoiser.bit_probs, conditions, noise=noise, iteration=step,
                    guidance_scale=scale, temperature=warmth,
                )  # fmt: skip
                tokens, probs = select(
                    denoise, scores, is_masked, counts, uses_confidence=by_confidence
                )
                # 5. Update: decide the bits of the chosen tokens.
                draws = noise.bit_uniforms(step, tokens.new_zeros(1), tokens)[0]
                bits = (0.5 if config.deterministic_bits else draws) < probs
                codes, certainty, is_masked = codes.clone(), certainty.clone(), is_masked.clone()
                codes.view(-1, codes.shape[2])[tokens] = bits.float()
                certainty.view(-1)[tokens] = confidence(probs)
                is_masked.view(-1)[tokens] = False
            left = remaining
            if is_last and on_iteration is not None:
                on_iteration(Progress(iteration, n, codes, is_masked, certainty))
        for part in filter(None, (networks, networks.guide)):
            for num_steps, num_rows in part.denoiser.rows.items():
                self._rows[part.transformer.config, num_steps] += num_rows
            part.denoiser.rows.clear()
        return codes
