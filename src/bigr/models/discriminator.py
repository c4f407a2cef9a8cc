"""PatchGAN discriminator (pix2pix, arXiv 1611.07004) for the adversarial loss of the B-AE."""

from __future__ import annotations

import dataclasses

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from bigr.schema import PositiveInt, check_fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Configuration of the discriminator.

    Args:
        base_channels: channels of the first layer; each layer doubles them, up to a factor of 8.
        num_layers: number of strided layers.
        sync_batch_norm: whether BatchNorm uses the statistics of the batches of all processes.
    """

    base_channels: PositiveInt = 64
    num_layers: PositiveInt = 3
    sync_batch_norm: bool = True

    def __post_init__(self) -> None:
        check_fields(self)


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm with the statistics of all processes, on any device and backend.

    ``torch.nn.SyncBatchNorm`` does not support the CPU. With one process, this class equals
    ``torch.nn.BatchNorm2d``.
    """

    def forward(self, input: Tensor) -> Tensor:  # named like in the base class
        """Normalise each channel of ``input`` (B, C, H, W)."""
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return super().forward(input)
        if dist.get_world_size() == 1:
            return super().forward(input)
        values = input.float()
        number = values.numel() / values.shape[1]
        sums = [values.sum(dim=(0, 2, 3)), values.square().sum(dim=(0, 2, 3))]
        sums = all_reduce(torch.cat([*sums, values.new_full((1,), number)]))  # differentiable
        count = sums[-1]
        mean, square = (sums[:-1] / count).chunk(2)
        variance = square - mean.square()
        self._update_running(mean.detach(), variance.detach(), count.detach())
        scale = (variance + self.eps).rsqrt() * self.weight
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        momentum = 0.1 if self.momentum is None else self.momentum
        if self.running_mean is None or self.running_var is None:
            return
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class PatchDiscriminator(nn.Module):
    """Computes a real/fake logit per patch with 4x4 convolutions, BatchNorm and LeakyReLU 0.2."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.base_channels
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), _leaky_relu()]
        for index in range(1, config.num_layers + 1):
            wider = config.base_channels * min(2**index, 8)
            stride = 2 if index < config.num_layers else 1
            layers += [
                nn.Conv2d(channels, wider, 4, stride=stride, padding=1, bias=False),
                SyncedBatchNorm2d(wider) if config.sync_batch_norm else nn.BatchNorm2d(wider),
                _leaky_relu(),
            ]
            channels = wider
        layers.append(nn.Conv2d(channels, 1, 4, stride=1, padding=1))
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (B, 1, h, w) of images (B, 3, H, W); positive means real."""
        logits: Tensor = self.layers(images)
        return logits


def _leaky_relu() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.2, inplace=True)
