"""Layers of the transformer against formulas in float64, and RoPE against rotation matrices."""

from __future__ import annotations

import math

import pytest
import torch

from bigr.models.adaln import RMSNorm
from bigr.models.layers import Attention, FeedForward, TransformerLayer
from bigr.models.rope import apply_rotary, rotary_table


def test_rms_norm_has_float32_statistics() -> None:
    norm = RMSNorm(64, 1e-5).to(torch.bfloat16)
    x = (torch.randn(2, 3, 64) * 300).to(torch.bfloat16)
    expected = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt()
    assert norm(x).dtype == torch.bfloat16
    torch.testing.assert_close(norm(x).double(), expected, rtol=2**-8, atol=1e-6)


def test_feed_forward() -> None:
    layer = FeedForward(6, 10, dropout=0.0)
    x = torch.randn(2, 6)
    gate, up, down = (part.weight for part in (layer.gate, layer.up, layer.down))
    hidden = x @ gate.T
    expected = (hidden * torch.sigmoid(hidden) * (x @ up.T)) @ down.T
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("row", [0, 1, 3])
def test_rotary_rotates_each_pair_by_its_own_angle(row: int) -> None:
    """Pairs 0..1 of an 8-wide head turn with the row, pairs 2..3 with the column."""
    column, grid, base = 2, 4, 100.0
    table = rotary_table(grid, 8, base)
    assert table.shape == (2, 17, 4)
    x = torch.randn(1, 17, 1, 8)
    found = apply_rotary(x, table)[0, 1 + row * grid + column, 0]
    angles = [row, row * base**-0.5, column, column * base**-0.5]
    for pair, angle in enumerate(angles):
        turn = torch.tensor(
            [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        )
        expected = turn @ x[0, 1 + row * grid + column, 0, 2 * pair : 2 * pair + 2]
        torch.testing.assert_close(found[2 * pair : 2 * pair + 2], expected, rtol=1e-5, atol=1e-5)


def test_rotary_of_the_class_token_is_zero() -> None:
    x = torch.randn(2, 5, 3, 8)
    found = apply_rotary(x, rotary_table(2, 8, 10_000.0))
    assert (found[:, 0] == 0).all()
    torch.testing.assert_close(found[:, 1:].norm(dim=-1), x[:, 1:].norm(dim=-1))


def test_rotary_products_depend_on_relative_positions() -> None:
    table = rotary_table(6, 8, 50.0)
    query, key = torch.randn(2, 8)

    def product(first: tuple[int, int], second: tuple[int, int]) -> float:
        places = [1 + row * 6 + column for row, column in (first, second)]
        turned = [
            apply_rotary(part.expand(1, 37, 1, 8), table)[0, place, 0]
            for part, place in zip((query, key), places, strict=True)
        ]
        return float(turned[0] @ turned[1])

    assert product((0, 1), (2, 3)) == pytest.approx(product((3, 2), (5, 4)), abs=1e-4)
    assert product((0, 1), (2, 3)) != pytest.approx(product((0, 1), (3, 3)), abs=1e-3)


def test_rotary_of_single_images() -> None:
    """A table with a batch dimension gives each image its own positions."""
    table, x = rotary_table(2, 8, 100.0), torch.randn(2, 2, 1, 8)
    places = torch.tensor([[1, 3], [4, 2]])
    found = apply_rotary(x, table[:, places])
    for image in range(2):
        for index in range(2):
            whole = x[image, index].expand(1, 5, 1, 8)
            expected = apply_rotary(whole, table)[0, places[image, index]]
            torch.testing.assert_close(found[image, index], expected)


def test_attention() -> None:
    """Softmax over all positions with scale C^-1/2, heads one after the other."""
    layer = Attention(8, 2, dropout=0.0).double()
    x, table = torch.randn(1, 5, 8).double(), rotary_table(2, 4, 100.0)
    query, key, value = (x @ layer.qkv.weight.T).chunk(3, dim=-1)
    heads = []
    for head in range(2):
        part = slice(head * 4, head * 4 + 4)
        q, k = (apply_rotary(t[:, :, None, part], table)[0, :, 0] for t in (query, key))
        weights = torch.softmax(q @ k.T / 2, dim=-1)
        heads.append(weights @ value[0, :, part])
    expected = torch.cat(heads, dim=-1) @ layer.out.weight.T
    torch.testing.assert_close(layer(x, table)[0], expected, rtol=1e-5, atol=1e-6)


def test_modulation() -> None:
    x, shift, scale = torch.randn(3, 2, 4, 6).unbind(0)
    norm = RMSNorm(6, 1e-5)
    normed = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x, shift, scale), normed * (1 + scale) + shift)


def test_gates_of_zero_make_a_layer_the_identity() -> None:
    """The six parts of the modulation are shift, scale and gate, first of attention."""
    layer = TransformerLayer(8, 2, 16, dropout=0.0, norm_eps=1e-5)
    x, table = torch.randn(2, 5, 8), rotary_table(2, 4, 100.0)
    modulation = torch.randn(2, 6, 8)
    closed = modulation.clone()
    closed[:, [2, 5]] = 0
    assert torch.equal(layer(x, closed, table), x)
    closed[:, 5] = modulation[:, 5]
    normed = layer.feed_forward_norm(x)
    fed = layer.feed_forward(normed * (1 + modulation[:, 4:5]) + modulation[:, 3:4])
    torch.testing.assert_close(layer(x, closed, table), x + modulation[:, 5:6] * fed)
