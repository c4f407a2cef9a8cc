"""Frechet distance between Gaussians: FID (arXiv 1706.08500) and, on spatial features, sFID."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

log = logging.getLogger(__name__)

TRACE_TOLERANCE = 1e-3
"""Relative difference of the two computations of the trace above which a warning is logged."""


def trace_of_root(first: Tensor, second: Tensor) -> Tensor:
    """Compute tr((A B)^(1/2)) of two covariances (D, D) from eigenvalues.

    With A = R R^T, the eigenvalues of A B are those of the symmetric matrix R^T B R. They are real
    and not negative even if the covariances are singular, so no matrix root, complex number or
    added offset is needed.
    """
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt()
    middle = root.T @ second @ root
    return torch.linalg.eigvalsh((middle + middle.T) / 2).clamp_min(0).sqrt().sum()


def frechet_distance(
    mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor
) -> float:
    """Compute ``|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))`` in float64.

    The trace of the root is computed from both sides and averaged. A warning is logged if the two
    values differ.

    Args:
        mean: m, (D,).
        covariance: C, (D, D), symmetric.
        other_mean: m', (D,).
        other_covariance: C', (D, D), symmetric.

    Raises:
        ValueError: if the shapes differ, or a value is NaN or infinite.
    """
    if mean.shape != other_mean.shape or covariance.shape != other_covariance.shape:
        raise ValueError(
            f"{len(mean)} features on one side and {len(other_mean)} on the other: they come from "
            "different networks."
        )
    parts = [part.double() for part in (mean, covariance, other_mean, other_covariance)]
    m, c, m_other, c_other = parts = [part.to(parts[0].device) for part in parts]
    if not all(bool(part.isfinite().all()) for part in parts):
        raise ValueError("a mean or covariance isn't finite: some features were NaN or infinite.")
    there, back = trace_of_root(c, c_other), trace_of_root(c_other, c)
    if (there - back).abs() > TRACE_TOLERANCE * there.clamp_min(1e-12):
        log.warning(
            "The Frechet distance is inaccurate: its trace is %.6g computed from one side and "
            "%.6g from the other.",
            float(there),
            float(back),
        )
    squared = (m - m_other).square().sum()
    return max(0.0, float(squared + c.trace() + c_other.trace() - (there + back)))
