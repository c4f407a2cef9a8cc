"""What a run says before its first step."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import torch

from bigr import BiGRConfig
from bigr.inference.units import amount
from bigr.training.callbacks.ema import EMA
from bigr.training.callbacks.run_plan import RunPlan
from bigr.training.generator_module import GeneratorModule
from bigr.training.optimizers import adamw
from bigr.training.step_memory import kept_bytes
from tests.models import TINY
from tests.tiny_training import LinearModule, tiny_trainer


def test_plan_of_any_module() -> None:
    seen: list[str] = []

    class Keep(RunPlan):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            seen.extend(self.lines(trainer, pl_module))

    trainer = tiny_trainer(3, Keep(None), EMA())
    trainer.fit(LinearModule())
    text = "\n".join(seen)
    assert "training LinearModule with 6 parameters on the CPU in float32" in text
    assert "steps: 3 in total, 6 per epoch" in text
    assert "checkpoints: 96 B each; all are kept" in text  # 6 weights of 4 + 8 + 4 bytes
    assert "batch:" not in text


def test_frozen_weights_need_no_gradients() -> None:
    seen: list[str] = []

    class Keep(RunPlan):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            seen.extend(self.lines(trainer, pl_module))

    module = LinearModule()
    module.frozen = torch.nn.Linear(1_000_000, 1).requires_grad_(False)
    tiny_trainer(1, Keep(None), EMA()).fit(module)
    text = "\n".join(seen)
    assert "with 1 M parameters, 6 of them trained, on the CPU" in text
    assert "memory per device: 4 MB for weights" in text  # 4 bytes of each, and 16 of the others
    assert "checkpoints: 8 MB each" in text  # the weights and their average


def test_plan_of_a_generator() -> None:
    config = BiGRConfig(**TINY)
    module = GeneratorModule(config, functools.partial(adamw, lr=1e-3))
    trainer: Any = SimpleNamespace(
        callbacks=[],
        world_size=2,
        precision="32-true",
        accumulate_grad_batches=3,
        datamodule=SimpleNamespace(batch_size=5),
        num_training_batches=30,
        estimated_stepping_batches=100,
    )
    lines = RunPlan(2).lines(trainer, module)
    parameters = sum(p.numel() for p in module.parameters())
    assert parameters < 100_000
    assert f"training a generator with {parameters:,} parameters on 2 x CPU in float32" in lines
    assert "batch: 30 images per step (5 on each of 2 devices, accumulated 3 times)" in lines
    assert "steps: 100 in total, 10 per epoch" in lines
    activations, state = kept_bytes(config).per_image * 5, 12 * parameters  # without an average
    (memory,) = [line for line in lines if line.startswith("memory per device: at most about ")]
    assert f"{amount(activations, 'B')} for activations" in memory
    assert f"{amount(state, 'B')} for weights, optimiser and average" in memory
    assert f"about {amount(state + 4 * parameters + activations, 'B')} (" in memory
