"""Features of any network of the package ``timm``; those of DINOv2 are compared by FD-DINOv2."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from bigr.checkpoints.cached import find_cached
from bigr.checkpoints.published import DINOV2
from bigr.data.files import check_regular, sha256
from bigr.metrics.features import Features, exact_float32
from bigr.schema import did_you_mean

DINOV2_NETWORK = "vit_large_patch14_dinov2.lvd142m"
DINOV2_SIZE = 224
DINOV2_OFFSET = 0.1
"""What DINOv2's code adds to the number of patches when it resizes their position embeddings."""


class TimmNetwork:
    """Pooled features of a network of ``timm``, computed in float32.

    Images are resized bicubically with antialiasing, in floating point like Pillow's mode F, and
    normalised as the network expects. ``dinov2`` is DINOv2's ViT-L/14 at 224 pixels, whose class
    token Stein et al. (NeurIPS 2023, arXiv 2306.04675) compare.

    Args:
        name: ``dinov2``, or the name of a network such as ``resnet50.a1_in1k``.
        weights: file of weights (``.safetensors``, ``.pth`` or ``.bin``); None looks for those of
            ``dinov2`` in torch's hub cache. Nothing is downloaded.
        weights_sha256: beginning of the SHA-256 checksum that the file must have; None accepts
            any, except for ``dinov2`` in the cache.

    Raises:
        CachedFileError: if the weights are missing or have another checksum.
        ValueError: if there is no such network, or the weights do not fit.
    """

    def __init__(
        self, name: str, weights: str | None = None, weights_sha256: str | None = None
    ) -> None:
        is_dinov2 = name == "dinov2"
        network = DINOV2_NETWORK if is_dinov2 else name
        config = _pretrained_config(network)
        path = _weights_path(name, weights, weights_sha256)
        self.title = "DINOv2 ViT-L/14" if is_dinov2 else network
        self.prefix = re.sub(r"\W+", "_", name) + "_"
        self.size = DINOV2_SIZE if is_dinov2 else int(config.input_size[-1])
        self.network = _build(network, path, self.size if is_dinov2 else None)
        self.identity = f"{network} at {self.size} pixels, {sha256(path)}"
        self.mean = torch.tensor(config.mean)[:, None, None]
        self.std = torch.tensor(config.std)[:, None, None]
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> TimmNetwork:
        """Move the network to ``device`` and return it."""
        self.network.to(device)
        self.device, self.mean, self.std = device, self.mean.to(device), self.std.to(device)
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Compute the features of uint8 images (B, 3, H, W), on the device of the network."""
        with exact_float32(self.device):
            x = resize(images.to(self.device).float() / 255, self.size)
            return Features(self.network((x - self.mean) / self.std).float())


def resize(images: Tensor, size: int) -> Tensor:
    """Resize images (B, 3, H, W) in [0, 1] bicubically to squares; values may leave [0, 1]."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True, align_corners=False)


def position_embedding(embedding: Tensor, side: int) -> Tensor:
    """Resize DINOv2's position embedding to another number of patches, as its own code does.

    Args:
        embedding: (1, 1 + n * n, D) of the class token and n x n patches.
        side: number of patches per side of the result.
    """
    patches = embedding[:, 1:].unflatten(1, (int((embedding.shape[1] - 1) ** 0.5), -1))
    scale = (side + DINOV2_OFFSET) / patches.shape[1]
    resized = F.interpolate(patches.permute(0, 3, 1, 2), scale_factor=scale, mode="bicubic")
    return torch.cat([embedding[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def _pretrained_config(name: str) -> Any:
    """Return what timm knows about a network."""
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ValueError(
            f"evaluation.network={name} needs the package timm: pip install 'bigr-lightning[timm]'."
        ) from error
    config = timm.models.get_pretrained_cfg(name) if timm.models.is_model(name) else None
    if config is None:
        known = ["inception", "digits", "own", "dinov2", *timm.list_models(pretrained=True)]
        raise ValueError(
            f"evaluation.network={name}: there is no such network, neither here nor in timm."
            f"{did_you_mean(name, known)}"
        )
    return config


def _weights_path(name: str, weights: str | None, checksum: str | None) -> Path:
    """Return the file of the weights, after comparing its checksum."""
    if name == "dinov2" and (weights is None or checksum is None):
        return find_cached(DINOV2, weights)
    if weights is None:
        raise ValueError(
            f"evaluation.network={name} needs evaluation.weights=…, a file such as the "
            "model.safetensors of https://huggingface.co/timm."
        )
    path = Path(weights).expanduser()
    if not path.exists():
        raise ValueError(f"evaluation.weights={weights}: there is no such file.")
    found = sha256(check_regular(path))
    if not found.startswith(checksum or ""):
        raise ValueError(
            f"evaluation.weights={weights} has the SHA-256 checksum {found}, which does not begin "
            f"with evaluation.weights_sha256={checksum}."
        )
    return path


def _build(name: str, path: Path, image_size: int | None) -> Any:
    """Return the network with the weights in a file, without its classifier."""
    import timm

    size: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        if image_size is not None:
            side = image_size // weights["patch_embed.proj.weight"].shape[-1]
            weights["pos_embed"] = position_embedding(weights["pos_embed"].float(), side)
        # timm only insists on all weights as long as the network has its own classifier.
        network: Any = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay={"state_dict": weights}, **size
        )
        network.reset_classifier(0)
    except Exception as error:  # damaged files and other architectures raise many kinds of errors
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"evaluation.weights={path} are not weights of {name} ({reason})."
        ) from error
    return network.eval().requires_grad_(False)
