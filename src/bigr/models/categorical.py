"""The softmax over the values of a token: ``objective=categorical`` (rows S0 and S1 of Table 1).

A token of K bits has 2^K values. Up to ``softmax_bits`` bits, which are 12 by default, one softmax
covers all of them. Longer tokens are split into equal groups of bits, and the probability of a
token is a product by the chain rule, P(group 1) P(group 2 | group 1) ..., so that bits of different
groups may depend on each other as they do in a single softmax. Independent groups would need one
pass instead of one for each group, but could not represent every distribution.

The network is that of :class:`~bigr.models.denoiser.Denoiser`: it reads the bits of the groups
before, and the number of the group in place of a noise level. The value of a group is the binary
number that its bits form, with the first bit as the most significant one.

Shapes: M tokens, G groups, K bits, V = 2^(K/G) values of a group, D width of the transformer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigr.models.config import BiGRConfig
from bigr.models.denoiser import Denoiser
from bigr.models.transcoder import TokenLoss


def group_values(codes: Tensor, num_groups: int) -> Tensor:
    """Return the values (..., G) int64 in 0..V-1 of the groups of codes (..., K)."""
    groups = codes.long().unflatten(-1, (num_groups, -1))
    powers = torch.arange(groups.shape[-1] - 1, -1, -1, device=codes.device)
    return (groups << powers).sum(dim=-1)


def value_bits(values: Tensor, num_bits: int) -> Tensor:
    """Return the bits (..., ``num_bits``) int64 of values, the most significant one first."""
    powers = torch.arange(num_bits - 1, -1, -1, device=values.device)
    return (values[..., None] >> powers) & 1


class CategoricalTranscoder(nn.Module):
    """Predicts the bits of a token from its condition with one softmax for each group of bits."""

    def __init__(self, config: BiGRConfig) -> None:
        super().__init__()
        self.config = config
        self.denoiser = Denoiser(config)

    def known_signs(self, codes: Tensor, group: int) -> Tensor:
        """Return the network's input for a group: -1 or 1 for earlier bits, and 0 for all others.

        Args:
            codes: (M, K) bits.
            group: its number, from 0.
        """
        num_known = group * codes.shape[1] // self.config.num_groups
        is_known = torch.arange(codes.shape[1], device=codes.device) < num_known
        return torch.where(is_known, 2.0 * codes - 1.0, 0.0)

    def logits(self, codes: Tensor, condition: Tensor) -> Tensor:
        """Compute the logits of all groups (M, G, V), given the bits (M, K) of those before."""
        embedding, parts = self.denoiser.condition(condition), []
        for group in range(self.config.num_groups):
            time = self.denoiser.embed_time(torch.tensor([group + 1], device=codes.device))
            parts.append(self.denoiser.predict(self.known_signs(codes, group), embedding + time))
        return torch.stack(parts, dim=1).float()

    def token_loss(self, x_0: Tensor, t: Tensor, noise: Tensor, condition: Tensor) -> TokenLoss:  # noqa: ARG002
        """Compute the loss and the accuracy of every token.

        Args:
            x_0: (M, K) bits.
            t: not used.
            noise: not used.
            condition: (M, D).

        Returns:
            (M,) cross-entropy of the token divided by K, which is in nats per bit as for the other
            objectives, and (M,) the share of bits that agree with the most likely value of their
            group.
        """
        logits, targets = self.logits(x_0, condition), group_values(x_0, self.config.num_groups)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        bits = value_bits(logits.argmax(dim=-1), x_0.shape[-1] // self.config.num_groups)
        is_correct = bits.flatten(1) == x_0
        return TokenLoss(
            loss.view_as(targets).sum(dim=1) / x_0.shape[-1], is_correct.float().mean(dim=-1)
        )
