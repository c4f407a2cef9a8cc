"""Features of timm's networks against their parts called one by one, with random weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.linalg import sqrtm
from torch import Tensor

from bigr.checkpoints.cached import CachedFileError
from bigr.metrics import timm_network
from bigr.metrics.feature_networks import load_network
from bigr.metrics.statistics import FeatureStatistics, Reference, compare
from bigr.metrics.timm_network import TimmNetwork, position_embedding

timm = pytest.importorskip("timm", reason="the package timm is not installed")
NAME = "test_vit.r160_in1k"
SMALL_DINOV2 = "vit_small_patch14_dinov2.lvd142m"


def random_images(count: int, side: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A network of 160 pixels with random weights, and its file."""
    torch.manual_seed(0)
    model = timm.create_model(NAME, pretrained=False).eval()
    path = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file(model.state_dict(), path)
    return path, model


def pillow_resize(image: Tensor, side: int) -> np.ndarray[Any, Any]:
    """Channel by channel in floating point, which clean-fid does, too."""
    channels = [Image.fromarray(channel.float().numpy(), mode="F") for channel in image]
    resized = [channel.resize((side, side), Image.Resampling.BICUBIC) for channel in channels]
    return np.stack([np.asarray(channel) for channel in resized]).astype(np.float64)


@pytest.mark.filterwarnings("ignore:'mode' parameter")
def test_features(tiny: tuple[Path, Any]) -> None:
    path, model = tiny
    network = load_network(NAME, str(path))
    images = random_images(3, 300)
    features = network(images)
    x = torch.from_numpy(np.stack([pillow_resize(image, 160) for image in images])) / 255
    mean, std = (torch.tensor(model.pretrained_cfg[name]) for name in ("mean", "std"))
    x = ((x - mean[:, None, None]) / std[:, None, None]).float()
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(x), pre_logits=True)
    torch.testing.assert_close(features.pool, expected, rtol=1e-4, atol=1e-5)
    assert features.pool.std() > 0.1
    assert features.logits is None
    assert network.prefix == "test_vit_r160_in1k_"
    assert network.title == NAME
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    assert network.identity == f"{NAME} at 160 pixels, {checksum}"


def test_the_distance_in_this_space(tiny: tuple[Path, Any]) -> None:
    """It equals a computation in float64 of the same features, and there is no score of classes."""
    network = TimmNetwork(NAME, str(tiny[0]))
    sides = [network(random_images(80, 20, seed)).pool for seed in (0, 1)]
    statistics = FeatureStatistics()
    statistics.update(network(random_images(80, 20, 0)))
    x, y = (side.double().numpy() for side in sides)
    covariances = [np.cov(side, rowvar=False) for side in (x, y)]
    root = np.real(sqrtm(covariances[0] @ covariances[1]))
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(sum(covariances) - 2 * root)
    real = Reference(torch.from_numpy(y.mean(0)), torch.from_numpy(covariances[1]))
    found = compare(statistics, real)
    assert found == {"fid": pytest.approx(expected, rel=1e-5)}


def cubic(distance: float) -> float:
    """PyTorch's kernel, with a = -0.75."""
    a, d = -0.75, abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def test_position_embedding_against_loops() -> None:
    """37 to 16 patches per side with DINOv2's offset, in both directions."""
    embedding = torch.randn(1, 1 + 37 * 37, 2, generator=torch.Generator().manual_seed(0))
    found = position_embedding(embedding, 16)
    assert found.shape == (1, 1 + 16 * 16, 2)
    assert torch.equal(found[:, 0], embedding[:, 0])
    grid = embedding[0, 1:].view(37, 37, 2)
    for row, column in ((0, 0), (7, 3), (15, 15)):
        places = [(index + 0.5) * 37 / 16.1 - 0.5 for index in (row, column)]
        value = torch.zeros(2)
        for i in range(int(np.floor(places[0])) - 1, int(np.floor(places[0])) + 3):
            for j in range(int(np.floor(places[1])) - 1, int(np.floor(places[1])) + 3):
                weight = cubic(places[0] - i) * cubic(places[1] - j)
                value += weight * grid[min(max(i, 0), 36), min(max(j, 0), 36)]
        torch.testing.assert_close(found[0, 1 + row * 16 + column], value, rtol=1e-4, atol=1e-4)


@pytest.fixture
def dinov2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights of the smallest network under DINOv2's own names, in torch's hub cache."""
    model = timm.create_model(SMALL_DINOV2, pretrained=False, num_classes=0)
    weights = {name.replace("norm_pre", "x"): value for name, value in model.state_dict().items()}
    weights["mask_token"] = torch.zeros(1, 384)
    path = tmp_path / "checkpoints" / timm_network.DINOV2.name
    path.parent.mkdir()
    torch.save(weights, path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(timm_network, "DINOV2_NETWORK", SMALL_DINOV2)
    return path


def test_dinov2(dinov2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CachedFileError, match="its SHA-256 checksum must start with d5383ea8f"):
        TimmNetwork("dinov2")
    checksum = hashlib.sha256(dinov2.read_bytes()).hexdigest()
    assert TimmNetwork("dinov2", str(dinov2), checksum[:8]).size == 224
    published = timm_network.DINOV2._replace(hash=checksum)
    monkeypatch.setattr(timm_network, "DINOV2", published)
    network = TimmNetwork("dinov2")
    assert (network.prefix, network.title) == ("dinov2_", "DINOv2 ViT-L/14")
    images = random_images(1, 224)
    features = network(images).pool
    assert features.shape == (1, 384)
    # The class token after the last norm, with the position embedding of 16 x 16 patches.
    weights = torch.load(dinov2, weights_only=True)
    expected = position_embedding(weights["pos_embed"], 16)
    torch.testing.assert_close(network.network.pos_embed, expected)
    x = (images.float() / 255 - network.mean) / network.std
    with torch.no_grad():
        tokens = network.network.forward_features(x)
    assert torch.equal(features, tokens[:, 0])


def test_networks_that_cannot_be_used(
    tmp_path: Path, tiny: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match=r"no such network.* Did you mean dinov2"):
        TimmNetwork("dinov")
    with pytest.raises(ValueError, match=f"{NAME} needs evaluation.weights=…"):
        TimmNetwork(NAME)
    with pytest.raises(CachedFileError, match=r"needs dinov2_vitl14_pretrain\.pth.*evaluation\.we"):
        TimmNetwork("dinov2")
    with pytest.raises(ValueError, match=r"evaluation\.weights=no\.pth: there is no such file"):
        TimmNetwork(NAME, "no.pth")
    with pytest.raises(ValueError, match=r"does not begin with evaluation\.weights_sha256=abc"):
        TimmNetwork(NAME, str(tiny[0]), "abc")
    with pytest.raises(ValueError, match="are not weights of test_resnet"):
        TimmNetwork("test_resnet.r160_in1k", str(tiny[0]))
    for name in ("bad.safetensors", "bad.pth"):
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(ValueError, match=rf"bad\.\w+ are not weights of {NAME}"):
            TimmNetwork(NAME, str(tmp_path / name))
