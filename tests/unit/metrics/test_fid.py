"""FID, against NumPy on the same features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bigr.checkpoints.cached import CachedFileError
from bigr.metrics.fid import load_fid, update_fid


def test_formula(random_inception: Path) -> None:
    fid = load_fid(str(random_inception))
    real, fake = torch.rand(2, 12, 3, 40, 40)
    fake = fake * 0.5
    for part in real.split(5):
        update_fid(fid, part, real=True)
    for part in fake.split(7):
        update_fid(fid, part, real=False)
    features = [
        fid.inception((images * 255).round().byte()).double().numpy() for images in (real, fake)
    ]
    # Of so few images the trace is the nuclear norm of the product of the centred features.
    centred = [(f - f.mean(0)) / (len(f) - 1) ** 0.5 for f in features]
    trace = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    expected = np.square(features[0].mean(0) - features[1].mean(0)).sum() - 2 * trace
    expected += sum(np.square(part).sum() for part in centred)
    assert expected > 0
    assert fid.compute().item() == pytest.approx(expected, rel=1e-3)


def test_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CachedFileError, match=r"FID needs weights-inception.*inception_file=…"):
        load_fid()
