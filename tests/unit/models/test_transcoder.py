"""The binary transcoder against formulas for single bits."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from bigr.models.transcoder import BinaryTranscoder
from tests import plain
from tests.models import tiny_generator
from tests.numbers import relative_error

T = 8
OBJECTIVES = ("flip", "x0", "direct")


def posterior(p0: float, x_t: int, t: int) -> float:
    """P(x_{t-1} = 1 | x_t), by Bayes over the four values of (x_0, x_{t-1}).

    The released code adds 1e-6 to the denominator.
    """
    joint = [0.0, 0.0]
    for x_0, earlier in itertools.product((0, 1), repeat=2):
        prior = p0 if x_0 else 1 - p0
        kept, step = plain.keep(0, t - 1, T), plain.beta(t, T)
        to_earlier = kept * (earlier == x_0) + (1 - kept) / 2
        to_now = step * (x_t == earlier) + (1 - step) / 2
        joint[earlier] += prior * to_earlier * to_now
    return joint[1] / (sum(joint) + 1e-6)


@pytest.mark.parametrize("t", range(1, T + 1))
def test_posterior_cross_entropy(t: int) -> None:
    """Between the true and the predicted x_{t-1}; at t = 1, it is predicted as x_0."""
    transcoder = tiny_generator(num_diffusion_steps=T).transcoder
    for p0, x_0, x_t in itertools.product((0.1, 0.7), (0, 1), (0, 1)):
        true, predicted = posterior(x_0, x_t, t), posterior(p0, x_t, t)
        if t == 1:
            predicted = p0
        expected = -(true * math.log(predicted) + (1 - true) * math.log(1 - predicted))
        bits = (torch.full((1, 6), float(value)) for value in (p0, x_0, x_t))
        probs, clean, noisy = bits
        actual = transcoder.posterior_cross_entropy(probs, clean, torch.tensor([t]), noisy)
        torch.testing.assert_close(actual, torch.full((1, 6), expected), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("auxiliary_weight", [0.0, 0.3])
@pytest.mark.parametrize("weighted_loss", [True, False])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_loss_of_every_bit(objective: str, weighted_loss: bool, auxiliary_weight: float) -> None:
    """BCE bit by bit, in Python, from the logits of the plain denoiser."""
    if objective == "direct" and auxiliary_weight:
        pytest.skip("without diffusion there is no posterior")
    model = tiny_generator(
        objective=objective, weighted_loss=weighted_loss, auxiliary_weight=auxiliary_weight,
        num_diffusion_steps=T,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    x_0, x_t = torch.randint(2, (2, 10, 6), generator=generator).float()
    t = torch.full((10,), T) if objective == "direct" else torch.arange(10) % T + 1
    condition = torch.randn(10, model.config.dim, generator=generator)
    bits = model.transcoder.loss(x_0, t, x_t, condition)
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    seen = torch.ones_like(x_t) if objective == "direct" else x_t
    logits = plain.denoiser(weights, model.config, seen.double(), t, condition.double())
    for row, column in itertools.product(range(10), range(6)):
        clean, noisy = int(x_0[row, column]), int(x_t[row, column])
        is_flip = objective == "flip"
        targets = (x_0[row] != x_t[row]).double() if is_flip else x_0[row].double()
        target, share = targets[column].item(), targets.mean().item()
        prob = 1 / (1 + math.exp(-logits[row, column]))
        expected = -math.log(prob if target else 1 - prob)
        if weighted_loss:
            expected *= (1 - share if target else share) + 1 / 6
        clean_prob = abs(noisy - prob) if is_flip else prob
        if auxiliary_weight:
            level = int(t[row])
            true, found = posterior(clean, noisy, level), posterior(clean_prob, noisy, level)
            if level == 1:
                found = clean_prob
            found = min(max(found, 1e-6), 1 - 1e-6)  # so that no logarithm is infinite
            expected -= 0.3 * (true * math.log(found) + (1 - true) * math.log(1 - found))
        assert bits.loss[row, column].item() == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert bool(bits.is_correct[row, column]) == ((clean_prob > 0.5) == (clean == 1))


def test_noisy_bits_have_the_probabilities_of_the_chain() -> None:
    """A bit of 1 stays 1 with k_t + (1 - k_t) / 2, where k_t is the product of T steps."""
    transcoder = tiny_generator(num_diffusion_steps=T).transcoder
    grid = (torch.arange(600).float() + 0.5).view(100, 6) / 600  # uniform numbers, evenly spaced
    for t, bit in itertools.product(range(1, T + 1), (0, 1)):
        x_t = transcoder.noised(torch.full((100, 6), float(bit)), torch.full((100,), t), grid)
        kept = plain.keep(0, t, T)
        assert x_t.mean().item() == pytest.approx(kept * bit + (1 - kept) / 2, abs=2e-3)


def test_direct_prediction_sees_no_bits() -> None:
    transcoder = tiny_generator(objective="direct").transcoder
    assert torch.equal(transcoder.signed_input(torch.zeros(2, 6)), torch.ones(2, 6))
    logits = torch.randn(2, 6)
    assert torch.equal(transcoder.clean_logits(logits, torch.ones(2, 6)), logits)
    flip = tiny_generator().transcoder
    assert relative_error(flip.clean_logits(logits, -torch.ones(2, 6)), logits) == 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_learns_from_its_initial_weights(objective: str) -> None:
    """The layers that start at zero must not keep all others without a gradient for ever.

    The bits are the signs of the condition, so that their entropy given the condition is zero.
    """
    torch.manual_seed(0)
    transcoder = BinaryTranscoder(tiny_generator(objective=objective).config)
    dim, bits = transcoder.config.dim, transcoder.config.code_dim
    levels = transcoder.config.num_diffusion_steps
    optimizer = torch.optim.Adam(transcoder.parameters(), lr=1e-2)
    for _ in range(200):
        condition = torch.randn(128, dim)
        x_0 = (condition[:, :bits] > 0).float()
        t = torch.randint(1, levels + 1, (128,))
        x_t = transcoder.noised(x_0, t, torch.rand(128, bits))
        found = transcoder.loss(x_0, t, x_t, condition)
        optimizer.zero_grad()
        found.loss.mean().backward()
        optimizer.step()
    assert all(parameter.grad is not None for parameter in transcoder.parameters())
    assert found.is_correct.float().mean() > 0.8, "a coin flip is right in half of the cases"
