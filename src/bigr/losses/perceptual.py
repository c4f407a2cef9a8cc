"""LPIPS (arXiv 1801.03924) with VGG16: torchmetrics' implementation with verified weights."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bigr.checkpoints.cached import find_cached
from bigr.checkpoints.published import VGG


def load_lpips(given: str | None = None) -> nn.Module:
    """Load the frozen LPIPS network.

    Args:
        given: path of the weights of VGG16; None looks in torch's hub cache.

    Returns:
        A module that is called as ``net(x, y, normalize=True)`` with images (B, 3, H, W) in [0, 1]
        and returns (B, 1, 1, 1).

    Raises:
        CachedFileError: if the weights are missing or have another checksum.
    """
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    path = find_cached(VGG, given)
    before = torch.hub.get_dir()
    # torchmetrics reads its weights from the hub cache only, so a temporary one links to the file.
    with tempfile.TemporaryDirectory(prefix="bigr-hub-") as folder:
        link = Path(folder) / "checkpoints" / VGG.name
        link.parent.mkdir()
        link.symlink_to(path.resolve())
        try:
            torch.hub.set_dir(folder)
            metric: Any = LearnedPerceptualImagePatchSimilarity(net_type="vgg")
        finally:
            torch.hub.set_dir(before)
    net: nn.Module = metric.net
    return net.requires_grad_(False).eval()
