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
    cpu = torch.device("cpu")
    assert compute_dtype("float32", cpu) == torch.float32
    assert compute_dtype("bfloat16", cpu) == torch.bfloat16
