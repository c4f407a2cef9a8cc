"""The B-AE's promises; its numbers are checked in tests/conformance."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from bigr.models.codes import grid_to_tokens, tokens_to_grid
from tests.models import tiny_autoencoder


def test_codes_are_drawn_from_the_bit_probabilities() -> None:
    model = tiny_autoencoder()
    bit_probs = torch.full((200, 6, 4, 4), 0.8)
    generator = torch.Generator().manual_seed(0)
    codes = model.quantize(bit_probs, generator=generator)
    assert set(codes.unique().tolist()) == {0.0, 1.0}
    assert codes.mean().item() == pytest.approx(0.8, abs=0.02)
    assert model.quantize(bit_probs, deterministic=True).min() == 1.0
    assert model.quantize(bit_probs * 0.5, deterministic=True).max() == 0.0


def test_gradient_is_straight_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """d loss / d bit_probs equals d loss / d codes."""
    model = tiny_autoencoder()
    images = torch.rand(2, 3, 8, 8)
    bit_probs = model.encode(images).detach().requires_grad_()
    monkeypatch.setattr(model, "encode", lambda _: bit_probs)
    output = model(images, generator=torch.Generator().manual_seed(0))
    F.mse_loss(output.reconstruction, images).backward()
    leaf = output.codes.clone().requires_grad_()
    F.mse_loss(model.decode(leaf), images).backward()
    assert bit_probs.grad is not None
    assert leaf.grad is not None
    assert leaf.grad.abs().max() > 0
    torch.testing.assert_close(bit_probs.grad, leaf.grad)


def test_tokens_are_rows_of_the_grid() -> None:
    grid = torch.arange(2 * 6 * 4 * 4).view(2, 6, 4, 4).float()
    tokens = grid_to_tokens(grid)
    assert tokens.shape == (2, 16, 6)
    assert torch.equal(tokens[1, 4 * 2 + 3], grid[1, :, 2, 3])
    assert torch.equal(tokens_to_grid(tokens), grid)


def test_sizes_follow_the_configuration() -> None:
    model = tiny_autoencoder()
    bit_probs = model.encode(torch.rand(2, 3, 8, 8))
    assert bit_probs.shape == (2, 6, 4, 4)
    assert 0 < bit_probs.min() < bit_probs.max() < 1
    assert model.decode(bit_probs.round()).shape == (2, 3, 8, 8)
