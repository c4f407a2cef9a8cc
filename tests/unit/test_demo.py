"""``bigr.demo``: which models it loads, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bigr import BiGRPipeline
from bigr.app.actions import Actions
from bigr.cli.entry import UserError
from bigr.demo import job
from tests.models import tiny_autoencoder, tiny_generator

pytest.importorskip("gradio")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Actions, dict[str, Any]]]:
    """What the page is served with, which nobody serves."""
    found: list[tuple[Actions, dict[str, Any]]] = []
    monkeypatch.setattr(
        "bigr.app.page.serve", lambda actions, **more: found.append((actions, more))
    )
    return found


def run(**settings: Any) -> None:
    defaults = {
        "pretrained": "outputs/demo",
        "released": {"model": "l", "code": "d24", "resolution": 256},
        **{"generator": None, "autoencoder": None, "device": "cpu", "batch_size": 3},
        "sampler": {"_target_": "bigr.SamplerConfig", "num_denoise_steps": 4},
        "execution": {"_target_": "bigr.ExecutionConfig", "precision": "float32"},
        **{"host": "127.0.0.1", "port": 7860, "open_browser": False, "limits": {"pictures": 5}},
    }
    job(OmegaConf.create({**defaults, **settings}))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    pipeline = BiGRPipeline(
        tiny_generator(), tiny_autoencoder(), class_names=["ant", "bee", "cat"], device="cpu"
    )
    return pipeline.save_pretrained(tmp_path / "saved")


def test_a_folder_or_two_files(saved: Path, served: list[tuple[Actions, dict[str, Any]]]) -> None:
    run(pretrained=str(saved))
    files = {kind: str(saved / f"{kind}.safetensors") for kind in ("generator", "autoencoder")}
    run(**files, port=8000)
    for actions, _ in served:
        assert actions.class_choices == [("ant (0)", 0), ("bee (1)", 1), ("cat (2)", 2)]
        assert actions.pipeline.batch_size == 3
        assert actions.pipeline.sampler.execution.precision == "float32"
        assert actions.sampler.num_denoise_steps == 4
        assert (actions.limits.pictures, actions.limits.upload_mb) == (5, 20)
    assert [more["port"] for _, more in served] == [7860, 8000]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generator": "g"}, "generator and autoencoder go together"),
        ({}, "there is no outputs/demo. `make demo` makes outputs/demo"),
        ({"pretrained": "nowhere"}, "pretrained=nowhere: "),
        ({"limits": {"pictures": 0}}, "Limits.pictures must be a positive integer, got 0"),
    ],
)
def test_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=message):
        run(**settings)
