"""Kernel Inception distance (Binkowski et al., ICLR 2018, arXiv 1801.01401), by torch-fidelity."""

from __future__ import annotations

from torch import Tensor

from bigr.metrics.features import check_finite

SUBSETS = 100
SUBSET_SIZE = 1000
SEED = 2020


def kernel_distance(generated: Tensor, real: Tensor) -> float:
    """Compute the mean unbiased MMD^2 with kernel (x.y / D + 1)^3 over 100 random subsets.

    Args:
        generated: (n, D) features.
        real: (m, D) features. Subsets have 1,000 images, or min(n, m) if that is less.

    Raises:
        ValueError: if a side has fewer than two images, or a feature is not finite.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    size = min(SUBSET_SIZE, len(generated), len(real))
    if size < 2:
        raise ValueError(f"a kernel distance needs at least 2 images on each side, got {size}.")
    check_finite(generated, "the generated features")
    check_finite(real, "the real features")
    metrics = kid_features_to_metric(
        generated.double().cpu(),
        real.double().cpu(),
        kid_subsets=SUBSETS,
        kid_subset_size=size,
        rng_seed=SEED,
        verbose=False,
    )
    return float(metrics[KEY_METRIC_KID_MEAN])
