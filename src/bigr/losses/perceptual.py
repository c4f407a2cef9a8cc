"""LPIPS (arXiv 1801.03924) with VGG16, torchmetrics' implementation, its weights checked."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bigr.checkpoints.cached import CachedFile, find_cached

VGG = CachedFile(
    name="vgg16-397923af.pth",
    hash="397923af",
    folder="https://download.pytorch.org/models",
    key="perceptual_file",
    purpose="LPIPS",
)


def load_lpips(given: str | None = None) -> nn.Module:
    """The LPIPS network, frozen; called as ``net(x, y, normalize=True)`` on images in [0, 1].

    Args:
        given: VGG16's weights; None is torch's hub cache.

    Returns:
        A module whose value is (B, 1, 1, 1).

    Raises:
        CachedFileError: if the weights are missing or wrong.
    """
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    path = find_cached(VGG, given)
    before = torch.hub.get_dir()
    # The library looks for its weights in the hub's cache alone.
    folder = Path(tempfile.mkdtemp(prefix="bigr-hub-"))
    try:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / VGG.name).symlink_to(path.resolve())
        torch.hub.set_dir(str(folder))
        metric: Any = LearnedPerceptualImagePatchSimilarity(net_type="vgg")
    finally:
        torch.hub.set_dir(before)
        shutil.rmtree(folder)
    net: nn.Module = metric.net
    return net.requires_grad_(False).eval()
