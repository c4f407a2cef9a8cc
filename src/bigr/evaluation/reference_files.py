"""Files of reference statistics with the names of ADM's suite, and checks of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bigr.data.array_files import Arrays, read_arrays, write_arrays
from bigr.data.sealed_json import DamagedFileError
from bigr.metrics.statistics import Reference

TOLERANCE = 1e-6
"""Accepted asymmetry and negative eigenvalues of a covariance, as a share of its trace."""
PAIRS = {"mu": "sigma", "mu_s": "sigma_s"}
"""Names of the means in a file, and of their covariances."""
ARRAYS = {
    "mu": "mean",
    "sigma": "covariance",
    "mu_s": "spatial_mean",
    "sigma_s": "spatial_covariance",
    "points": "points",
}
"""Names of the arrays in a file, and the fields of a :class:`Reference`."""


def read_reference(path: Path, *, needs_checksum: bool = True) -> Reference:
    """Read a file of :func:`write_reference`.

    Args:
        path: the file.
        needs_checksum: whether files without checksums, from earlier versions, raise an error.

    Raises:
        DamagedFileError: if the file is missing or damaged, or does not contain statistics.
    """
    return reference_from(path, *read_arrays(path, needs_checksum=needs_checksum))


def write_reference(reference: Reference, path: Path) -> None:
    """Write the statistics under ADM's names, with their checksums and the identity."""
    found = {name: getattr(reference, field) for name, field in ARRAYS.items()}
    arrays = {name: value.numpy() for name, value in found.items() if value is not None}
    write_arrays(path, arrays, reference.identity)


def check_statistics(reference: Reference) -> None:
    """Raise ``ValueError`` unless these can be the statistics of features.

    All values must be finite, and the covariances symmetric and positive semi-definite, up to
    ``TOLERANCE`` times their trace. The message names the array as it is called in a file.
    """
    found = {name: getattr(reference, field) for name, field in ARRAYS.items()}
    arrays: dict[str, Tensor] = {name: array for name, array in found.items() if array is not None}
    for name, array in arrays.items():
        if not array.isfinite().all():
            raise ValueError(f"{name} contains NaN or infinity")
    for mean, covariance in PAIRS.items():
        shapes = [tuple(arrays[name].shape) for name in (mean, covariance) if name in arrays]
        if not shapes:
            continue
        size = shapes[0]
        if len(size) != 1 or size == (0,) or shapes != [size, size * 2]:
            raise ValueError(f"{mean} and {covariance} do not fit, with shapes {shapes}")
        _check_covariance(covariance, arrays[covariance].double())
    points = arrays.get("points")
    if points is not None and points.shape[1:] != reference.mean.shape:
        raise ValueError(f"points of shape {tuple(points.shape)} do not fit mu")


def _check_covariance(name: str, covariance: Tensor) -> None:
    margin = TOLERANCE * covariance.trace()
    if not 0 <= margin < torch.inf:
        raise ValueError(f"{name} has the trace {float(covariance.trace()):.3g}")
    if (covariance - covariance.T).abs().max() > margin:
        raise ValueError(f"{name} is not symmetric")
    # C + m I has a Cholesky decomposition if and only if all eigenvalues of C are above -m.
    shifted = covariance.clone()
    shifted.diagonal().add_(margin.clamp_min(torch.finfo(torch.float64).tiny))
    if torch.linalg.cholesky_ex(shifted).info:
        raise ValueError(f"{name} is not positive semi-definite")


def reference_from(path: Path, arrays: Arrays, identity: dict[str, Any]) -> Reference:
    """Return the statistics in the arrays of a file, after checking them.

    Args:
        path: the file, for the message.
        arrays: arrays by ADM's names, as in :data:`ARRAYS`.
        identity: what the file says about itself.

    Raises:
        DamagedFileError: if these are no valid statistics.
    """
    try:
        missing = [name for name in ("mu", "sigma") if name not in arrays]
        unknown = [name for name in arrays if name not in ARRAYS]
        if missing or unknown:
            problem = f"there is no {missing[0]}" if missing else f"{unknown[0]} is unknown"
            raise ValueError(problem)
        for name, array in arrays.items():
            if not np.issubdtype(array.dtype, np.floating):
                raise ValueError(f"{name} has the type {array.dtype} instead of floats")
        fields = {ARRAYS[name]: torch.from_numpy(array) for name, array in arrays.items()}
        reference = Reference(**fields, identity=identity)
        check_statistics(reference)
    except (ValueError, TypeError) as error:
        raise DamagedFileError(f"{path} holds no valid statistics: {error}") from error
    return reference
