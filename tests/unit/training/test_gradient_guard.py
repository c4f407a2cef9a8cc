"""Norms, clipping, skipped steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bigr.training.gradient_guard import GradientGuard


def parameters() -> dict[str, list[torch.nn.Parameter]]:
    torch.manual_seed(0)
    return {
        "a": [torch.nn.Parameter(torch.randn(3, 4)), torch.nn.Parameter(torch.randn(5))],
        "b": [torch.nn.Parameter(torch.randn(2)), torch.nn.Parameter(torch.randn(6))],
    }


def set_gradients(parts: dict[str, list[torch.nn.Parameter]], scale: float = 1.0) -> None:
    for part in parts.values():
        for index, parameter in enumerate(part):
            parameter.grad = torch.full_like(parameter, scale * (index + 1))
    parts["b"][1].grad = None  # takes no part in this step


@pytest.mark.parametrize("limit", [None, 0.5])
def test_norms_and_clipping(limit: float | None) -> None:
    parts = parameters()
    set_gradients(parts)
    optimizer = torch.optim.SGD([p for part in parts.values() for p in part], lr=0.1)
    norms = GradientGuard(0).apply(optimizer, parts, limit)
    a, b = (12 + 4 * 5) ** 0.5, 2**0.5
    whole = (a * a + b * b) ** 0.5
    assert norms["a"].item() == pytest.approx(a)
    assert norms["b"].item() == pytest.approx(b)
    assert norms["all"].item() == pytest.approx(whole)
    gradient = parts["a"][1].grad
    assert gradient is not None
    expected = 2.0 if limit is None else 2.0 * limit / (whole + 1e-6)
    assert gradient[0].item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (torch.optim.AdamW, {"fused": True, "weight_decay": 0.1}),
        (torch.optim.AdamW, {"foreach": True, "weight_decay": 0.1}),
        (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    ],
)
def test_a_skipped_step_changes_nothing_at_all(cls: Any, settings: dict[str, Any]) -> None:
    """Neither weights nor moments nor Adam's count: as if the batch hadn't been."""

    def train(*scales: float) -> list[torch.Tensor]:
        parts = parameters()
        everything = [p for part in parts.values() for p in part]
        optimizer, guard = cls(everything, lr=0.1, **settings), GradientGuard(10)
        for scale in scales:
            set_gradients(parts, scale)
            guard.apply(optimizer, parts, 1.0)
            optimizer.step()
        assert guard.skipped == sum(scale != scale for scale in scales)
        return [p.detach() for p in everything]

    nan = float("nan")
    for ours, theirs in zip(train(1.0, nan, nan, 3.0), train(1.0, 3.0), strict=True):
        assert torch.equal(ours, theirs)


def test_only_a_row_of_them_is_too_much() -> None:
    parts = parameters()
    optimizer = torch.optim.SGD([p for part in parts.values() for p in part], lr=0.1)
    guard = GradientGuard(2)
    verdicts = []
    for scale in (float("inf"), float("nan"), 1.0, float("nan"), float("nan"), float("nan")):
        set_gradients(parts, scale)
        guard.apply(optimizer, parts, None)
        verdicts.append(guard.is_too_much())
    assert verdicts == [False] * 5 + [True]
    again = GradientGuard(2)
    again.restore(guard.state())
    assert (again.in_a_row, again.skipped) == (3, 5)
    with pytest.raises(ValueError, match=r"max_skipped must be an integer of at least 0"):
        GradientGuard(-1)
