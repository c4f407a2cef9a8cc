"""PatchGAN discriminator (pix2pix, arXiv 1611.07004), as the B-AE's GAN loss uses it."""

from __future__ import annotations

import dataclasses

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from bigr.models.config import check_positive_ints


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Sizes of the discriminator.

    Args:
        base_channels: channels of the first layer; they double per layer, up to 8 times.
        num_layers: strided layers.
        sync_batch_norm: whether BatchNorm takes its statistics over the batches of all processes.
    """

    base_channels: int = 64
    num_layers: int = 3
    sync_batch_norm: bool = True

    def __post_init__(self) -> None:
        check_positive_ints(self, "base_channels", "num_layers")


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes, on any device and backend.

    (``torch.nn.SyncBatchNorm`` refuses the CPU.) In one process it is BatchNorm itself.
    """

    def forward(self, input: Tensor) -> Tensor:  # the base class's name
        """(B, C, H, W), normalised per channel."""
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return super().forward(input)
        if dist.get_world_size() == 1:
            return super().forward(input)
        values = input.float()
        number = values.numel() / values.shape[1]
        sums = torch.cat(
            [
                values.sum(dim=(0, 2, 3)),
                values.square().sum(dim=(0, 2, 3)),
                values.new_full((1,), number),
            ]
        )
        sums = all_reduce(sums)  # its gradient is summed over the processes, too
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
    """Real/fake logits per patch: 4x4 convolutions, BatchNorm, LeakyReLU 0.2."""

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
        """(B, 3, H, W) to patch logits (B, 1, h, w)."""
        logits: Tensor = self.layers(images)
        return logits


def _leaky_relu() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.2, inplace=True)
