"""The alignment against a loop in float64, and its head."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bigr.losses.alignment import AlignmentConfig, AlignmentHead, alignment_loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_negative_cosine_of_every_token(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randn(3, 5, 7, generator=generator, requires_grad=True)
    features = (torch.randn(3, 5, 7, generator=generator) * 4).to(dtype)
    total = 0.0
    for image in range(3):
        for token in range(5):
            x = [float(v) for v in predicted[image, token].detach()]
            y = [float(v) for v in features[image, token]]
            norms = math.sqrt(sum(v * v for v in x)) * math.sqrt(sum(v * v for v in y))
            total -= sum(a * b for a, b in zip(x, y, strict=True)) / norms
    loss = alignment_loss(predicted, features)
    assert float(loss.detach()) == pytest.approx(total / 15, rel=1e-5)
    # The gradient is orthogonal to the prediction: only its direction counts.
    loss.backward()
    assert predicted.grad is not None
    along = (predicted.grad * predicted.detach()).sum(-1)
    assert along.abs().max() < 1e-6 < predicted.grad.abs().max()


def test_the_best_and_the_worst_value() -> None:
    x = torch.randn(2, 3, 4)
    assert alignment_loss(3 * x, x).item() == pytest.approx(-1, abs=1e-6)
    assert alignment_loss(-x, x).item() == pytest.approx(1, abs=1e-6)


def test_the_head_is_an_mlp_with_two_hidden_layers() -> None:
    head = AlignmentHead(6, 10, 3)
    x = torch.randn(2, 5, 6)
    first, second, third = (layer for layer in head if isinstance(layer, nn.Linear))
    hidden = x @ first.weight.T + first.bias
    hidden = (hidden * hidden.sigmoid()) @ second.weight.T + second.bias
    expected = (hidden * hidden.sigmoid()) @ third.weight.T + third.bias
    torch.testing.assert_close(head(x), expected)


@pytest.mark.parametrize("wrong", [{"weight": -1.0}, {"layer": -1}, {"until_step": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    right = {"feature_dim": 3, "layer": 2, "weight": 0.5, "hidden_dim": 8, "until_step": None}
    (name,) = wrong
    with pytest.raises(ValueError, match=rf"AlignmentConfig\.{name} must be"):
        AlignmentConfig(**{**right, **wrong})  # type: ignore[arg-type]
