"""LoRA adapters in memory: the layers that get one, and adding it to the weights."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from bigr.checkpoints.lora import (
    LoRAConfig,
    add_adapter,
    is_adapter_name,
    merged,
    plain_name,
    without_adapter,
)
from bigr.models.bigr import BiGR
from tests.models import tiny_generator

LAYERS = ("attention.qkv", "attention.out", "feed_forward.gate", "feed_forward.up")
LAYERS = (*LAYERS, "feed_forward.down")


def adapted(**settings: Any) -> BiGR:
    """A generator with an adapter whose matrices are random."""
    model = tiny_generator()
    add_adapter(model, LoRAConfig(**settings))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_adapter_name(name):
                parameter.normal_(0, 0.2, generator=generator)
    return model


def outputs(model: BiGR) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(0, 2, (3, 16, 6), generator=generator).float()
    is_masked = torch.rand(3, 16, generator=generator) < 0.5
    with torch.no_grad():
        condition = model.condition(codes, torch.tensor([0, 2, 3]), is_masked)
        return model.transcoder.denoiser(
            codes.flatten(0, 1), torch.arange(48) + 1, condition.flatten(0, 1)
        )


def test_a_new_adapter_changes_nothing() -> None:
    model = tiny_generator()
    expected = outputs(model)
    add_adapter(model, LoRAConfig(rank=2))
    assert torch.equal(outputs(model), expected)


def test_which_layers_get_one() -> None:
    names = [name for name, _ in adapted(rank=2).named_parameters() if is_adapter_name(name)]
    expected = {
        f"transformer.layers.{layer}.{name}.lora_{matrix}.default.weight"
        for layer in (0, 1)
        for name in LAYERS
        for matrix in "AB"
    }
    assert set(names) == expected
    few = adapted(rank=1, targets=("transcoder.denoiser.blocks.*.mlp.0", "*.1.attention.qkv"))
    names = [name for name, _ in few.named_parameters() if name.endswith("lora_A.default.weight")]
    assert len(names) == 3


@pytest.mark.parametrize("alpha", [None, 6])
def test_merged_is_the_same_in_float64(alpha: int | None) -> None:
    """With its own arithmetic: peft computes W x + s B A x, the merged layer (W + s B A) x."""
    targets = ("transformer.layers.*", "transformer.modulation", "transcoder.*")
    model = adapted(rank=3, alpha=alpha, targets=targets)
    scale = 1.0 if alpha is None else alpha / 3
    plain = without_adapter(model, scale)
    assert (outputs(plain) - outputs(tiny_generator())).abs().max() > 0.1
    torch.testing.assert_close(outputs(plain), outputs(model), rtol=1e-4, atol=1e-4)
    # Each weight by brute force.
    state = {plain_name(name): tensor.double() for name, tensor in model.state_dict().items()}
    for name, weight in plain.state_dict().items():
        expected = state[name]
        layer = name.removesuffix(".weight")
        if f"{layer}.lora_A.default.weight" in state:
            first, second = (state[f"{layer}.lora_{m}.default.weight"] for m in "AB")
            product = torch.stack([sum(b * a for b, a in zip(row, first)) for row in second])  # type: ignore[misc]  # noqa: B905
            expected = expected + scale * product
        torch.testing.assert_close(weight.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "LoRAConfig.rank must be a positive integer or null, got 0"),
        ({"rank": 2, "alpha": 0}, "LoRAConfig.alpha must be a positive integer or null, got 0"),
        ({"rank": 2, "dropout": 2}, "LoRAConfig.dropout must be a number"),
        ({"rank": 33}, "task.lora.rank=33 is larger than 32, the smaller side of the weight"),
        ({"rank": 2, "dropout": 1.0}, "LoRAConfig.dropout must be a number"),
        (
            {"rank": 2, "targets": ("transformer.layers.0.*", "layers")},
            "no linear layer has the name layers. Layers are called like transformer.layers.0.att",
        ),
        ({"alpha": 8}, "LoRAConfig.alpha has no effect without a rank: set task.lora.rank"),
        ({"dropout": 0.5}, "LoRAConfig.dropout has no effect without a rank"),
        ({"targets": ("transcoder.*",)}, "LoRAConfig.targets has no effect without a rank"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        add_adapter(tiny_generator(), LoRAConfig(**settings))


@pytest.mark.parametrize("change", ["missing", "narrow", "rank"])
def test_an_adapter_that_does_not_fit(change: str) -> None:
    weights = dict(adapted(rank=2).state_dict())
    name = "transformer.layers.1.attention.out.lora_B.default.weight"
    whole = weights.pop(name)
    if change != "missing":
        weights[name] = whole[:-1] if change == "narrow" else whole[:, :1]
    with pytest.raises(ValueError, match=r"the adapter of the layer transformer\.layers\.1\.att"):
        merged(weights, 1.0)
