"""The sampler: fill masked tokens in, the most certain first.

One loop serves generation (everything masked), inpainting, editing and enrichment (some tokens
known). Shapes: B images, N tokens per image, M tokens still masked in the batch, K bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bigr.models.bigr import BiGR
from bigr.models.float8 import float8_missing, with_float8
from bigr.models.flops import chain_flops, transformer_flops
from bigr.models.key_value_memory import Memory
from bigr.models.transformer import MaskedTransformer
from bigr.sampling.chain import PreparedDenoiser
from bigr.sampling.player import recorder
from bigr.sampling.random_numbers import Noise, SeededNoise, gumbel, image_seeds
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig
from bigr.sampling.schedules import (
    guidance_scale_at,
    gumbel_temperature_at,
    num_masked_after,
)
from bigr.sampling.selection import confidence, first, most_confident


@dataclass(frozen=True)
class Progress:
    """State after one iteration, for a progress callback."""

    iteration: int
    """1..num_iterations."""
    num_iterations: int
    codes: Tensor
    """(B, N, K); masked tokens are 0."""
    is_masked: Tensor
    """(B, N) bool, what is left."""
    confidence: Tensor
    """(B, N) mean_k |2 p_k - 1| of each token when it was decided; NaN for the others."""


ProgressCallback = Callable[[Progress], None]


class Sampler:
    """Entropy-ordered sampling (BiGR, arXiv 2410.14672) with the settings of ``config``."""

    def __init__(
        self, config: SamplerConfig, execution: ExecutionConfig = DEFAULT_EXECUTION
    ) -> None:
        self.config = config
        self.execution = execution
        self.flops = 0.0
        """Floating-point operations of all calls so far, as counted in ``models.flops``."""
        self._prepared: _Prepared | None = None

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
            model: the generator; used in evaluation mode, on its own device.
            class_ids: (B,) int64 in 0..num_classes (the last is the null class), or (B, D)
                class embeddings.
            known_codes: (B, N, K) bits; needed with ``is_masked``.
            is_masked: (B, N) bool, True = sample this token; None samples all of them.
            generator: draws one seed per image; None uses torch's global generator.
            seeds: B numbers instead. An image depends on its seed, class and known tokens
                alone, not on the rest of the batch.
            on_iteration: called after every iteration.

        Returns:
            (B, N, K) of 0.0/1.0; tokens outside ``is_masked`` as in ``known_codes``.

        Raises:
            ValueError: if shapes, classes or seeds don't fit.
        """
        device = model.device
        class_ids = class_ids.to(device)
        codes, is_masked = _start(model, class_ids, known_codes, is_masked)
        image_noise = SeededNoise(
            image_seeds(len(class_ids), generator=generator, seeds=seeds),
            model.config.seq_len,
            model.config.code_dim,
            device,
        )
        was_training = model.training
        model.eval()
        try:
            return self.run(model, class_ids, codes, is_masked, image_noise, on_iteration)
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
        config = self.config
        dtype = compute_dtype(self.execution.precision, model.device)
        transformer, denoiser = self._prepare(model, dtype)
        rows_before = denoiser.num_rows
        # From here on the host knows how many tokens are masked, and needn't ask the device.
        totals: list[int] = is_masked.sum(dim=1).tolist()
        left = totals
        memory = Memory(model.config.num_layers) if config.reuse_decided else None
        certainty = torch.full(is_masked.shape, float("nan"), device=codes.device)
        for iteration in range(1, config.num_iterations + 1):
            remaining = [num_masked_after(iteration, total, config) for total in totals]
            num_new = [before - after for before, after in zip(left, remaining, strict=True)]
            if any(num_new):
                is_first = all(count == model.config.seq_len for count in left)
                state = _Iteration(
                    transformer, denoiser, noise, config, iteration, is_first, memory
                )
                codes, certainty, is_masked = state.unmask(
                    class_ids, codes, certainty, is_masked, num_new
                )
                computed = None if memory is None else memory.num_computed
                passes = state.num_passes(len(codes))
                self.flops += passes * transformer_flops(model.config, computed)
            left = remaining
            if on_iteration is not None:
                on_iteration(
                    Progress(iteration, config.num_iterations, codes, is_masked, certainty)
                )
        rows = denoiser.num_rows - rows_before
        self.flops += rows * chain_flops(model.config, len(denoiser.steps))
        return codes

    def _prepare(
        self, model: BiGR, dtype: torch.dtype
    ) -> tuple[MaskedTransformer, PreparedDenoiser]:
        """Both parts arranged for sampling; kept with their recordings while weights stay."""
        config = self.config
        is_float8 = self.execution.precision == "float8"
        state = (
            dtype,
            _fingerprint(model.transcoder),
            is_float8 and _fingerprint(model.transformer),
        )
        if self._prepared is None or self._prepared.state != state:
            denoiser = PreparedDenoiser(
                model.transcoder,
                config.num_denoise_steps,
                config.denoise_spacing,
                dtype,
                is_float8=is_float8,
                record=recorder(self.execution.mode, model.device),
            )
            transformer = model.transformer.with_layers(with_float8) if is_float8 else None
            self._prepared = _Prepared(state, transformer, denoiser)
        prepared = self._prepared
        return prepared.transformer or model.transformer, prepared.denoiser


class _Prepared(NamedTuple):
    """What a sampler keeps between calls."""

    state: object
    """Of the weights that it was made from."""
    transformer: MaskedTransformer | None
    """In float8; None for the model's own."""
    denoiser: PreparedDenoiser


def _fingerprint(module: nn.Module) -> object:
    """Changes with the module's weights."""
    weights = [weight.detach() for weight in module.parameters()]
    # Some ways of changing weights in place leave no other trace than the numbers.
    numbers = torch.stack([torch.stack([w.float().norm(), w.float().sum()]) for w in weights])
    return id(module), [weight.data_ptr() for weight in weights], numbers.tolist()


def _start(
    model: BiGR, class_ids: Tensor, known_codes: Tensor | None, is_masked: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Check the input; known codes with zeros at masked positions, and the mask."""
    config = model.config
    device = class_ids.device
    shape = (len(class_ids), config.seq_len)
    if class_ids.is_floating_point():
        if class_ids.shape[1:] != (config.dim,):
            raise ValueError(
                f"class embeddings must have shape (batch, {config.dim}), "
                f"got {tuple(class_ids.shape)}."
            )
    elif class_ids.ndim != 1 or bool(((class_ids < 0) | (class_ids > config.num_classes)).any()):
        raise ValueError(
            f"class_ids must be one number per image in 0..{config.num_classes} "
            f"({config.num_classes} is the null class), got {class_ids.tolist()}."
        )
    if (known_codes is None) != (is_masked is None):
        raise ValueError("known_codes and is_masked go together: give both or neither.")
    if known_codes is None or is_masked is None:
        codes = torch.zeros(*shape, config.code_dim, device=device)
        return codes, torch.ones(shape, dtype=torch.bool, device=device)
    if is_masked.dtype != torch.bool or is_masked.shape != shape:
        raise ValueError(
            f"is_masked must be bool of shape {shape}, got {is_masked.dtype} of shape "
            f"{tuple(is_masked.shape)}."
        )
    known_codes = known_codes.to(device, torch.float32)
    model.check_codes(known_codes)
    if len(known_codes) != len(class_ids):
        raise ValueError(f"{len(class_ids)} class_ids but {len(known_codes)} known_codes.")
    is_masked = is_masked.to(device)
    return known_codes.masked_fill(is_masked[..., None], 0.0), is_masked


@dataclass(frozen=True)
class _Iteration:
    """One iteration: predict, order, unmask."""

    transformer: MaskedTransformer
    denoiser: PreparedDenoiser
    noise: Noise
    config: SamplerConfig
    iteration: int
    is_first: bool
    """Whether everything is masked."""
    memory: Memory | None = None
    """What the transformer keeps of decided tokens."""

    def unmask(
        self,
        class_ids: Tensor,
        codes: Tensor,
        certainty: Tensor,
        is_masked: Tensor,
        num_new: list[int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decide ``num_new`` (B) of the masked tokens: codes, confidences, what is left."""
        counts = torch.tensor(num_new, device=codes.device)
        bit_probs = self.predictor(class_ids, codes, is_masked)
        if self.config.order == "confidence":
            is_new, all_probs = most_confident(bit_probs, self.head_start(), is_masked, counts)
            tokens = _indices(is_new, sum(num_new))
            probs = all_probs[tokens]
        else:
            # The order doesn't depend on the prediction, so only chosen tokens need one.
            is_new = first(self.order_scores(is_masked), is_masked, counts)
            tokens = _indices(is_new, sum(num_new))
            probs = bit_probs(tokens)
        decided = codes.flatten(0, 1).index_copy(0, tokens, self.draw(probs, tokens))
        certainty = certainty.flatten().index_copy(0, tokens, confidence(probs))
        return decided.view_as(codes), certainty.view_as(is_masked), is_masked & ~is_new

    @property
    def guidance_scale(self) -> float:
        """Of this iteration."""
        return guidance_scale_at(self.iteration, self.config)

    def num_passes(self, batch_size: int) -> int:
        """Images that go through the transformer, conditional and unconditional ones."""
        if self.guidance_scale in (0.0, 1.0):
            return batch_size
        is_shared = self.is_first and self.memory is None
        return batch_size + (1 if is_shared else batch_size)

    def predictor(
        self, class_ids: Tensor, codes: Tensor, is_masked: Tensor
    ) -> Callable[[Tensor], Tensor]:
        """Run the transformer; gives the function from tokens (M,) to bit probabilities (M, K)."""
        transformer = self.transformer
        scale = self.guidance_scale
        classes = transformer.embed_classes(class_ids)
        null = transformer.class_embedding.weight[-1].expand_as(classes)
        dtype = self.denoiser.dtype
        with torch.autocast(codes.device.type, dtype, enabled=dtype != torch.float32):
            if scale in (0.0, 1.0):
                chosen = classes if scale == 1.0 else null
                condition = transformer(codes, chosen, is_masked, self.memory).flatten(0, 1)
                unconditional = None
            else:
                # With everything masked, all images have the same unconditional half.
                num = self.num_passes(len(codes)) - len(codes)
                both = transformer(
                    torch.cat([codes, codes[:num]]),
                    torch.cat([classes, null[:num]]),
                    torch.cat([is_masked, is_masked[:num]]),
                    self.memory,
                )
                condition = both[: len(codes)].flatten(0, 1)
                unconditional = both[len(codes) :].expand(len(codes), -1, -1).flatten(0, 1)

        def bit_probs(tokens: Tensor) -> Tensor:
            return self.denoiser.bit_probs(
                condition[tokens],
                None if unconditional is None else unconditional[tokens],
                tokens,
                self.noise,
                iteration=self.iteration,
                guidance_scale=scale,
                temperature=self.config.temperature,
            )

        return bit_probs

    def head_start(self) -> Tensor | None:
        """tau * Gumbel, (B, N), which is added to the confidence; None without."""
        temperature = gumbel_temperature_at(self.iteration, self.config)
        if temperature == 0:
            return None
        return temperature * gumbel(self.noise.order_uniforms(self.iteration))

    def draw(self, probs: Tensor, tokens: Tensor) -> Tensor:
        """Bits (M, K) ~ Bernoulli(``probs``), or the likelier ones."""
        if self.config.deterministic_bits:
            return (probs > 0.5).float()
        return (self.noise.bit_uniforms(self.iteration, -1, tokens) < probs).float()

    def order_scores(self, is_masked: Tensor) -> Tensor:
        """Scores (B, N) of the orders that don't look at the prediction."""
        if self.config.order == "random":
            return self.noise.order_uniforms(self.iteration)
        num_tokens = is_masked.shape[1]
        raster = torch.arange(num_tokens, 0, -1, device=is_masked.device, dtype=torch.float32)
        return raster.expand_as(is_masked)


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Of matrix products: ``auto`` is bfloat16 on GPUs that have it, float32 elsewhere.

    With ``float8`` it is bfloat16, of what isn't in float8.

    Raises:
        ValueError: if ``device`` can't do ``float8``.
    """
    if precision == "float8" and (missing := float8_missing(device)):
        raise ValueError(f"execution.precision=float8: {missing}; take bfloat16, or auto.")
    if precision == "auto":
        is_fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if is_fast else torch.float32
    return torch.float32 if precision == "float32" else torch.bfloat16


def _indices(is_chosen: Tensor, count: int) -> Tensor:
    """Flat indices of the ``count`` True entries, without waiting for the device."""
    return is_chosen.flatten().logical_not().argsort(stable=True)[:count]
