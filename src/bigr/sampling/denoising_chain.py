"""The denoising chain of the binary transcoder: from fair coin flips to bit probabilities.

Tokens are independent here, so that they go through the whole chain in chunks.
Shapes: M tokens, P = M padded, R = P rows, or 2 P with guidance (conditional half first), K bits,
S noise levels, W width of the denoiser, D width of the transformer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bigr.models.noise_schedule import posterior_bit_probs
from bigr.models.transcoder import BinaryTranscoder
from bigr.sampling.player import Player, padded
from bigr.sampling.random_numbers import Noise


class DenoisingChain:
    """Buffers for up to ``size`` = P tokens and the step over them, a program for the player."""

    def __init__(self, denoiser: TokenDenoiser, size: int, is_guided: bool) -> None:
        self.denoiser, self.is_guided = denoiser, is_guided
        self.num_steps, width = denoiser.times.shape
        bits, device = denoiser.transcoder.config.code_dim, denoiser.times.device
        # Inference tensors could not be written outside of inference mode.
        with torch.inference_mode(False), torch.no_grad():
            self.embedding = torch.zeros(size * (2 if is_guided else 1), width, device=device)
            self.uniforms = torch.zeros(self.num_steps, size, bits, device=device)
            self.scale = torch.ones((), device=device)
            self.temperature = torch.ones((), device=device)
            self.index = torch.zeros(1, dtype=torch.int64, device=device)
            self.bit_probs = torch.zeros(size, bits, device=device)
            self.result = torch.zeros(size, bits, device=device)

    def reset(self) -> None:
        """Begin at level T, where each bit is a fair coin flip."""
        self.index.zero_()
        self.bit_probs.fill_(0.5)
        self.result.fill_(float("nan"))

    def step(self) -> None:
        """Go from P(x_t = 1) to P(x_{t'} = 1) at the next level t'; the result is P(x_0 = 1)."""
        index, denoiser, transcoder = self.index, self.denoiser, self.denoiser.transcoder
        # 1. Draw the noisy bits.
        bits = (self.uniforms.index_select(0, index)[0] < self.bit_probs).float()
        signs = transcoder.signed_input(bits)
        # 2. Predict the clean bits, with guidance.
        embedding = self.embedding + denoiser.times.index_select(0, index)
        logits = denoiser.layers.logits(signs, embedding) / self.temperature
        if self.is_guided:
            conditional, unconditional = logits.chunk(2)
            logits = torch.lerp(unconditional, conditional, self.scale)
        clean_probs = transcoder.clean_logits(logits, signs).sigmoid()
        self.result.copy_(clean_probs)
        # 3. Go to the next noise level; after the last one comes the first again.
        keep_next = denoiser.keep_next.index_select(0, index)
        keep_between = denoiser.keep_between.index_select(0, index)
        self.bit_probs.copy_(posterior_bit_probs(clean_probs, bits, keep_next, keep_between))
        index.add_(1).remainder_(self.num_steps)


class TokenDenoiser:
    """Turns the transformer's output into bit probabilities; it reads the weights once.

    Args:
        transcoder: whose denoiser is used.
        num_denoise_steps: S.
        spacing: of the noise levels.
        dtype: of the matrix products; all else is float32.
        is_float8: multiply in float8 where the widths allow it.
        player: runs the chains; None runs them eagerly.
    """

    def __init__(
        self,
        transcoder: BinaryTranscoder,
        num_denoise_steps: int,
        spacing: str = "even",
        dtype: torch.dtype = torch.float32,
        *,
        is_float8: bool = False,
        player: Player | None = None,
    ) -> None:
        schedule, device = transcoder.schedule, transcoder.denoiser.input.weight.device
        levels = [schedule.num_steps]
        if transcoder.config.objective != "direct":
            levels = schedule.levels(num_denoise_steps, spacing)
        earlier, later = torch.tensor([*levels[1:], 0]), torch.tensor(levels)
        self.transcoder = transcoder
        self.layers = transcoder.denoiser.prepare(dtype, is_float8=is_float8)
        # What depends on the noise level alone: (S, W), (S,) and (S,).
        self.times = transcoder.denoiser.embed_time(later.to(device))
        self.keep_next = schedule.keep(earlier).to(device)
        self.keep_between = schedule.between(earlier, later).to(device)
        self.draws = torch.arange(1, len(levels) + 1, device=device)
        self.player = player or Player("eager", device)
        self.chains: dict[tuple[int, bool], DenoisingChain] = {}
        self.num_rows = 0
        """Rows that went through the chain since this was last set to 0."""

    def bit_probs(
        self,
        conditions: Tensor,
        tokens: Tensor,
        noise: Noise,
        *,
        iteration: int,
        guidance_scale: float,
        temperature: float,
    ) -> Tensor:
        """Compute the probabilities of the clean bits of M tokens, (M, K) float32.

        Args:
            conditions: (1, B*N, D) output of the transformer, or (2, B*N, D) with guidance, where
                the second half is that for the null class.
            tokens: (M,) indices into B*N.
            noise: random numbers of the chain.
            iteration: of the sampler, which the random numbers depend on.
            guidance_scale: s in l = l_uncond + s (l_cond - l_uncond).
            temperature: divides the logits.
        """
        self.num_rows += len(conditions) * len(tokens)
        results = []
        for chunk in tokens.split(self.player.max_rows):
            # Take the chain for so many tokens; only those that are recorded are kept.
            count, is_recorded = len(chunk), self.player.record is not None
            key = (padded(count) if is_recorded else count, len(conditions) > 1)
            chain = self.chains.get(key) or DenoisingChain(self, *key)
            if is_recorded:
                self.chains[key] = chain
            # Fill its buffers, with padding behind the rows of each half, and run it.
            embedding = self.transcoder.denoiser.condition(conditions[:, chunk].flatten(0, 1))
            halves = chain.embedding.unflatten(0, (len(conditions), -1))
            halves[:, :count] = embedding.unflatten(0, (len(conditions), -1))
            chain.uniforms[:, :count] = noise.bit_uniforms(iteration, self.draws, chunk)
            chain.scale.fill_(guidance_scale)
            chain.temperature.fill_(temperature)
            results.append(self.player.play(chain)[:count].clone())
        return torch.cat(results)
