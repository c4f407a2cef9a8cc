"""The page as a whole: its tabs, its buttons and its limits. A browser clicks it in tests/e2e."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigr import BiGRPipeline, SamplerConfig
from bigr.app.actions import Actions
from bigr.app.limits import Limits
from tests.models import tiny_autoencoder, tiny_generator

gr = pytest.importorskip("gradio")


def actions() -> Actions:
    pipeline = BiGRPipeline(tiny_generator(), tiny_autoencoder(), device="cpu")
    return Actions(pipeline, SamplerConfig(num_denoise_steps=4), Limits(pictures=3))


def test_tabs_and_limits(tmp_path: Path) -> None:
    from bigr.app.page import build

    blocks = build(actions(), tmp_path).blocks.values()
    tabs = [block.label for block in blocks if isinstance(block, gr.Tab)]
    assert tabs == ["Generate", "Edit", "Interpolate", "Reproduce"]
    buttons = [block.value for block in blocks if isinstance(block, gr.Button)]
    assert [buttons.count(name) for name in ("Run", "Stop", "Another seed")] == [1, 1, 1]
    counts = [
        block.maximum
        for block in blocks
        if isinstance(block, gr.Slider) and block.label in ("Variants", "Pictures")
    ]
    assert counts == [3] * len(counts)
    assert len(list(tmp_path.glob("example_*.png"))) == len(actions().examples())
