"""Parameter groups and learning rates."""

from __future__ import annotations

import math

import pytest
import torch

from bigr.training.base_module import step_seed
from bigr.training.optimizers import adamw, warmup_cosine
from tests.models import tiny_generator


def test_what_decays() -> None:
    """The paper: no decay on 1-D parameters, biases and the whole transcoder."""
    model = tiny_generator()
    optimizer = adamw(model, lr=1e-4, weight_decay=0.02)
    decaying, others = optimizer.param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.02, 0.0)
    assert decaying["betas"] == others["betas"] == (0.9, 0.95)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decaying_names = {names[id(p)] for p in decaying["params"]}
    other_names = {names[id(p)] for p in others["params"]}
    assert decaying_names | other_names == set(names.values())
    assert not decaying_names & other_names
    assert "transformer.layers.0.attention.qkv.weight" in decaying_names
    assert "transformer.class_embedding.weight" in decaying_names
    assert "transformer.norm.weight" in other_names
    assert "transformer.token_embedding.bias" in other_names
    assert {name for name in names.values() if name.startswith("transcoder.")} <= other_names


def test_rates_by_layer() -> None:
    """Of every single parameter, counted from the top by hand: two layers, then the embedding."""
    model = tiny_generator()
    model.transformer.layers[1].requires_grad_(False)
    optimizer = adamw(model, lr=0.1, weight_decay=0.02, layer_decay=0.5)
    found = {}
    for group in optimizer.param_groups:
        found.update({id(p): (group["lr"], group["weight_decay"]) for p in group["params"]})
    below = {"transformer.layers.0.": 0.025, "transformer.token_embedding.": 0.0125}
    below["transformer.mask_token"] = 0.0125
    plain = {id(p): g["weight_decay"] for g in adamw(model, lr=1).param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        if name.startswith("transformer.layers.1."):
            assert id(parameter) not in found
            continue
        rate = next((rate for start, rate in below.items() if name.startswith(start)), 0.1)
        assert found[id(parameter)] == (pytest.approx(rate), plain[id(parameter)]), name
    warmup_cosine(optimizer, total_steps=4, warmup_steps=2)
    assert {group["lr"] for group in optimizer.param_groups} == {0.05, 0.0125, 0.00625}


def test_warmup_and_cosine() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=2.0)
    schedule = warmup_cosine(optimizer, total_steps=20, warmup_steps=4, final_factor=0.1)
    rates = []
    for _ in range(25):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    middle = 0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2
    assert rates[12] == pytest.approx(2.0 * middle)
    assert rates[20:] == pytest.approx([0.2] * 5)
    with pytest.raises(ValueError, match="warmup_steps=20 must be"):
        warmup_cosine(optimizer, total_steps=20, warmup_steps=20)


def test_step_seeds_differ() -> None:
    seeds = {
        step_seed(seed, step, rank)
        for seed in range(3)
        for step in range(-50, 50)
        for rank in range(8)
    }
    assert len(seeds) == 3 * 100 * 8
    assert all(0 <= seed < 2**63 for seed in seeds)
