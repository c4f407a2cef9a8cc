"""The softmax against PyTorch's cross-entropy on enumerated values, and as a distribution."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from bigr.models.categorical import group_values, value_bits
from tests import plain
from tests.models import tiny_generator
from tests.numbers import relative_error


def test_values_are_those_of_an_enumeration() -> None:
    codes = list(itertools.product((0, 1), repeat=4))
    bits = torch.tensor(codes)
    assert group_values(bits, 1).tolist() == [[codes.index(code)] for code in codes]
    pairs = list(itertools.product((0, 1), repeat=2))
    expected = [[pairs.index(code[:2]), pairs.index(code[2:])] for code in codes]
    assert group_values(bits, 2).tolist() == expected
    assert torch.equal(value_bits(torch.arange(16), 4), bits)


@pytest.mark.parametrize("code_dim", [6, 14])
def test_loss_is_the_cross_entropy_of_enumerated_values(code_dim: int) -> None:
    """In float64; 14 bits are two groups, and the second one sees the bits of the first."""
    model = tiny_generator(objective="categorical", code_dim=code_dim)
    groups = model.config.num_groups
    size = code_dim // groups
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    condition, codes = torch.randn(7, model.config.dim), torch.randint(0, 2, (7, code_dim)).float()
    t, noise = torch.ones(7, dtype=torch.int64), torch.rand(7, code_dim)
    outcome = model.transcoder.token_loss(codes, t, noise, condition)

    values = list(itertools.product((0, 1), repeat=size))
    expected, correct = torch.zeros(7, dtype=torch.float64), torch.zeros(7)
    for group in range(groups):
        seen = torch.full((7, code_dim), 0.5, dtype=torch.float64)
        seen[:, : group * size] = codes[:, : group * size].double()
        logits = plain.denoiser(weights, model.config, seen, t + group, condition.double())
        own = codes[:, group * size :][:, :size].int()
        targets = torch.tensor([values.index(tuple(row)) for row in own.tolist()])
        expected += F.cross_entropy(logits, targets, reduction="none")
        guesses = torch.tensor([values[index] for index in logits.argmax(1).tolist()])
        correct += (guesses == own).sum(dim=1)
    assert relative_error(outcome.loss.double() * code_dim, expected) < 1e-5
    torch.testing.assert_close(outcome.accuracy, correct / code_dim)


@torch.no_grad()
def test_probabilities_of_all_codes_sum_to_one() -> None:
    """Of two groups together, which a fault in what a group sees would change."""
    model = tiny_generator(objective="categorical", code_dim=14)
    codes = torch.tensor(list(itertools.product((0.0, 1.0), repeat=14)))
    condition = torch.randn(1, model.config.dim).expand(len(codes), -1)
    t = torch.ones(len(codes), dtype=torch.int64)
    losses = model.transcoder.token_loss(codes, t, codes, condition).loss
    assert (-14 * losses.double()).exp().sum().item() == pytest.approx(1.0, abs=1e-4)


def test_groups_do_not_see_their_own_bits() -> None:
    transcoder = tiny_generator(objective="categorical", code_dim=14).transcoder
    codes = torch.rand(1, 14, requires_grad=True)
    logits = transcoder.logits(codes, torch.randn(1, 32))
    for group, seen in enumerate((0, 7)):
        (gradient,) = torch.autograd.grad(logits[0, group, 5], codes, retain_graph=True)
        assert (gradient[0] != 0).tolist() == [bit < seen for bit in range(14)]


@pytest.mark.parametrize("masked_only", [False, True])
def test_training_reaches_every_parameter(masked_only: bool) -> None:
    model = tiny_generator(objective="categorical")
    codes = torch.randint(0, 2, (4, 16, 6)).float()
    draws = model.draw(4, torch.Generator().manual_seed(3))
    model.loss(
        codes, torch.tensor([0, 1, 2, 0]), draws=draws, masked_only=masked_only
    ).loss.backward()
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        if name != "transcoder.denoiser.input.weight":  # the only group sees no bits
            assert gradient.abs().sum() > 0, name
