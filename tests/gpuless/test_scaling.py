"""Memory and communication on many GPUs, and the page that is computed from them.

One of 32 processes trains XXL on tensors without values. The estimate that a run logs before its
first step, and the formulas of ``docs/scaling.md``, have to agree with it.
"""

from __future__ import annotations

import re

import pytest
import torch

from bench import scaling
from bigr.training.step_memory import step_memory
from tests.conftest import REPOSITORY
from tests.gpuless.fake_ranks import training_usage

BATCH = 16
"""Images of each of 32 devices, of 512 in a step."""


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_xxl_on_32_devices(strategy: str) -> None:
    model = scaling.Model.named("xxl")
    usage = training_usage(model.config, BATCH, strategy, 32)
    estimate = step_memory(
        model.config, BATCH, num_weights=model.num_weights, layer_weights=model.layer_weights,
        num_devices=32, is_sharded=strategy == "fsdp",
    )  # fmt: skip
    assert estimate.peak == pytest.approx(usage.peak, rel=0.1)
    assert scaling.FAKE_RUN[strategy] * 1e9 == pytest.approx(usage.peak, rel=0.01)
    expected = scaling.communicated(model, strategy)
    found = {kind: usage.communicated[kind] for kind in expected}
    assert found == pytest.approx(expected, rel=0.02)
    others = sum(usage.communicated.values()) - sum(found.values())
    assert others < 0.001 * sum(found.values())


@pytest.mark.parametrize("recomputes", [False, True])
def test_a_small_generator_on_one_device(recomputes: bool) -> None:
    config = scaling.BiGRConfig.preset("s", grid_size=16, code_dim=24, num_classes=1000)
    usage = training_usage(config, 8, "single", 1, recomputes=recomputes)
    with torch.device("meta"):
        count = sum(p.numel() for p in scaling.BiGR(config).parameters())
    estimate = step_memory(config, 8, num_weights=count, recomputes=recomputes)
    assert estimate.peak == pytest.approx(usage.peak, rel=0.1)
    assert usage.communicated == {}


def test_the_tables_of_the_page_are_computed() -> None:
    text = (REPOSITORY / "docs" / "scaling.md").read_text()
    blocks = dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n\n", text, flags=re.DOTALL))
    assert blocks == {name: "\n".join(lines) for name, lines in scaling.tables().items()}


def test_steps_by_hand() -> None:
    """On one GPU, a step of L is its arithmetic and the optimiser's traffic."""
    model, h100 = scaling.Model.named("l"), scaling.GPUS[1]
    seconds, waiting = scaling.step_seconds(model, h100, 1, 1024)
    arithmetic = 1024 * 0.53e12 / (0.4 * 989e12)
    assert waiting == 0
    assert seconds == pytest.approx(arithmetic + 52 * 336_346_136 / 3.35e12, rel=0.01)
    # 2 * 31/32 of 4 * 336 M bytes pass through 8 cards of 50 GB/s, of which 80% are reached.
    assert scaling.communication_seconds(model, h100, 32) == pytest.approx(0.00815, rel=0.01)
