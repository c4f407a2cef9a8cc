"""The binary transcoder: Bernoulli diffusion of one token's bits given its condition.

Shapes: M tokens, K bits, D width of the transformer.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigr.models.config import BiGRConfig
from bigr.models.denoiser import Denoiser
from bigr.models.loss_weighting import balanced_weight
from bigr.models.noise_schedule import noised_bit_probs, posterior_bit_probs

POSTERIOR_CLAMP = 1e-6
POSTERIOR_OFFSET = 1e-6
"""Added to the denominators of both posteriors of the auxiliary loss, as in the released code."""


class BitLoss(NamedTuple):
    """Training loss of every bit and whether its prediction is correct, both (M, K)."""

    loss: Tensor
    is_correct: Tensor


class TokenLoss(NamedTuple):
    """Training loss of every token, and the share of its bits predicted correctly, both (M,)."""

    loss: Tensor
    accuracy: Tensor


class BinaryTranscoder(nn.Module):
    """The denoiser with the three objectives of the paper's Table 2."""

    def __init__(self, config: BiGRConfig) -> None:
        super().__init__()
        self.config = config
        self.schedule = config.schedule
        self.denoiser = Denoiser(config)

    def signed_input(self, x_t: Tensor) -> Tensor:
        """Return the denoiser's input 2 x_t - 1, or ones with the objective ``direct``.

        With zeros, all layers but the last bias would start without a gradient, and never learn:
        the biases and the last layer are zero at first, so that all products would be zero.
        """
        if self.config.objective == "direct":
            return torch.ones_like(x_t)
        return 2.0 * x_t - 1.0

    def clean_logits(self, bit_logits: Tensor, signs: Tensor) -> Tensor:
        """Return the logits of x_0 = 1 from the denoiser's output and its input signs (M, K).

        With flip prediction, the sign of the logit changes where the noisy bit is 1.
        """
        return -signs * bit_logits if self.config.objective == "flip" else bit_logits

    def noised(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Draw x_t ~ q(x_t | x_0).

        Args:
            x_0: (M, K) bits.
            t: (M,) noise levels in 1..T.
            noise: (M, K) uniform in [0, 1).

        Returns:
            (M, K) of 0.0 and 1.0.
        """
        return (noise < noised_bit_probs(x_0, self.schedule.keep(t)[:, None])).to(x_0.dtype)

    def token_loss(self, x_0: Tensor, t: Tensor, noise: Tensor, condition: Tensor) -> TokenLoss:
        """Compute the means of :meth:`loss` over the bits of every token.

        Args:
            x_0: see :meth:`loss`.
            t: see :meth:`loss`.
            noise: see :meth:`noised`.
            condition: see :meth:`loss`.
        """
        bits = self.loss(x_0, t, self.noised(x_0, t, noise), condition)
        return TokenLoss(bits.loss.mean(dim=-1), bits.is_correct.float().mean(dim=-1))

    def loss(self, x_0: Tensor, t: Tensor, x_t: Tensor, condition: Tensor) -> BitLoss:
        """Compute the loss of every bit: BCE(logit, y) * alpha (+ the auxiliary term).

        Args:
            x_0: (M, K) clean bits.
            t: (M,) noise levels in 1..T.
            x_t: (M, K) noisy bits.
            condition: (M, D); or fewer rows, if M is a multiple of their number. The rows are then
                repeated, as for several noise levels of the same tokens.

        Returns:
            (M, K) losses in float32, and whether the un-flipped prediction equals x_0.
        """
        config = self.config
        signs = self.signed_input(x_t)
        # Broadcasting embeds each condition only once.
        times = self.denoiser.embed_time(t).unflatten(0, (-1, len(condition)))
        embedding = (self.denoiser.condition(condition) + times).flatten(0, 1)
        bit_logits = self.denoiser.predict(signs, embedding).float()
        target = (x_0 - x_t).abs() if config.objective == "flip" else x_0
        loss = F.binary_cross_entropy_with_logits(bit_logits, target, reduction="none")
        if config.weighted_loss:
            loss = loss * balanced_weight(target)
        x_0_logits = self.clean_logits(bit_logits, signs)
        if config.auxiliary_weight > 0:
            auxiliary = self.posterior_cross_entropy(x_0_logits.sigmoid(), x_0, t, x_t)
            loss = loss + config.auxiliary_weight * auxiliary
        is_correct = (x_0_logits > 0) == (x_0 > 0.5)
        return BitLoss(loss, is_correct)

    def posterior_cross_entropy(
        self, x_0_probs: Tensor, x_0: Tensor, t: Tensor, x_t: Tensor
    ) -> Tensor:
        """Cross-entropy between the true and the predicted q(x_{t-1} | x_t, x_0), (M, K).

        At t = 1 the prediction is P(x_0) itself, as in the last denoising step.
        """
        keep_next = self.schedule.keep(t - 1)[:, None]
        keep_between = self.schedule.between(t - 1, t)[:, None]
        levels = (x_t, keep_next, keep_between, POSTERIOR_OFFSET)
        true = posterior_bit_probs(x_0, *levels)
        predicted = posterior_bit_probs(x_0_probs, *levels)
        predicted = torch.where(t[:, None] == 1, x_0_probs, predicted)
        predicted = predicted.clamp(POSTERIOR_CLAMP, 1.0 - POSTERIOR_CLAMP)
        return -(true * predicted.log() + (1.0 - true) * (1.0 - predicted).log())
