"""FID, against SciPy on the same features."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch_fidelity import feature_extractor_inceptionv3 as inception

from bigr.checkpoints.cached import CachedFileError
from bigr.metrics import fid as module
from bigr.metrics.fid import INCEPTION, load_fid, update_fid


@pytest.fixture
def random_inception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Inception with drawn weights in place of the published ones."""
    network = inception.FeatureExtractorInceptionV3
    with monkeypatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(network, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        fresh = network("inception", ["2048"])
    path = tmp_path / "inception.pth"
    torch.save(fresh.state_dict(), path)
    monkeypatch.setattr(module, "INCEPTION", INCEPTION._replace(hash=""))
    yield path
    path.unlink()


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
    means = [f.mean(0) for f in features]
    covariances = [np.cov(f, rowvar=False) for f in features]
    root = sqrtm(covariances[0] @ covariances[1])
    expected = np.square(means[0] - means[1]).sum() + np.trace(
        covariances[0] + covariances[1] - 2 * np.real(root)
    )
    assert expected > 0
    assert fid.compute().item() == pytest.approx(expected, rel=1e-3)


def test_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CachedFileError, match=r"FID needs weights-inception.*inception_file=…"):
        load_fid()
