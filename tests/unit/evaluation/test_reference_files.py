"""Files of statistics; tests/unit/evaluation/test_references.py has what they are used for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bigr.data.sealed_json import DamagedFileError
from bigr.evaluation.reference_files import (
    TOLERANCE,
    check_statistics,
    read_reference,
    reference_from,
    write_reference,
)
from bigr.metrics.statistics import Reference


def some_reference() -> Reference:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 5)))
    return Reference(x.mean(0), x.T.cov(), points=x.float(), identity={"count": 20})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    before, path = some_reference(), tmp_path / "reference.npz"
    write_reference(before, path)
    after = read_reference(path)
    assert after.identity == before.identity
    assert after.spatial_mean is None
    for name in ("mean", "covariance", "points"):
        assert torch.equal(getattr(after, name), getattr(before, name)), name
    data = bytearray(path.read_bytes())
    data[data.index(before.mean.numpy().tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match=r"reference\.npz is damaged"):
        read_reference(path)


@pytest.mark.parametrize(("share", "is_accepted"), [(-0.9, True), (-1.1, False), (0.5, True)])
def test_the_smallest_eigenvalue_decides(share: float, is_accepted: bool) -> None:
    """It may be negative by the tolerance times the trace, as rounding makes it."""
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    values = np.array([1.0, 2.0, 3.0, 0.0])
    values[3] = share * TOLERANCE * values.sum()
    covariance = (basis * values) @ basis.T
    covariance = (covariance + covariance.T) / 2
    assert np.linalg.eigvalsh(covariance)[0] == pytest.approx(values[3], rel=1e-3)
    reference = Reference(torch.zeros(4), torch.from_numpy(covariance), identity={})
    if is_accepted:
        check_statistics(reference)
    else:
        with pytest.raises(ValueError, match="sigma is not positive semi-definite"):
            check_statistics(reference)


@pytest.mark.parametrize(
    ("names", "message"),
    [(("mu",), "there is no sigma"), (("mu", "sigma", "arr_1"), "arr_1 is unknown")],
)
def test_arrays_that_are_no_statistics(names: tuple[str, ...], message: str) -> None:
    arrays = {name: np.eye(3) for name in names}
    with pytest.raises(DamagedFileError, match=f"given.npz holds no valid statistics: {message}"):
        reference_from(Path("given.npz"), arrays, {})
