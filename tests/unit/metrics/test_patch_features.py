"""Features of tokens against the networks called by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from bigr.checkpoints.cached import CachedFileError
from bigr.data.digits import load_digits
from bigr.metrics.digit_classifier import DigitFeatureNetwork
from bigr.metrics.patch_features import DigitPatches, TimmPatches

timm = pytest.importorskip("timm", reason="the package timm is not installed")


@pytest.mark.parametrize("name", ["test_vit.r160_in1k", "test_resnet.r160_in1k"])
def test_features_of_timm(tmp_path: Path, name: str) -> None:
    """The patches of a transformer, without its class token, and the map of a convolution."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    encoder = TimmPatches(name, str(tmp_path / "model.safetensors"))
    images = torch.rand(2, 3, 160, 160)
    mean, std = (torch.tensor(model.pretrained_cfg[n])[:, None, None] for n in ("mean", "std"))
    with torch.no_grad():
        raw = model.forward_features((images - mean) / std)
    if raw.ndim == 3:
        assert raw.shape[1] == 1 + 10 * 10
        raw = raw[:, 1:].transpose(1, 2).reshape(2, -1, 10, 10)
    side = raw.shape[-1]
    found = encoder(images, side)
    assert found.shape == (2, side * side, encoder.dim)
    for row in range(side):
        for column in range(side):
            expected = raw[:, :, row, column]
            torch.testing.assert_close(
                found[:, row * side + column], expected, rtol=1e-3, atol=1e-4
            )
    # Another grid is interpolated, in the same order of rows and columns.
    resized = F.interpolate(raw, (3, 3), mode="bilinear", antialias=True)
    expected = torch.stack([resized[:, :, n // 3, n % 3] for n in range(9)], dim=1)
    torch.testing.assert_close(encoder(images, 3), expected, rtol=1e-3, atol=1e-4)
    assert name in encoder.identity


def test_features_of_digits() -> None:
    images = load_digits("test", 16).images[:5]
    encoder = DigitPatches()
    found = encoder(images, 4)
    assert found.shape == (5, 16, encoder.dim)
    expected = DigitFeatureNetwork()((images * 255).round().byte()).pool
    for token in range(16):
        assert torch.equal(found[:, token], expected)


def test_messages_name_the_keys_of_the_command() -> None:
    with pytest.raises(ValueError, match=r"^features\.name=no_such: there is no such network"):
        TimmPatches("no_such")
    with pytest.raises(
        ValueError, match=r"^features\.name=resnet18\.a1_in1k needs features\.weigh"
    ):
        TimmPatches("resnet18.a1_in1k")
    with pytest.raises(CachedFileError):
        TimmPatches("dinov2", "nowhere.safetensors")
