"""The norm of the transformer, with adaptive layer normalisation (adaLN, DiT, arXiv 2212.09748)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Root mean square normalisation y = x / rms(x) * weight, with statistics in float32.

    With adaLN, the result is y * (1 + scale) + shift.
    """

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(
        self, x: Tensor, shift: Tensor | None = None, scale: Tensor | None = None
    ) -> Tensor:
        normed = F.rms_norm(x.float(), (x.shape[-1],), eps=self.eps).to(x.dtype) * self.weight
        if shift is None or scale is None:
            return normed
        return torch.addcmul(normed + shift, normed, scale)
