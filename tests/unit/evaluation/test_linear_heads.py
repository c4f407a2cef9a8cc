"""The linear probe's heads against scikit-learn, single training and a formula."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from bigr.data.digits import load_digits
from bigr.evaluation.linear_heads import HeadSettings, LinearHeads

CPU = torch.device("cpu")
SETTINGS = HeadSettings(
    learning_rates=(0.03, 0.1, 0.3), optimizer="sgd", epochs=60, warmup_epochs=5, batch_size=128
)


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    train, test = (load_digits(split, 8) for split in ("train", "test"))  # type: ignore[arg-type]
    x, y = (part.images[:, 0].flatten(1) for part in (train, test))
    return x, train.labels, y, test.labels


def test_as_good_as_logistic_regression() -> None:
    x, labels, y, expected = digits()
    mean, std = x.mean(0), x.std(0).clamp_min(1e-3)
    regression = LogisticRegression(max_iter=2000)
    regression.fit(((x - mean) / std).numpy(), labels.numpy())
    theirs = regression.score(((y - mean) / std).numpy(), expected.numpy())
    heads = LinearHeads(64, 10, SETTINGS, CPU)
    heads.fit(x, labels)
    scores = heads.score(y, expected)
    assert theirs > 0.95
    assert scores.top1[scores.best] >= theirs - 0.01
    assert all(top5 >= top1 for top1, top5 in zip(scores.top1, scores.top5, strict=True))
    assert scores.top5[scores.best] > 0.99


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_together_as_alone(optimizer: str) -> None:
    """Heads that share their batches get what each would get by itself."""
    x, labels, y, expected = digits()
    changes = {"optimizer": optimizer, "epochs": 3, "warmup_epochs": 1, "weight_decay": 0.01}
    together = LinearHeads(64, 10, dataclasses.replace(SETTINGS, **changes), CPU)
    together.fit(x, labels)
    for index, rate in enumerate(SETTINGS.learning_rates):
        settings = dataclasses.replace(SETTINGS, **changes, learning_rates=(rate,))
        alone = LinearHeads(64, 10, settings, CPU)
        alone.fit(x, labels)
        torch.testing.assert_close(together.weight[index], alone.weight[0], rtol=1e-4, atol=1e-6)
    assert len(set(together.score(y, expected).top1)) > 1


def test_first_steps_are_torchs() -> None:
    """Momentum and warm-up against torch.optim.SGD on a BatchNorm and a linear layer."""
    x, labels, _, _ = digits()
    settings = dataclasses.replace(
        SETTINGS, learning_rates=(0.2,), epochs=1, warmup_epochs=0, batch_size=256
    )
    heads = LinearHeads(64, 10, settings, CPU)
    norm, linear = torch.nn.BatchNorm1d(64, eps=1e-6, affine=False), torch.nn.Linear(64, 10)
    with torch.no_grad():
        linear.weight.copy_(heads.weight[0])
        linear.bias.zero_()
    heads.fit(x, labels)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.2, momentum=0.9)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    steps = len(labels) // 256
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        chosen = order[step * 256 : (step + 1) * 256]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(linear(norm(x[chosen])), labels[chosen]).backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(heads.weight[0], linear.weight, rtol=1e-4, atol=1e-5)


def test_lars_scales_by_norms() -> None:
    x, labels, _, _ = digits()
    settings = HeadSettings(
        learning_rates=(1.0,), epochs=1, warmup_epochs=0, batch_size=len(labels), momentum=0.0
    )
    heads = LinearHeads(64, 10, settings, CPU)
    before = heads.weight.detach().clone()
    heads.fit(x, labels)
    change = (heads.weight - before).norm() / before.norm()
    # One step of |rate * 0.001 * |w| / |g| * g|, the rate scaled by the batch.
    assert float(change) == pytest.approx(0.001 * len(labels) / 256, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rates": ()}, "learning_rates must have at least one number"),
        ({"optimizer": "adam"}, "optimizer must be sgd or lars, got .adam"),
        ({"epochs": 5, "warmup_epochs": 5}, "more than probe.head.warmup_epochs=5"),
        ({"batch_size": 1}, "batch_size must be an integer of at least 2, got 1"),
    ],
)
def test_bad_settings(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SETTINGS, **change)
