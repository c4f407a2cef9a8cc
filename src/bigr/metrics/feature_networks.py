"""Networks in whose feature space images are compared.

Shapes: B images (3, H, W).
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from bigr.checkpoints.cached import find_cached
from bigr.data.digits import load_digits, to_native
from bigr.data.files import sha256
from bigr.metrics.fid import INCEPTION, NUM_FEATURES

SPATIAL_CHANNELS = 7
"""Of TensorFlow's ``mixed_6/conv``, as ADM's sFID takes them."""


class Features(NamedTuple):
    """What a network says of B images, float32."""

    pool: Tensor
    """(B, D)."""
    logits: Tensor
    """(B, C), without the network's bias."""
    spatial: Tensor | None = None
    """(B, S), or None where there is no such thing."""


class FeatureNetwork(Protocol):
    """A fixed network."""

    prefix: str
    """Of the names of figures in its space: empty for Inception, whose FID is *the* FID."""
    title: str
    """For people."""
    identity: str
    """Changes with the weights."""

    def to(self, device: torch.device) -> FeatureNetwork:
        """Move it."""

    def __call__(self, images: Tensor) -> Features:
        """Features of uint8 images (B, 3, H, W) on the network's device."""


class InceptionNetwork:
    """TensorFlow's Inception of 2015, by torch-fidelity, as ADM's evaluation suite uses it.

    pool: the 2,048 pool features. spatial: the first 7 channels of ``mixed_6/conv`` (the ReLU
    output of ``Mixed_6d.branch1x1``), (17, 17, 7) flattened, 2,023 features. logits: 1,008.

    Args:
        weights: the weights' file; None is torch's hub cache. Its hash is checked.

    Raises:
        CachedFileError: if the weights are missing or wrong.
    """

    prefix = ""
    title = "Inception (TensorFlow, 2015)"

    def __init__(self, weights: str | None = None) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        path = find_cached(INCEPTION, weights)
        self.identity = sha256(path)
        self._spatial: list[Tensor] = []
        self.network: Any = FeatureExtractorInceptionV3(
            "inception", [str(NUM_FEATURES), "logits_unbiased"], str(path)
        )
        self.network.Mixed_6d.branch1x1.register_forward_hook(self._keep)
        self.device = torch.device("cpu")

    def _keep(self, _module: Any, _inputs: Any, output: Tensor) -> None:
        self._spatial.append(output[:, :SPATIAL_CHANNELS])

    def to(self, device: torch.device) -> InceptionNetwork:
        """Move it."""
        self.network.to(device)
        self.device = device
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """See :class:`FeatureNetwork`; in float32 whatever surrounds it."""
        with _exact_float32(self.device):
            pool, logits = self.network(images.to(self.device))
        spatial = self._spatial.pop().permute(0, 2, 3, 1).flatten(1)
        return Features(pool, logits, spatial)


class DigitsNetwork:
    """A small classifier of the real digits: scikit-learn's, one hidden layer of 64 units.

    pool: the hidden layer. logits: of the ten digits. It is fitted in a second, always the same.
    """

    prefix = "digits_"
    title = "digits classifier"
    hidden = 64

    def __init__(self) -> None:
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        train = load_digits("train", 16)
        classifier = MLPClassifier((self.hidden,), alpha=1e-2, max_iter=60, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(self._pixels(train.images).numpy(), train.labels.numpy())
        self.weights = [torch.from_numpy(part).float() for part in classifier.coefs_]
        self.biases = [torch.from_numpy(part).float() for part in classifier.intercepts_]
        digest = hashlib.sha256()
        for part in [*self.weights, *self.biases]:
            digest.update(part.numpy().tobytes())
        self.identity = digest.hexdigest()

    @staticmethod
    def _pixels(images: Tensor) -> Tensor:
        """(B, 64) in 0..1, at the digits' own resolution."""
        return to_native(images).float().flatten(1) / 16

    def to(self, device: torch.device) -> DigitsNetwork:  # noqa: ARG002
        """It is so small that it stays on the CPU."""
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """See :class:`FeatureNetwork`."""
        pixels = self._pixels(images.cpu().float() / 255)
        pool = (pixels @ self.weights[0] + self.biases[0]).relu()
        return Features(pool, pool @ self.weights[1])


class _exact_float32:  # noqa: N801
    """Without autocast and TF32, which change FID in its third digit."""

    def __init__(self, device: torch.device) -> None:
        self.autocast = torch.autocast(device.type, enabled=False)

    def __enter__(self) -> None:
        self.before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.autocast.__enter__()

    def __exit__(self, *problem: Any) -> None:
        self.autocast.__exit__(*problem)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self.before


NETWORKS = ("inception", "digits")


def load_network(name: str, weights: str | None = None) -> FeatureNetwork:
    """One of ``NETWORKS``.

    Args:
        name: which.
        weights: Inception's file.

    Raises:
        ValueError: for another name.
        CachedFileError: if Inception's weights are missing or wrong.
    """
    if name not in NETWORKS:
        raise ValueError(f"evaluation.network={name}: it can be {' or '.join(NETWORKS)}.")
    return InceptionNetwork(weights) if name == "inception" else DigitsNetwork()
