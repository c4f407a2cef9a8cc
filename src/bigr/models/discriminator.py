"""PatchGAN discriminator (pix2pix, arXiv 1611.07004), as the B-AE's GAN loss uses it."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from bigr.models.config import check_positive_ints


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Sizes of the discriminator.

    Args:
        base_channels: channels of the first layer; they double per layer, up to 8 times.
        num_layers: strided layers.
    """

    base_channels: int = 64
    num_layers: int = 3

    def __post_init__(self) -> None:
        check_positive_ints(self, "base_channels", "num_layers")


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
                nn.BatchNorm2d(wider),
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
