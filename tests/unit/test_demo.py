"""``bigr.demo``: which models it loads, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bigr import BiGRPipeline
from bigr.app.actions import Actions
from bigr.cli.entry import UserError, user_errors
from bigr.cli.models import with_models
from bigr.demo import job
from tests.models import tiny_autoencoder, tiny_generator

pytest.importorskip("gradio")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Actions, dict[str, Any]]]:
    """What the page is served with, which nobody serves."""
    found: list[tuple[Actions, dict[str, Any]]] = []
    monkeypatch.setattr(
        "bigr.app.server.serve",
        lambda actions, address, folder, **more: found.append(
            (actions, {"address": address, **more})
        ),
    )
    return found


def run(**settings: Any) -> None:
    defaults = {
        "pretrained": None if "generator" in settings else "outputs/demo",
        "released": {"model": "l", "code": "d24", "resolution": 256},
        **{"generator": None, "autoencoder": None, "device": "cpu", "batch_size": 3},
        "sampler": {"_target_": "bigr.SamplerConfig", "num_denoise_steps": 4},
        "execution": {"_target_": "bigr.ExecutionConfig", "precision": "float32"},
        **{"host": "127.0.0.1", "port": 7860, "open_browser": False, "limits": {"pictures": 5}},
        **{"allowed_hosts": ["lab"], "embedded_in": [], "auth": None},
    }
    config = OmegaConf.create({**defaults, **settings})
    with user_errors():
        config = with_models(config)
    job(config)


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
    for actions, more in served:
        assert actions.class_choices == [("ant (0)", 0), ("bee (1)", 1), ("cat (2)", 2)]
        assert actions.pipeline.batch_size == 3
        assert actions.pipeline.sampler.execution.precision == "float32"
        assert actions.sampler.num_denoise_steps == 4
        assert (actions.limits.pictures, actions.limits.upload_mb) == (5, 20)
        assert (more["auth"], more["address"].allowed) == (None, ("lab",))
    assert [more["address"].port for _, more in served] == [7860, 8000]
    assert [actions.name for actions, _ in served] == ["saved", "generator.safetensors"]


def test_a_server_that_others_can_reach(
    saved: Path,
    served: list[tuple[Actions, dict[str, Any]]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a password that is said in the log, and the password never is."""
    run(pretrained=str(saved), host="0.0.0.0")
    assert "everyone who can reach this machine can use the app. Add auth=FILE" in caplog.text
    caplog.clear()
    run(pretrained=str(saved), host="0.0.0.0", auth="ann:secret")
    assert "everyone" not in caplog.text
    assert "secret" not in caplog.text
    assert served[1][1]["auth"] == ("ann", "secret")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generator": "g"}, "generator and autoencoder go together"),
        ({}, "there is no outputs/demo. pretrained=digits is a small model"),
        ({"pretrained": "nowhere"}, "pretrained=nowhere: "),
        (
            {"auth": "secret", "pretrained": None},
            "auth must be user:password, or a file that contains such a line",
        ),
        (
            {"limits": {"pictures": 0}, "pretrained": None},
            "Limits.pictures must be a positive integer, got 0",
        ),
    ],
)
def test_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=message):
        run(**settings)
