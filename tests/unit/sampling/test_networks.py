"""The transformer's output for both halves of guidance, against calls of the model itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from bigr.sampling.networks import compute_dtype, prepare
from bigr.sampling.sampler_config import ExecutionConfig, SamplerConfig
from tests.models import tiny_generator

CONFIG = SamplerConfig(num_denoise_steps=4)
EXECUTION = ExecutionConfig(precision="float32")
CLASSES, NULL = torch.tensor([0, 2]), torch.tensor([3, 3])


@torch.no_grad()
@pytest.mark.parametrize("is_blank", [True, False])
def test_halves(is_blank: bool) -> None:
    """The null class is computed once for all blank images, and for each of the others."""
    model = tiny_generator()
    networks = prepare(model, CONFIG, EXECUTION, None)
    is_masked = torch.ones(2, 16, dtype=torch.bool)
    codes = torch.zeros(2, 16, 6)
    if not is_blank:
        is_masked[:, 3:9] = False
        codes[:, 3:9] = torch.randint(2, (2, 6, 6)).float()
    given = (CLASSES, codes, is_masked)
    computed: Counter[Any] = Counter()
    both = networks.conditions(*given, 2.0, (), computed, is_blank=is_blank)
    assert computed == {(model.config, None): 3 if is_blank else 4}
    with_class, without = (
        model.condition(codes, classes, is_masked).flatten(0, 1) for classes in (CLASSES, NULL)
    )
    torch.testing.assert_close(both, torch.stack([with_class, without]))
    for scale, expected in ((1.0, with_class), (0.0, without)):
        computed.clear()
        alone = networks.conditions(*given, scale, (), computed, is_blank=is_blank)
        assert computed == {(model.config, None): 2}
        torch.testing.assert_close(alone, expected[None])


@torch.no_grad()
def test_networks_are_arranged_again_after_the_weights_change() -> None:
    model = tiny_generator()
    first = prepare(model, CONFIG, EXECUTION, None)
    assert prepare(model, CONFIG, EXECUTION, first) is first
    model.transcoder.denoiser.output.weight.mul_(2.0)
    assert prepare(model, CONFIG, EXECUTION, first) is not first


def test_types_by_name() -> None:
    for name in ("cpu", "cuda"):
        assert compute_dtype("float32", torch.device(name), 1024) == torch.float32
        assert compute_dtype("bfloat16", torch.device(name), 32) == torch.bfloat16


@pytest.mark.parametrize(
    ("capabilities", "has_library", "dim", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True, 256, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, True, 1024, torch.bfloat16),
        ({"avx512_bf16": True, "amx_bf16": True}, True, 255, torch.float32),  # too narrow
        ({"avx512_bf16": True}, False, 256, torch.float32),
        ({"avx512_bf16": False, "avx512_f": True}, True, 1024, torch.float32),  # would emulate it
        ({"architecture": "arm64", "bf16": True}, True, 1024, torch.float32),
        (None, True, 1024, torch.float32),  # PyTorch cannot tell
    ],
)
def test_automatic_type_on_cpus(
    capabilities: dict[str, object] | None,
    has_library: bool,
    dim: int,
    expected: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    if capabilities is not None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: has_library)
    assert compute_dtype("auto", torch.device("cpu"), dim) == expected
    assert compute_dtype("auto", torch.device("mps"), dim) == torch.float32


@pytest.mark.parametrize(
    ("is_supported", "expected"), [(True, torch.bfloat16), (False, torch.float32)]
)
def test_automatic_type_on_gpus(
    is_supported: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emulation does not count, and neither do the width and the processor."""
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: is_supported or including_emulation,
    )
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert compute_dtype("auto", torch.device("cuda"), 32) == expected


def test_the_width_of_each_model_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide generator and its narrow guide compute in different types."""
    monkeypatch.setattr("bigr.sampling.networks.multiplies_bfloat16", lambda device: True)
    wide = tiny_generator(dim=256, num_heads=4, num_layers=1)
    networks = prepare(wide, CONFIG, ExecutionConfig(), None, tiny_generator())
    assert networks.dtype == torch.bfloat16
    assert networks.guide is not None
    assert networks.guide.dtype == torch.float32
