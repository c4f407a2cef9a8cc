"""The transformer against the plain one in float64, and what depends on what."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bigr import BiGR
from bigr.models import transformer
from tests import plain
from tests.models import tiny_generator
from tests.numbers import relative_error


def inputs(model: BiGR, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (3, model.config.seq_len)
    codes = torch.randint(2, (*shape, model.config.code_dim), generator=generator).float()
    return codes, torch.tensor([0, 2, 3]), torch.rand(shape, generator=generator) < 0.5


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_conditions(heads: int) -> None:
    model = tiny_generator(num_heads=heads, num_layers=3)
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    codes, classes, is_masked = inputs(model)
    expected = plain.condition(weights, model.config, codes.double(), classes, is_masked)
    actual = model.transformer(codes, classes, is_masked)
    assert relative_error(actual.double(), expected) < 1e-5


@torch.no_grad()
def test_on_layer_sees_the_hidden_states_of_each_layer() -> None:
    """They are what a shorter pass returns, and an identity instead of layers stops there."""
    model = tiny_generator(num_layers=3)
    codes, classes, _ = inputs(model)
    seen: dict[int, Tensor] = {}
    model.transformer.hidden_states(codes, classes, None, 3, on_layer=seen.__setitem__)
    assert list(seen) == [0, 1, 2]
    for index, hidden in seen.items():
        alone = model.transformer.hidden_states(codes, classes, None, index + 1)
        assert torch.equal(hidden, alone)
    first = model.transformer.hidden_states(codes, classes, None, 0)
    assert torch.equal(first[:, 0], model.transformer.class_embedding(classes))
    assert torch.equal(first[:, 1:], model.transformer.token_embedding(codes))


def test_recomputed_activations_give_the_same_gradients() -> None:
    model = tiny_generator()
    codes, classes, is_masked = inputs(model)
    gradients = []
    for recomputes in (False, True):
        model.transformer.recomputes = recomputes
        model.zero_grad()
        model.transformer(codes, classes, is_masked).square().sum().backward()
        gradients.append([p.grad for p in model.transformer.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


@torch.no_grad()
def test_other_layers_share_all_other_weights() -> None:
    model = tiny_generator()
    other = model.transformer.with_layers(lambda layers: torch.nn.ModuleList(list(layers)[::-1]))
    codes, classes, is_masked = inputs(model)
    before = model.transformer(codes, classes, is_masked)
    assert other.norm is model.transformer.norm
    assert other.layers[0] is model.transformer.layers[-1]
    assert not torch.allclose(other(codes, classes, is_masked), before)
    assert torch.equal(model.transformer(codes, classes, is_masked), before)


def test_a_fresh_transformer_has_the_documented_scales() -> None:
    """init_std for weights, 1 for the mask token, and no dependence on the class by adaLN."""
    torch.manual_seed(0)
    transformer = BiGR(tiny_generator(dim=64, init_std=0.05).config).transformer
    assert transformer.class_embedding.weight.std().item() == pytest.approx(0.05, rel=0.2)
    assert transformer.mask_token.std().item() == pytest.approx(1, rel=0.3)
    assert transformer.layers[0].modulation_offset.std().item() == pytest.approx(1 / 8, rel=0.2)
    assert transformer.modulation.weight.abs().max() == 0
    assert transformer.token_embedding.bias.abs().max() == 0


def test_many_images_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_generator().transformer
    codes, classes, is_masked = (one[[0, 1, 2, 1, 0]] for one in inputs(tiny_generator()))
    sizes: list[int] = []
    model.token_embedding.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    whole = model(codes, classes, is_masked)  # with gradients
    monkeypatch.setattr(transformer, "ROWS_PER_PART", 2 * (model.config.seq_len + 1))
    with torch.no_grad():
        parts = model(codes, classes, is_masked)
    assert sizes == [5, 2, 2, 1]
    assert relative_error(parts, whole) < 1e-5
