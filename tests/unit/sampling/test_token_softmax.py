"""Values drawn bit by bit have the probabilities of the softmax."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy import stats

from bigr.models.categorical import group_values
from bigr.sampling.random_numbers import SeededNoise
from bigr.sampling.token_softmax import TokenSoftmax, conditional_bits
from tests.models import tiny_generator

CODES = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)))


def test_every_value_has_its_probability() -> None:
    """The bits of each value, forced by the numbers, have the product that the softmax has."""
    logits = torch.randn(1, 16, generator=torch.Generator().manual_seed(0)).expand(16, -1)
    probs, bits = conditional_bits(logits, 1.0 - CODES)  # a number of 0 draws a 1
    assert torch.equal(bits, CODES)
    joint = torch.where(CODES == 1, probs, 1 - probs).prod(dim=1)
    torch.testing.assert_close(joint, logits[0].softmax(dim=0))


@pytest.mark.parametrize("code_dim", [4, 14])
def test_draws_have_the_distribution_of_the_loss(code_dim: int) -> None:
    """20,000 tokens with the same condition, chi-squared over the most likely values."""
    model = tiny_generator(objective="categorical", code_dim=code_dim)
    condition = torch.randn(1, 32, generator=torch.Generator().manual_seed(1))
    count = 20_000
    noise = SeededNoise(torch.arange(count // 16), 16, code_dim, torch.device("cpu"))
    tokens = torch.arange(count)
    softmax = TokenSoftmax(model.transcoder)
    settings = {"iteration": 1, "guidance_scale": 1.0, "temperature": 1.0}
    conditions = condition[None].expand(1, count, -1)
    with torch.no_grad():
        probs = softmax.bit_probs(conditions, tokens, noise, **settings)
        codes = (noise.bit_uniforms(1, tokens.new_zeros(1), tokens)[0] < probs).float()
        everything = torch.tensor(list(itertools.product((0.0, 1.0), repeat=code_dim)))
        one = torch.ones(len(everything), dtype=torch.int64)
        losses = model.transcoder.token_loss(
            everything, one, everything, condition.expand(len(everything), -1)
        ).loss
    expected = (-code_dim * losses.double()).exp() * count
    observed = torch.bincount(group_values(codes, 1)[:, 0], minlength=len(everything)).double()
    is_common = expected > 20
    assert 3 < is_common.sum() < 1000
    table = [[*values[is_common], values[~is_common].sum()] for values in (observed, expected)]
    scaled = torch.tensor(table[1]) * (sum(table[0]) / sum(table[1]))
    assert stats.chisquare(table[0], scaled).pvalue > 1e-3


@torch.no_grad()
def test_guidance_and_temperature() -> None:
    """l = (l_uncond + s (l_cond - l_uncond)) / T, as in a softmax written out."""
    model = tiny_generator(objective="categorical", code_dim=4)
    pair = torch.randn(2, 1, 32, generator=torch.Generator().manual_seed(2))
    noise = SeededNoise(torch.tensor([5]), 1, 4, torch.device("cpu"))
    probs = TokenSoftmax(model.transcoder).bit_probs(
        pair, torch.tensor([0]), noise, iteration=3, guidance_scale=2.5, temperature=0.7
    )
    conditional, unconditional = model.transcoder.logits(torch.zeros(2, 4), pair[:, 0])[:, 0]
    joint = ((unconditional + 2.5 * (conditional - unconditional)) / 0.7).softmax(dim=0)
    first = joint[CODES[:, 0] == 1].sum()
    assert probs[0, 0].item() == pytest.approx(first.item(), rel=1e-5)
    assert TokenSoftmax(model.transcoder).times.shape == (1, 24)
