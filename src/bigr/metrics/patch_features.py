"""Features of every token of an image by frozen encoders, which training can align with.

Shapes: B images, C width of the features; a grid has ``side`` x ``side`` tokens, in raster order.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from bigr.metrics.digit_classifier import HIDDEN_UNITS, DigitFeatureNetwork
from bigr.metrics.features import exact_float32
from bigr.metrics.timm_network import TimmNetwork, resize


class PatchEncoder(Protocol):
    """A frozen network that describes every token of an image."""

    dim: int
    """Width C of the features."""
    identity: str
    """Text that changes with the weights, and distinguishes codes with different features."""

    def to(self, device: torch.device) -> PatchEncoder:
        """Move the network to ``device`` and return it."""

    def __call__(self, images: Tensor, side: int) -> Tensor:
        """Return the features (B, side * side, C) of images (B, 3, H, W) in [0, 1]."""


class TimmPatches:
    """The patch tokens or the last feature map of a network of ``timm``, resized to the grid.

    Args:
        name: ``dinov2``, or the name of a network such as ``vit_base_patch14_dinov2.lvd142m``.
        weights: see :class:`~bigr.metrics.timm_network.TimmNetwork`.
        weights_sha256: see :class:`~bigr.metrics.timm_network.TimmNetwork`.

    Raises:
        ValueError: if there is no such network, or the weights are missing or do not fit.
    """

    def __init__(
        self, name: str, weights: str | None = None, weights_sha256: str | None = None
    ) -> None:
        try:
            self.base = TimmNetwork(name, weights, weights_sha256)
        except ValueError as error:
            message = str(error).replace("evaluation.network", "features.name")
            raise type(error)(message.replace("evaluation.", "features.")) from error
        self.dim = int(self.base.network.num_features)
        self.identity = self.base.identity

    def to(self, device: torch.device) -> TimmPatches:
        """Move the network to ``device`` and return it."""
        self.base.to(device)
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor, side: int) -> Tensor:
        """Return the features (B, side * side, C) of images (B, 3, H, W) in [0, 1]."""
        base = self.base
        with exact_float32(base.device):
            x = resize(images.to(base.device).float(), base.size)
            found: Tensor = base.network.forward_features((x - base.mean) / base.std).float()
        if found.ndim == 3:  # a transformer: tokens, after those that are no patches
            tokens = found[:, getattr(base.network, "num_prefix_tokens", 0) :]
            found = tokens.unflatten(1, (int(tokens.shape[1] ** 0.5), -1)).permute(0, 3, 1, 2)
        elif getattr(base.network, "output_fmt", "NCHW") == "NHWC":
            found = found.permute(0, 3, 1, 2)
        if found.shape[-2:] != (side, side):
            found = F.interpolate(found, (side, side), mode="bilinear", antialias=True)
        return found.flatten(2).transpose(1, 2)


class DigitPatches:
    """The hidden layer of the classifier of digits, the same for every token of an image.

    It was trained with labels, and sees whole images. It is an example that needs no download.
    """

    dim = HIDDEN_UNITS

    def __init__(self) -> None:
        self.network = DigitFeatureNetwork()
        self.identity = self.network.identity

    def to(self, device: torch.device) -> DigitPatches:  # noqa: ARG002
        """Return the encoder unchanged; it is so small that it always runs on the CPU."""
        return self

    def __call__(self, images: Tensor, side: int) -> Tensor:
        """Return the features (B, side * side, C) of images (B, 3, H, W) in [0, 1]."""
        pooled = self.network((images * 255).round().byte()).pool
        return pooled[:, None].expand(-1, side**2, -1).to(images.device)
