"""Networks whose features are compared: Inception, which defines FID, and others by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bigr.checkpoints.cached import find_cached
from bigr.checkpoints.published import INCEPTION
from bigr.data.files import sha256
from bigr.metrics.digit_classifier import DigitFeatureNetwork
from bigr.metrics.features import FeatureNetwork, Features, exact_float32
from bigr.metrics.timm_network import TimmNetwork

SPATIAL_CHANNELS = 7
"""Number of channels of TensorFlow's ``mixed_6/conv`` that ADM's sFID uses."""


class InceptionNetwork:
    """Inception features as in ADM's evaluation suite (arXiv 2105.05233), by torch-fidelity.

    ``pool`` are the 2,048 pool features. ``spatial`` are the first 7 channels of ``mixed_6/conv``
    (the ReLU output of ``Mixed_6d.branch1x1``), flattened from (17, 17, 7) to 2,023 features.
    ``logits`` has 1,008 classes. Images are resized to 299 pixels like TensorFlow 1 does, and
    everything is computed in float32, also within autocast.

    Args:
        weights: path of the weights; None looks in torch's hub cache. The checksum is verified.

    Raises:
        CachedFileError: if the weights are missing or have another checksum.
    """

    prefix = ""
    title = "Inception (TensorFlow, 2015)"

    def __init__(self, weights: str | None = None) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        path = find_cached(INCEPTION, weights)
        self.identity = sha256(path)
        self._spatial: list[Tensor] = []
        self.network: Any = FeatureExtractorInceptionV3(
            "inception", ["2048", "logits_unbiased"], str(path)
        )
        self.network.Mixed_6d.branch1x1.register_forward_hook(self._keep_spatial)
        self.device = torch.device("cpu")

    def _keep_spatial(self, _module: Any, _inputs: Any, output: Tensor) -> None:
        self._spatial.append(output[:, :SPATIAL_CHANNELS])

    def to(self, device: torch.device) -> InceptionNetwork:
        """Move the network to ``device`` and return it."""
        self.network.to(device)
        self.device = device
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Compute the features of uint8 images (B, 3, H, W), on the device of the network."""
        with exact_float32(self.device):
            pool, logits = self.network(images.to(self.device))
        spatial = self._spatial.pop().permute(0, 2, 3, 1).flatten(1)
        return Features(pool, logits, spatial)


def load_network(
    name: str, weights: str | None = None, weights_sha256: str | None = None
) -> FeatureNetwork:
    """Load a feature network on the CPU.

    Args:
        name: ``inception``, ``digits``, ``dinov2`` or the name of a network of the package timm.
        weights: file of the weights; None looks in torch's hub cache. ``digits`` needs none.
        weights_sha256: beginning of the checksum of the weights of a network of timm.

    Raises:
        ValueError: if the name is unknown.
        CachedFileError: if the weights are missing or have another checksum.
    """
    if name == "inception":
        return InceptionNetwork(weights)
    return DigitFeatureNetwork() if name == "digits" else TimmNetwork(name, weights, weights_sha256)
