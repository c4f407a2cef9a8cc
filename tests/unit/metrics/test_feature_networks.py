"""Inception's features against its own modules called one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from bigr.checkpoints.cached import CachedFileError
from bigr.metrics.feature_networks import InceptionNetwork, load_network


def crops(count: int, side: int = 64) -> Tensor:
    """Real pixels: crops of scikit-learn's photographs, (count, 3, side, side) uint8."""
    photographs = [torch.from_numpy(i.copy()).permute(2, 0, 1) for i in load_sample_images().images]
    places = torch.Generator().manual_seed(0)
    found = []
    for index in range(count):
        picture = photographs[index % 2]
        top, left = (
            int(torch.randint(length - side, (), generator=places)) for length in picture.shape[1:]
        )
        found.append(picture[:, top : top + side, left : left + side])
    return torch.stack(found)


def test_inception(random_inception: Path) -> None:
    images = crops(3)
    network = InceptionNetwork(str(random_inception))
    features = network(images)
    plain = FeatureExtractorInceptionV3("plain", ["2048", "logits_unbiased"], str(random_inception))
    pool, logits = plain(images)
    assert torch.equal(features.pool, pool)
    assert torch.equal(features.logits, logits)
    x = interpolate_bilinear_2d_like_tensorflow1x(
        images.float(), size=(299, 299), align_corners=False
    )
    x = (x - 128) / 128
    for name in (
        *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1"),
        *("Conv2d_4a_3x3", "MaxPool_2", "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a"),
        *("Mixed_6b", "Mixed_6c"),
    ):
        x = getattr(plain, name)(x)
    branch = plain.Mixed_6d.branch1x1
    spatial = torch.relu(branch.bn(branch.conv(x)))
    assert features.spatial is not None
    assert features.spatial.shape == (3, 2023)
    for channel, row, column in ((0, 0, 0), (6, 0, 1), (3, 16, 16), (5, 7, 2)):
        found = features.spatial[:, (row * 17 + column) * 7 + channel]
        torch.testing.assert_close(found, spatial[:, channel, row, column], rtol=1e-5, atol=1e-6)
    assert features.spatial.std() > 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        assert network(images).pool.dtype == torch.float32
        assert torch.equal(network(images).pool, pool)


def test_unknown_network() -> None:
    with pytest.raises(ValueError, match=r"evaluation\.network=clip: there is no such network"):
        load_network("clip")


def test_missing_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CachedFileError, match=r"FID needs weights-inception.*inception_file=…"):
        load_network("inception")


def test_precision_settings_are_restored(random_inception: Path) -> None:
    network = InceptionNetwork(str(random_inception))
    torch.backends.cudnn.allow_tf32 = True
    seen = []
    network.network.register_forward_pre_hook(
        lambda *_: seen.append((torch.backends.cudnn.allow_tf32, torch.is_autocast_enabled("cpu")))
    )
    with torch.autocast("cpu", torch.bfloat16):
        network(crops(1))
        assert torch.is_autocast_enabled("cpu")
    assert seen == [(False, False)]
    assert torch.backends.cudnn.allow_tf32
