"""The denoising chain of the binary transcoder: from fair coin flips to bit probabilities.

Tokens are independent here, so they pass through the whole chain in chunks.
Shapes: M tokens, P = M padded, R = P rows, or 2 P with guidance (conditional half first), K bits,
S noise levels, W width of the denoiser, D width of the transformer. A guide has its own W and D,
and P rows of its own instead of the unconditional half.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import torch
from torch import Tensor

from bigr.models.noise_schedule import posterior_bit_probs
from bigr.models.products import FLOAT32, Products
from bigr.models.transcoder import BinaryTranscoder
from bigr.sampling.player import Player, padded
from bigr.sampling.random_numbers import Noise


class DenoisingChain:
    """Buffers for up to ``size`` = P tokens and the step over them, a program for the player.

    The chain takes the given steps of the denoiser, all of them with guidance or all without.
    ``halves`` are the buffers for the embedded conditions of each half.
    """

    def __init__(self, denoiser: TokenDenoiser, size: int, steps: slice, is_guided: bool) -> None:
        self.denoiser, self.is_guided = denoiser, is_guided
        self.times, self.keep_next = denoiser.times[steps], denoiser.keep_next[steps]
        self.keep_between = denoiser.keep_between[steps]
        self.num_steps, width = self.times.shape
        self.is_last = steps.stop == len(denoiser.times)
        guide = denoiser.guide if is_guided else None
        self.guide = guide
        self.guide_times = None if guide is None else guide.times[steps]
        num_halves = 2 if is_guided and guide is None else 1
        bits, device = denoiser.transcoder.config.code_dim, self.times.device
        # Inference tensors could not be written outside of inference mode.
        with torch.inference_mode(False), torch.no_grad():
            self.embedding = torch.zeros(size * num_halves, width, device=device)
            self.halves = list(self.embedding.unflatten(0, (num_halves, size)))
            if guide is not None:
                self.halves.append(torch.zeros(size, guide.times.shape[1], device=device))
            self.uniforms = torch.zeros(self.num_steps, size, bits, device=device)
            self.scale = torch.ones((), device=device)
            self.temperature = torch.ones((), device=device)
            self.index = torch.zeros(1, dtype=torch.int64, device=device)
            self.start = torch.full((size, bits), 0.5, device=device)
            self.bit_probs = torch.zeros(size, bits, device=device)
            self.result = torch.zeros(size, bits, device=device)

    def reset(self) -> None:
        """Begin with P(x_t = 1) = ``start``; at level T, each bit is a fair coin flip."""
        self.index.zero_()
        self.bit_probs.copy_(self.start)
        self.result.fill_(float("nan"))

    def step(self) -> None:
        """Go from P(x_t = 1) to P(x_{t'} = 1) at the next level t'.

        The result is P(x_{t'} = 1), where the next chain starts, or P(x_0 = 1) in the last chain.
        """
        index, denoiser, transcoder = self.index, self.denoiser, self.denoiser.transcoder
        # 1. Draw the noisy bits.
        bits = (self.uniforms.index_select(0, index)[0] < self.bit_probs).float()
        signs = transcoder.signed_input(bits)
        # 2. Predict the clean bits, with guidance.
        embedding = self.embedding + self.times.index_select(0, index)
        logits = denoiser.layers.logits(signs, embedding)
        if self.guide is not None and self.guide_times is not None:
            embedding = self.halves[1] + self.guide_times.index_select(0, index)
            logits = torch.cat([logits, self.guide.layers.logits(signs, embedding)])
        logits = logits / self.temperature
        if self.is_guided:
            conditional, unconditional = logits.chunk(2)
            logits = torch.lerp(unconditional, conditional, self.scale)
        clean_probs = transcoder.clean_logits(logits, signs).sigmoid()
        # 3. Go to the next noise level; the first one follows the last one.
        keep_next = self.keep_next.index_select(0, index)
        keep_between = self.keep_between.index_select(0, index)
        self.bit_probs.copy_(posterior_bit_probs(clean_probs, bits, keep_next, keep_between))
        self.result.copy_(clean_probs if self.is_last else self.bit_probs)
        index.add_(1).remainder_(self.num_steps)


class TokenDenoiser:
    """Turns the transformer's output into bit probabilities; it reads the weights once.

    Args:
        transcoder: the transcoder that contains the denoiser.
        num_denoise_steps: S.
        spacing: spacing of the noise levels.
        guided_levels: the range of t/T in which levels t are guided.
        products: how the layers multiply; everything else is float32.
        player: runs the chains; None runs them eagerly.
        guide: another denoiser, whose logits replace the unconditional ones.
    """

    def __init__(
        self,
        transcoder: BinaryTranscoder,
        num_denoise_steps: int,
        spacing: str = "even",
        guided_levels: tuple[float, float] = (0.0, 1.0),
        products: Products = FLOAT32,
        *,
        player: Player | None = None,
        guide: TokenDenoiser | None = None,
    ) -> None:
        schedule, device = transcoder.schedule, transcoder.denoiser.input.weight.device
        levels = [schedule.num_steps]
        if transcoder.config.objective != "direct":
            levels = schedule.levels(num_denoise_steps, spacing)
        earlier, later = torch.tensor([*levels[1:], 0]), torch.tensor(levels)
        self.transcoder = transcoder
        self.player = player or Player("eager", device)
        if self.player.record is not None:  # the layers are compiled
            products = dataclasses.replace(products, calls_onednn=False)
        self.layers = transcoder.denoiser.prepare(products)
        # What depends on the noise level alone: (S, W), (S,) and (S,).
        self.times = transcoder.denoiser.embed_time(later.to(device))
        self.keep_next = schedule.keep(earlier).to(device)
        self.keep_between = schedule.between(earlier, later).to(device)
        self.draws = torch.arange(1, len(levels) + 1, device=device)
        self.guide = guide
        # Neighbouring steps that are all guided, or all unguided, make a chain.
        first, last = guided_levels
        self.parts: list[tuple[slice, bool]] = []
        self.num_guided = 0
        for index, level in enumerate(levels):
            is_guided, start = first <= level / schedule.num_steps <= last, index
            if self.parts and self.parts[-1][1] == is_guided:
                start = self.parts.pop()[0].start
            self.parts.append((slice(start, index + 1), is_guided))
            self.num_guided += is_guided
        self.chains: dict[tuple[int, int, int, bool], DenoisingChain] = {}
        self.rows: Counter[int] = Counter()
        """Rows that went through chains since this was last cleared, by their number of steps."""

    def bit_probs(
        self,
        conditions: Tensor | tuple[Tensor, Tensor],
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
                the second half is that for the null class; or (B*N, D) each with a guide, whose
                condition is the second.
            tokens: (M,) indices into B*N.
            noise: random numbers of the chain.
            iteration: iteration of the sampler, on which the random numbers depend.
            guidance_scale: s in l = l_uncond + s (l_cond - l_uncond).
            temperature: divides the logits.
        """
        is_guided = len(conditions) > 1
        self.rows[len(self.draws)] += len(tokens)
        other = self if self.guide is None else self.guide
        other.rows[self.num_guided] += len(tokens) * is_guided
        parts = self.parts if is_guided else [(slice(0, len(self.draws)), False)]
        results = []
        for chunk in tokens.split(self.player.max_rows):
            count, is_recorded = len(chunk), self.player.record is not None
            size = padded(count) if is_recorded else count
            if isinstance(conditions, Tensor):
                rows = self.transcoder.denoiser.condition(conditions[:, chunk].flatten(0, 1))
                embedded = list(rows.unflatten(0, (len(conditions), -1)))
            else:
                denoisers = (self.transcoder.denoiser, other.transcoder.denoiser)
                pairs = zip(denoisers, conditions, strict=True)
                embedded = [denoiser.condition(half[chunk]) for denoiser, half in pairs]
            uniforms = noise.bit_uniforms(iteration, self.draws, chunk)
            probs = torch.full_like(uniforms[0], 0.5)
            for steps, has_guidance in parts:
                # Take the chain for this number of tokens; only recorded chains are kept.
                key = (size, steps.start, steps.stop, has_guidance)
                chain = self.chains.get(key) or DenoisingChain(self, size, steps, has_guidance)
                if is_recorded:
                    self.chains[key] = chain
                # Fill its buffers, with padding behind the rows of each half, and run it.
                for half, rows in zip(chain.halves, embedded, strict=False):
                    half[:count] = rows
                chain.uniforms[:, :count] = uniforms[steps]
                chain.start[:count] = probs
                chain.scale.fill_(guidance_scale)
                chain.temperature.fill_(temperature)
                probs = self.player.play(chain)[:count].clone()
            results.append(probs)
        return torch.cat(results)
