"""Bit probabilities of tokens from a softmax: ``objective=categorical``.

The value of a group of bits is drawn bit by bit: the probability that the next bit is 1, given the
bits before, is a sum of probabilities of the softmax. The product of these probabilities is that of
the value, so that the drawn values have exactly the distribution of the softmax.

Shapes: M tokens, K bits, G groups, V values of a group, D width of the transformer.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from bigr.models.categorical import CategoricalTranscoder
from bigr.models.products import FLOAT32, Products
from bigr.sampling.random_numbers import Noise

CPU_ROWS = 1024
"""Number of tokens at a time: the 4,096 logits of each then fit into the caches of a CPU."""


def conditional_bits(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a value from a softmax, bit by bit.

    Args:
        logits: (M, V) of the values; the first bit of a value is the most significant one.
        uniforms: (M, log2 V) numbers; a bit is 1 if its number is below its probability.

    Returns:
        (M, log2 V) probabilities of ones given the bits before, and the bits (0.0 or 1.0).
    """
    probs, bits = torch.empty_like(uniforms), torch.empty_like(uniforms)
    for index in range(uniforms.shape[1]):
        halves = logits.unflatten(1, (2, -1))
        zero, one = halves.logsumexp(dim=2).unbind(1)
        probs[:, index] = (one - zero).sigmoid()
        is_one = uniforms[:, index] < probs[:, index]
        bits[:, index] = is_one
        logits = torch.where(is_one[:, None], halves[:, 1], halves[:, 0])
    return probs, bits


class TokenSoftmax:
    """Turns the transformer's output into bit probabilities; it reads the weights once.

    Args:
        transcoder: the transcoder that contains the network.
        products: how the layers multiply; everything else is float32.
        deterministic_bits: decide bits as [p > 0.5], as the sampler does, instead of drawing them.
    """

    def __init__(
        self,
        transcoder: CategoricalTranscoder,
        products: Products = FLOAT32,
        *,
        deterministic_bits: bool = False,
    ) -> None:
        groups = torch.arange(1, transcoder.config.num_groups + 1)
        self.transcoder = transcoder
        self.layers = transcoder.denoiser.prepare(products)
        self.times = transcoder.denoiser.embed_time(groups.to(self.device))
        self.deterministic_bits = deterministic_bits
        self.rows: Counter[int] = Counter()
        """Rows computed since this was last cleared, by the number of groups."""

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return self.transcoder.denoiser.input.weight.device

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
        """Draw the bits of M tokens; return each bit's probability given the bits before, (M, K).

        The bits are drawn with the random numbers that the sampler uses for its final bits, so that
        the sampler obtains the same bits.

        Args:
            conditions: (1, B*N, D) output of the transformer, or (2, B*N, D) with guidance, where
                the second half is that for the null class.
            tokens: (M,) indices into B*N.
            noise: random numbers.
            iteration: iteration of the sampler, on which the random numbers depend.
            guidance_scale: s in l = l_uncond + s (l_cond - l_uncond).
            temperature: divides the logits.
        """
        assert isinstance(conditions, Tensor)  # check_guide has refused a guide
        self.rows[len(self.times)] += len(tokens) * len(conditions)
        results = []
        for chunk in tokens.split(CPU_ROWS):
            uniforms = noise.bit_uniforms(iteration, chunk.new_zeros(1), chunk)[0]
            if self.deterministic_bits:
                uniforms = torch.full_like(uniforms, 0.5)
            embedding = self.transcoder.denoiser.condition(conditions[:, chunk].flatten(0, 1))
            probs, bits = torch.zeros_like(uniforms), torch.zeros_like(uniforms)
            size = bits.shape[1] // len(self.times)
            for group in range(len(self.times)):
                signs = self.transcoder.known_signs(bits, group)
                logits = self.layers.logits(signs, embedding + self.times[group]) / temperature
                if len(conditions) > 1:
                    conditional, unconditional = logits.chunk(2)
                    logits = torch.lerp(unconditional, conditional, guidance_scale)
                place = slice(group * size, (group + 1) * size)
                probs[:, place], bits[:, place] = conditional_bits(logits, uniforms[:, place])
            results.append(probs)
        return torch.cat(results)
