"""The page as a whole: its tabs, and a port that is taken. A browser clicks it in tests/e2e."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bigr import BiGRPipeline, SamplerConfig
from bigr.app.actions import Actions, Limits
from tests.models import tiny_autoencoder, tiny_generator

gr = pytest.importorskip("gradio")


def actions() -> Actions:
    pipeline = BiGRPipeline(tiny_generator(), tiny_autoencoder(), device="cpu")
    return Actions(pipeline, SamplerConfig(num_denoise_steps=4), Limits(pictures=3))


def test_tabs_and_limits(tmp_path: Path) -> None:
    from bigr.app.page import build

    blocks = build(actions(), tmp_path).blocks.values()
    tabs = [block.label for block in blocks if isinstance(block, gr.Tab)]
    assert tabs == ["Generate", "Edit", "Interpolate", "Enrich", "Reconstruct"]
    counts = [
        block.maximum
        for block in blocks
        if isinstance(block, gr.Slider) and block.label in ("Variants", "Pictures")
    ]
    assert counts == [3] * len(counts)
    assert len(list(tmp_path.glob("example_*.png"))) == len(actions().examples())


def test_a_port_that_is_taken() -> None:
    from bigr.app.page import serve

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port={port} can't be used"):
            serve(actions(), host="127.0.0.1", port=port, open_browser=False)
