"""Figures while training: refused where no samples can be drawn. The rest is in tests/e2e."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.strategies import ModelParallelStrategy, SingleDeviceStrategy

from bigr.sampling.sampler_config import SamplerConfig
from bigr.training.callbacks.sample_metrics import SampleMetrics
from bigr.training.generator_module import GeneratorModule
from bigr.training.optimizers import adamw
from tests.models import tiny_autoencoder, tiny_generator


def check(strategy: Any, *, has_autoencoder: bool) -> None:
    module = GeneratorModule(tiny_generator().config, adamw)
    if has_autoencoder:
        module._frozen.module = tiny_autoencoder()
    metrics = SampleMetrics(SamplerConfig(), "digits", network="digits", count=4)
    trainer: Any = SimpleNamespace(strategy=strategy)
    metrics.check(trainer, module)


def test_what_it_needs() -> None:
    check(SingleDeviceStrategy("cpu"), has_autoencoder=True)
    with pytest.raises(ValueError, match=r"needs task\.autoencoder"):
        check(SingleDeviceStrategy("cpu"), has_autoencoder=False)
    with pytest.raises(ValueError, match="doesn't go with strategy=fsdp"):
        check(ModelParallelStrategy(), has_autoencoder=True)
