"""LPIPS (arXiv 1801.03924) with VGG16, torchmetrics' implementation, its weights checked."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

VGG_FILE = "vgg16-397923af.pth"
VGG_HASH = "397923af"
VGG_URL = f"https://download.pytorch.org/models/{VGG_FILE}"


class PerceptualFileError(ValueError):
    """The VGG16 weights are missing or wrong; says which file and where it belongs."""


def vgg_file(given: str | None = None) -> Path:
    """Where the weights of VGG16 are.

    Args:
        given: a file; None is torch's hub cache.

    Raises:
        PerceptualFileError: if it isn't there, or isn't that file. Nothing is downloaded.
    """
    path = Path(given) if given else Path(torch.hub.get_dir()) / "checkpoints" / VGG_FILE
    if not path.is_file():
        raise PerceptualFileError(
            f"LPIPS needs VGG16's weights, and there is no {path}: get {VGG_URL} and put it there, "
            "or name it in perceptual_file=…."
        )
    if not _sha256(path).startswith(VGG_HASH):
        raise PerceptualFileError(
            f"{path} isn't {VGG_FILE}: its SHA-256 must start with {VGG_HASH}. Get it again."
        )
    return path


def load_lpips(given: str | None = None) -> nn.Module:
    """The LPIPS network, frozen; called as ``net(x, y, normalize=True)`` on images in [0, 1].

    Args:
        given: see :func:`vgg_file`.

    Returns:
        A module whose value is (B, 1, 1, 1).

    Raises:
        PerceptualFileError: as :func:`vgg_file`.
    """
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    path = vgg_file(given)
    before = torch.hub.get_dir()
    # The library looks for its weights in the hub's cache alone.
    folder = Path(tempfile.mkdtemp(prefix="bigr-hub-"))
    try:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / VGG_FILE).symlink_to(path.resolve())
        torch.hub.set_dir(str(folder))
        metric: Any = LearnedPerceptualImagePatchSimilarity(net_type="vgg")
    finally:
        torch.hub.set_dir(before)
        shutil.rmtree(folder)
    net: nn.Module = metric.net
    return net.requires_grad_(False).eval()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()
