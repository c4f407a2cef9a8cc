"""BiGR-Lightning: train, evaluate and use BiGR, an image generator over binary latent codes.

The public API. Names load on first use, so ``import bigr`` is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bigr.checkpoints.load import load_autoencoder, load_generator
    from bigr.evaluation.score import score
    from bigr.models.autoencoder import BinaryAutoencoder
    from bigr.models.bigr import BiGR
    from bigr.models.config import BiGRConfig, BinaryAutoencoderConfig
    from bigr.pipeline import BiGRPipeline
    from bigr.sampling.sampler import Sampler
    from bigr.sampling.sampler_config import ExecutionConfig, SamplerConfig

__version__ = "0.2.0"

_HOMES = {
    "BiGR": "bigr.models.bigr",
    "BiGRConfig": "bigr.models.config",
    "BiGRPipeline": "bigr.pipeline",
    "BinaryAutoencoder": "bigr.models.autoencoder",
    "BinaryAutoencoderConfig": "bigr.models.config",
    "ExecutionConfig": "bigr.sampling.sampler_config",
    "Sampler": "bigr.sampling.sampler",
    "SamplerConfig": "bigr.sampling.sampler_config",
    "load_autoencoder": "bigr.checkpoints.load",
    "load_generator": "bigr.checkpoints.load",
    "score": "bigr.evaluation.score",
}

__all__ = [
    "BiGR",
    "BiGRConfig",
    "BiGRPipeline",
    "BinaryAutoencoder",
    "BinaryAutoencoderConfig",
    "ExecutionConfig",
    "Sampler",
    "SamplerConfig",
    "load_autoencoder",
    "load_generator",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bigr' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
