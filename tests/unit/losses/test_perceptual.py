"""LPIPS: wired right, and honest about its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from bigr.losses import perceptual
from bigr.losses.perceptual import VGG, load_lpips


@pytest.fixture(scope="module")
def random_vgg(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, nn.Module]]:
    """A VGG16 with drawn weights, small where LPIPS doesn't look."""
    torch.manual_seed(0)
    network = torchvision.models.vgg16(weights=None)
    path = tmp_path_factory.mktemp("vgg") / "vgg.pth"
    torch.save(network.state_dict(), path)
    yield path, network.features.eval()
    path.unlink()  # 550 MB


def test_lpips_is_the_formula(
    random_vgg: tuple[Path, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unit features of five layers, squared differences, the bundled weights, means."""
    path, features = random_vgg
    monkeypatch.setattr(perceptual, "VGG", VGG._replace(hash=""))
    hub = torch.hub.get_dir()
    network = load_lpips(str(path))
    assert torch.hub.get_dir() == hub
    x, y = torch.rand(2, 3, 3, 64, 64)
    y.requires_grad_()
    actual = network(x, y, normalize=True).flatten()
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
    a, b = ((image * 2 - 1 - shift) / scale for image in (x, y))
    expected = torch.zeros(3)
    taken = iter(range(5))
    for index, layer in enumerate(features):
        a, b = layer(a), layer(b)
        if index in (3, 8, 15, 22, 29):  # the last activation before each pooling
            one, other = (f / (f.square().sum(1, keepdim=True) + 1e-8).sqrt() for f in (a, b))
            weight = network.lins[next(taken)].model[-1].weight
            expected = expected + ((one - other).square() * weight).sum(1).mean((1, 2))
    assert torch.allclose(actual, expected, rtol=1e-4)
    assert all((layer.model[-1].weight >= 0).all() for layer in network.lins)  # type: ignore[union-attr]
    actual.sum().backward()
    assert y.grad is not None
    assert y.grad.abs().max() > 0
    assert not any(p.requires_grad for p in network.parameters())
