"""The corrector: tokens that were decided with little certainty are masked and decided again.

A masked model cannot change a token once it is decided. Masking the least certain ones again lets
it decide them with more of the picture (ReMDM, arXiv 2503.00307).

Shapes: B images, N tokens per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bigr.sampling.selection import highest


class Hidden(NamedTuple):
    """The decided tokens that are masked again."""

    tokens: Tensor
    """(B, N) bool."""
    counts: list[int]
    """Number of these tokens in each image."""


def hide_least_certain(
    share: float, certainty: Tensor, totals: Sequence[int], left: Sequence[int]
) -> Hidden:
    """Choose the decided tokens with the lowest certainty.

    Args:
        share: share of the decided tokens to choose, in [0, 1]; the number is rounded down.
        certainty: (B, N) ``mean_k |2 p_k - 1|`` of each decided token, and NaN for tokens that are
            masked or were given, which are not chosen. Ties go to the lower index.
        totals: number of tokens of each image that were masked at first.
        left: number of tokens of each image that are masked now.
    """
    counts = [int(share * (total - masked)) for total, masked in zip(totals, left, strict=True)]
    is_decided = certainty.isnan().logical_not()
    wanted = torch.tensor(counts, device=certainty.device)
    return Hidden(highest(-certainty, is_decided, wanted), counts)
