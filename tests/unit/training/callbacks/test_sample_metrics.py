"""Figures while training: refused where no samples can be drawn. The rest is in tests/e2e."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.strategies import ModelParallelStrategy, SingleDeviceStrategy

from bigr.checkpoints.native import save_autoencoder
from bigr.sampling.sampler_config import SamplerConfig
from bigr.training.callbacks.sample_metrics import SampleMetrics
from bigr.training.generator_module import GeneratorModule
from bigr.training.optimizers import adamw
from bigr.training.stopping import CannotStartError
from tests.models import tiny_autoencoder, tiny_generator


def check(strategy: Any, autoencoder: Path | None) -> None:
    path = None if autoencoder is None else str(autoencoder)
    module = GeneratorModule(tiny_generator().config, adamw, autoencoder=path)
    metrics = SampleMetrics(SamplerConfig(), "digits", network="digits", count=4)
    trainer: Any = SimpleNamespace(strategy=strategy)
    metrics.check(trainer, module)


def test_what_it_needs(tmp_path: Path) -> None:
    saved = save_autoencoder(tiny_autoencoder(), tmp_path / "a.safetensors")
    check(SingleDeviceStrategy("cpu"), saved)
    with pytest.raises(ValueError, match=r"needs task\.autoencoder"):
        check(SingleDeviceStrategy("cpu"), None)
    with pytest.raises(ValueError, match="doesn't work with strategy=fsdp"):
        check(ModelParallelStrategy(), saved)


def test_too_few_samples() -> None:
    with pytest.raises(ValueError, match=r"SampleMetrics\.count must be an integer of at least 2"):
        SampleMetrics(SamplerConfig(), "digits", network="digits", count=1)


def test_a_damaged_reference_stops_the_run_before_it_starts(tmp_path: Path) -> None:
    saved = save_autoencoder(tiny_autoencoder(), tmp_path / "a.safetensors")
    module = GeneratorModule(tiny_generator().config, adamw, autoencoder=str(saved))
    (tmp_path / "reference.npz").write_bytes(b"PK")
    reference = str(tmp_path / "reference.npz")
    metrics = SampleMetrics(SamplerConfig(), reference, network="digits", count=4)
    strategy = SingleDeviceStrategy("cpu")
    trainer: Any = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1)
    with pytest.raises(CannotStartError, match=r"sample_metrics: .*reference\.npz is damaged"):
        metrics.setup(trainer, module, "fit")
