"""Rates, from a clock that the test sets."""

from __future__ import annotations

from typing import Any

import lightning
import pytest

from bigr.training.callbacks import throughput
from bigr.training.callbacks.throughput import ThroughputLogger
from tests.tiny_training import BATCH_SIZE, LinearModule, tiny_trainer


class Clock(lightning.Callback):
    """Lets each step take one second, each wait for data half a second, and validation 100."""

    now = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        self.now += 1.0

    def on_train_batch_end(self, *_: Any) -> None:
        self.now += 0.5

    def on_validation_batch_end(self, *_: Any) -> None:
        self.now += 100.0


def test_images_per_second_without_validation(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    clock = Clock()
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: clock.now)
    trainer = tiny_trainer(
        8,
        ThroughputLogger(),
        clock,
        log_every_n_steps=2,
        limit_val_batches=1,
        val_check_interval=7,
    )
    trainer.fit(LinearModule())
    # The clock moves by 1.5 seconds from one step to the next.
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert metrics["perf/images_per_second"] == pytest.approx(BATCH_SIZE / 1.5)
    # Steps 7 and 8 are logged together; the wait after the validation between them is not known.
    assert metrics["perf/data_wait"] == pytest.approx(0.5 / 3.0)
    assert metrics["perf/peak_memory_gb"] > 0.1
    assert "perf/tokens_per_second" not in metrics
    # 6 batches of 4 images per epoch.
    seconds = 6 * 1.5
    assert f"{BATCH_SIZE / 1.5:.3g} images/s: an epoch takes {seconds:.2g} s" in caplog.text
