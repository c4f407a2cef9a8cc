"""The transcoder at inference: from fair coin flips to a token's bit probabilities.

Tokens are independent here, so they go through the whole chain in chunks that stay in the cache.
Shapes: M tokens, R = M rows, or 2 M with guidance (conditional half first), K bits, W width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigr.models.denoiser import NORM_EPS, DenoiserBlock
from bigr.models.float8 import Float8Linear, fits_float8
from bigr.models.noise_schedule import denoising_steps, keep_probability, posterior_bit_probs
from bigr.models.transcoder import BinaryTranscoder
from bigr.sampling.player import (
    SIZES,
    Guidance,
    Record,
    RecordedChain,
    RecordingError,
    size_for,
)
from bigr.sampling.random_numbers import Noise, SeededNoise

log = logging.getLogger(__name__)

Product = Callable[[Tensor], Tensor]
"""A linear layer, in the type of the products."""

CPU_CHUNK_ROWS = 256
"""Rows per chunk on the CPU: activations stay in the second-level cache."""


class PreparedDenoiser:
    """A denoiser arranged for many calls: one product for all modulations, times embedded once.

    Args:
        transcoder: whose denoiser is used, as it is; weights are read when this is built.
        num_denoise_steps: S.
        spacing: of the noise levels.
        dtype: of the matrix products; what is between them, the logits and the posterior are
            float32.
        is_float8: the products of the wide layers are in float8, see :mod:`bigr.models.float8`.
        record: how a step is recorded to be played again, see :mod:`bigr.sampling.player`; None
            runs each operation by itself.
    """

    def __init__(
        self,
        transcoder: BinaryTranscoder,
        num_denoise_steps: int,
        spacing: str = "even",
        dtype: torch.dtype = torch.float32,
        *,
        is_float8: bool = False,
        record: Record | None = None,
    ) -> None:
        config = transcoder.config
        self.denoiser = denoiser = transcoder.denoiser
        self.dtype = dtype
        self.is_float8 = is_float8
        self.record = record
        self.chains: dict[tuple[int, int], RecordedChain] = {}
        self.transcoder = transcoder
        self.num_steps = config.num_diffusion_steps
        self.num_rows = 0
        """Rows that went through the chain so far."""
        if config.objective == "direct":
            self.steps = [self.num_steps]
        else:
            self.steps = denoising_steps(num_denoise_steps, self.num_steps, spacing)
        levels = torch.tensor(self.steps, device=denoiser.input.weight.device)
        self.time_embeddings = denoiser.embed_time(levels)
        blocks = [block for block in denoiser.blocks if isinstance(block, DenoiserBlock)]
        modulations = [*(block.modulation for block in blocks), denoiser.output_modulation]
        bias = torch.cat([layer.bias for layer in modulations])
        # Scales are used as 1 + scale: fold the 1 into the bias.
        width = config.denoiser_dim
        parts = bias.view(-1, width)
        parts[1 : 3 * config.denoiser_blocks : 3] += 1.0
        parts[-1] += 1.0
        self.num_parts = len(parts)
        self.device = bias.device
        self.modulation = self._product(torch.cat([layer.weight for layer in modulations]), bias)
        self.input, self.output = self._layer(denoiser.input), self._layer(denoiser.output)
        self.mlps = [(self._layer(block.mlp[0]), self._layer(block.mlp[2])) for block in blocks]

    def _layer(self, layer: nn.Module) -> Product:
        assert isinstance(layer, nn.Linear)
        return self._product(layer.weight, layer.bias)

    def _product(self, weight: Tensor, bias: Tensor) -> Product:
        """x W^T + b in the products' type; W and b aren't copied if they have it already."""
        if self.is_float8 and fits_float8(weight):
            return Float8Linear(weight, bias)
        weight, bias = weight.to(self.dtype), bias.to(self.dtype)
        return lambda x: F.linear(x.to(self.dtype), weight, bias)

    def logits(self, signs: Tensor, embedding: Tensor) -> Tensor:
        """Bit logits (R, K) from ``signs`` (M, K) and time + condition ``embedding`` (R, W)."""
        modulation = self.modulation(F.silu(embedding))
        parts = modulation.float().chunk(self.num_parts, dim=-1)
        x = self.input(signs).float()
        if embedding.shape[0] != signs.shape[0]:
            x = torch.cat([x, x])
        shape = (x.shape[-1],)
        for index, (first, second) in enumerate(self.mlps):
            shift, scale, gate = parts[3 * index : 3 * index + 3]
            normed = F.layer_norm(x, shape, eps=NORM_EPS)
            hidden = first(torch.addcmul(shift, normed, scale))
            x = torch.addcmul(x, gate, second(F.silu(hidden)).float())
        normed = F.layer_norm(x, shape, eps=NORM_EPS)
        return self.output(torch.addcmul(parts[-2], normed, parts[-1])).float()

    def bit_probs(
        self,
        condition: Tensor,
        unconditional: Tensor | None,
        tokens: Tensor,
        noise: Noise,
        *,
        iteration: int,
        guidance_scale: float,
        temperature: float,
    ) -> Tensor:
        """Run the chain for M tokens.

        Args:
            condition: (M, D) the transformer's output.
            unconditional: (M, D) the same for the null class, or None without guidance.
            tokens: (M,) indices of the tokens into B*N, for their random numbers.
            noise: where those come from.
            iteration: of the sampler, for the same purpose.
            guidance_scale: s in l = l_uncond + s (l_cond - l_uncond).
            temperature: divides the logits.

        Returns:
            (M, K) probabilities of the clean bits, float32.
        """
        halves = [condition] if unconditional is None else [condition, unconditional]
        self.num_rows += len(halves) * len(tokens)
        settings = Guidance(iteration, guidance_scale, temperature)
        size = self._chunk(len(tokens), noise)
        starts = range(0, tokens.shape[0], max(1, size))
        chunks = [slice(start, start + size) for start in starts]
        done = [
            self._chunk_probs([half[chunk] for half in halves], tokens[chunk], noise, settings)
            for chunk in chunks
        ]
        return torch.cat(done)

    def _chunk(self, count: int, noise: Noise) -> int:
        """Tokens at a time."""
        if self.record is not None and isinstance(noise, SeededNoise):
            return SIZES[-1]
        return count if self.device.type != "cpu" else CPU_CHUNK_ROWS

    def _chunk_probs(
        self, halves: list[Tensor], tokens: Tensor, noise: Noise, settings: Guidance
    ) -> Tensor:
        embeddings = list(self.denoiser.condition(torch.cat(halves)).chunk(len(halves)))
        if self.record is not None and isinstance(noise, SeededNoise):
            key = (size_for(len(tokens)), len(halves))
            if key not in self.chains:
                self.chains[key] = RecordedChain(
                    self, key[0], self.transcoder.config.code_dim,
                    is_guided=len(halves) > 1, record=self.record,
                )  # fmt: skip
            try:
                return self.chains[key].run(embeddings, tokens, noise, settings)
            except RecordingError as error:
                log.warning("%s: sampling goes on without recordings, slower", error)
                self.record = None
                self.chains.clear()
        return self._chain(torch.cat(embeddings), tokens, noise, settings)

    def step(
        self,
        bits: Tensor,
        embedding: Tensor,
        keep_next: Tensor | float,
        keep_between: Tensor | float,
        guidance_scale: Tensor | float | None,
        temperature: Tensor | float,
    ) -> tuple[Tensor, Tensor]:
        """One noise level: P(x_0 = 1) and P(x_{t'} = 1) of the next level, both (M, K).

        Args:
            bits: (M, K) x_t.
            embedding: (R, W) time + condition.
            keep_next: see :func:`bigr.models.noise_schedule.posterior_bit_probs`.
            keep_between: the same.
            guidance_scale: None without an unconditional half.
            temperature: divides the logits.
        """
        signs = self.transcoder.signed_input(bits)
        logits = self.logits(signs, embedding).float() / temperature
        if guidance_scale is not None:
            conditional, unconditional = logits.chunk(2)
            logits = torch.lerp(unconditional, conditional, guidance_scale)
        x_0_probs = self.transcoder.clean_logits(logits, signs).sigmoid()
        return x_0_probs, posterior_bit_probs(x_0_probs, bits, keep_next, keep_between)

    def _chain(self, embedding: Tensor, tokens: Tensor, noise: Noise, settings: Guidance) -> Tensor:
        """One chunk from t = T to t = 1; the last step returns P(x_0 = 1) itself."""
        iteration = settings.iteration
        is_guided = embedding.shape[0] != tokens.shape[0]
        bits = (noise.bit_uniforms(iteration, 0, tokens) < 0.5).float()
        x_0_probs = bits
        for index, (t, t_next) in enumerate(zip(self.steps, [*self.steps[1:], 0], strict=True)):
            x_0_probs, probs = self.step(
                bits,
                embedding + self.time_embeddings[index],
                float(keep_probability(t_next, self.num_steps)),
                float(keep_probability(t, self.num_steps, since=t_next)),
                settings.scale if is_guided else None,
                settings.temperature,
            )
            if t_next > 0:
                bits = (noise.bit_uniforms(iteration, index + 1, tokens) < probs).float()
        return x_0_probs
