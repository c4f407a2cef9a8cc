"""Devices by name, and models on a device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.inference.devices import device_name, load_models, pick_device
from tests.models import tiny_autoencoder, tiny_generator


@pytest.mark.parametrize(
    ("has_cuda", "has_mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto(
    has_cuda: bool, has_mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    assert pick_device("auto") == torch.device(expected)


@pytest.mark.parametrize("name", ["gpu", "cuda:99"])
def test_devices_that_do_not_exist(name: str) -> None:
    with pytest.raises(ValueError, match=f"device={name} cannot be used here .*; device=auto"):
        pick_device(name)


def test_name_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    monkeypatch.setattr(Path, "read_text", lambda _: "model name\t: Fast: 3 GHz\nmodel name : B\n")
    assert device_name(torch.device("cpu")) == "Fast: 3 GHz"
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    monkeypatch.setattr("platform.processor", lambda: "")
    assert device_name(torch.device("cpu")) == "cpu"


def test_load_models(tmp_path: Path) -> None:
    """Both models are on the device, and a pair that does not belong together is refused."""
    generator, autoencoder = tiny_generator(), tiny_autoencoder()
    save_generator(generator, tmp_path / "g.safetensors")
    save_autoencoder(autoencoder, tmp_path / "a.safetensors")
    save_autoencoder(tiny_autoencoder(code_dim=5), tmp_path / "other.safetensors")
    names = [str(tmp_path / f"{name}.safetensors") for name in ("g", "a", "other")]
    models = load_models(*names[:2], "cpu")
    assert models.generator.device == torch.device("cpu")
    assert torch.equal(models.autoencoder.last_weight, autoencoder.last_weight)
    with pytest.raises(ValueError, match="5"):
        load_models(names[0], names[2], "cpu")
