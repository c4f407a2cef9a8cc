"""The discriminator: its shape, its statistics over processes, and its initial weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from bigr.models.discriminator import DiscriminatorConfig, PatchDiscriminator, SyncedBatchNorm2d
from tests.processes import spawn


def test_patches() -> None:
    """Three layers of stride 2 and two of stride 1, 4x4 kernels: 256 pixels make 30x30 patches."""
    critic = PatchDiscriminator(DiscriminatorConfig(base_channels=4))
    assert critic(torch.rand(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    widths = [layer.out_channels for layer in critic.layers if isinstance(layer, nn.Conv2d)]
    assert widths == [4, 8, 16, 32, 1]
    critic.eval()
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    critic(image)[0, 0, 3, 3].backward()
    assert image.grad is not None
    seen = image.grad.abs().sum(dim=(0, 1)).nonzero()
    assert (seen.max(dim=0).values - seen.min(dim=0).values + 1 <= 70).all()  # the 70x70 PatchGAN


def test_initial_weights() -> None:
    critic = PatchDiscriminator(DiscriminatorConfig(base_channels=32))
    convolution, norm = critic.layers[5], critic.layers[6]
    assert convolution.weight.std().item() == pytest.approx(0.02, rel=0.05)  # type: ignore[operator, union-attr]
    assert norm.weight.mean().item() == pytest.approx(1, abs=0.01)  # type: ignore[operator, union-attr]


def test_wrong_sizes() -> None:
    with pytest.raises(ValueError, match=r"DiscriminatorConfig\.num_layers must be a positive int"):
        DiscriminatorConfig(num_layers=0)


def passed(norm: nn.Module, images: Tensor) -> Tensor:
    """Output of ``norm``, and gradient of a function of it, joined."""
    images = images.clone().requires_grad_()
    output = norm(images)
    (output * torch.linspace(0, 1, output.shape[-1])).square().sum().backward()
    assert images.grad is not None
    return torch.cat([output.detach(), images.grad])


def share(rank: int, folder: str, images: Tensor) -> None:
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    norm = SyncedBatchNorm2d(3)
    torch.save(
        (passed(norm, images[rank * 4 : rank * 4 + 4]), norm.state_dict()), f"{folder}/{rank}"
    )
    dist.destroy_process_group()


def test_two_processes_equal_one_batch(tmp_path: Path) -> None:
    """Outputs, gradients and running statistics are those of torch on both batches together."""
    images = torch.randn(8, 3, 5, 5) * 3 + 1
    spawn(share, str(tmp_path), images, count=2)
    norm = nn.BatchNorm2d(3)
    outputs, gradients = passed(norm, images).chunk(2)
    for rank in range(2):
        found, state = torch.load(tmp_path / str(rank), weights_only=True)
        part = slice(rank * 4, rank * 4 + 4)
        torch.testing.assert_close(found[:4], outputs[part], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[4:], gradients[part], rtol=1e-3, atol=1e-4)
        for name, value in norm.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6)


def test_one_process_equals_batch_norm() -> None:
    images = torch.randn(8, 3, 5, 5)
    assert torch.equal(passed(SyncedBatchNorm2d(3), images), passed(nn.BatchNorm2d(3), images))
