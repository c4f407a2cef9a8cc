"""Devices by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bigr.inference.devices import device_name, pick_device, precision_of


@pytest.mark.parametrize(("has_cuda", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto(has_cuda: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apple's GPU is not taken, even where it is available."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == torch.device(expected)


@pytest.mark.parametrize("name", ["mps", "xpu", "xpu:1"])
def test_devices_that_are_not_supported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ValueError, match=f"device={name} is not supported, .*: use device=cpu"):
        pick_device(name)


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


def test_precision_of_a_type() -> None:
    assert precision_of(torch.float32) == "float32"
    assert precision_of(torch.float16) == precision_of(torch.bfloat16) == "bfloat16"
    with pytest.raises(ValueError, match=r"dtype=torch\.float64: a pipeline computes in one of"):
        precision_of(torch.float64)
