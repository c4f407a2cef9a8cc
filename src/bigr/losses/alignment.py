"""Alignment of hidden states with the features of a frozen encoder (REPA, arXiv 2410.06940).

Shapes: B batch, N tokens, D width of the transformer, C width of the encoder.
"""

from __future__ import annotations

import dataclasses

import torch.nn.functional as F
from torch import Tensor, nn

from bigr.schema import NonNegativeFloat, NonNegativeInt, PositiveInt, check_fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignmentConfig:
    """Settings of the alignment; their values are in ``conf/alignment/repa.yaml``.

    Args:
        feature_dim: width C of the encoder's features; None and 0 mean that there are none.
        layer: number of the layer, from 0, whose hidden states are aligned.
        weight: weight of the alignment in the training loss.
        hidden_dim: width of the hidden layers of the projection head.
        until_step: number of optimiser steps with alignment; None never switches it off.
            Alignment helps early in training and may limit the model later (arXiv 2505.16792).

    Raises:
        ValueError: if a value is out of range, naming the field.
    """

    feature_dim: NonNegativeInt | None
    layer: NonNegativeInt
    weight: NonNegativeFloat
    hidden_dim: PositiveInt
    until_step: PositiveInt | None

    def __post_init__(self) -> None:
        check_fields(self)


class AlignmentHead(nn.Sequential):
    """The projection head: an MLP with two hidden layers and SiLU, from D to C.

    Args:
        dim: width D of the hidden states.
        hidden_dim: width of the hidden layers.
        feature_dim: width C of the features.
    """

    def __init__(self, dim: int, hidden_dim: int, feature_dim: int) -> None:
        super().__init__(
            nn.Linear(dim, hidden_dim),
            nn.SiLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.SiLU(),
            nn.Linear(hidden_dim, feature_dim),
        )


def alignment_loss(predicted: Tensor, features: Tensor) -> Tensor:
    """Return the mean over all tokens of minus the cosine similarity, a scalar in [-1, 1].

    Args:
        predicted: (B, N, C) projected hidden states.
        features: (B, N, C) features of the frozen encoder, of any floating-point type.
    """
    return -F.cosine_similarity(predicted.float(), features.float(), dim=-1).mean()
