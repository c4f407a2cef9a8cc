"""The closed form against brute force over every path of the Markov chain."""

from __future__ import annotations

import itertools

import pytest
import torch

from bigr.models.noise_schedule import (
    denoising_steps,
    keep_probability,
    noised_bit_probs,
    posterior_bit_probs,
)
from tests import plain

T = 8


def path_probability(path: tuple[int, ...], p0: float) -> float:
    """P(x_0, x_1, …, x_t) of one bit: x_0 ~ Bernoulli(p0), each step keeps or redraws."""
    probability = p0 if path[0] else 1 - p0
    for t, (before, after) in enumerate(itertools.pairwise(path), start=1):
        kept = 1.0 - 1.0 / (T - t + 1)
        probability *= kept * (before == after) + (1 - kept) / 2
    return probability


def paths(t: int) -> itertools.product[tuple[int, ...]]:
    return itertools.product((0, 1), repeat=t + 1)


@pytest.mark.parametrize("p0", [0.0, 0.03, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("t", range(1, T + 1))
def test_posterior_is_that_of_the_chain(p0: float, t: int) -> None:
    """P(x_{t'} = 1 | x_t) by summing over every path of the bit, for all t' < t."""
    for t_next, x_t in itertools.product(range(t), (0, 1)):
        ending = [path for path in paths(t) if path[-1] == x_t]
        total = sum(path_probability(path, p0) for path in ending)
        if total == 0.0:
            continue
        ones = sum(path_probability(path, p0) for path in ending if path[t_next] == 1)
        actual = posterior_bit_probs(
            torch.tensor([[p0]], dtype=torch.float64),
            torch.tensor([[float(x_t)]], dtype=torch.float64),
            float(keep_probability(t_next, T)),
            float(keep_probability(t, T, since=t_next)),
        )
        assert actual.item() == pytest.approx(ones / total, abs=1e-6)


@pytest.mark.parametrize("t", range(1, T + 1))
def test_noise_is_that_of_the_chain(t: int) -> None:
    for x_0 in (0, 1):
        brute = sum(path_probability(p, float(x_0)) for p in paths(t) if p[-1] == 1)
        actual = noised_bit_probs(torch.tensor([[float(x_0)]]), keep_probability(t, T))
        assert actual.item() == pytest.approx(brute, abs=1e-6)


def test_keep_probability_is_the_product_of_steps() -> None:
    for since, until in itertools.combinations(range(257), 2):
        if (since * 7 + until) % 53 == 0:
            expected = plain.keep(since, until, 256)
            assert float(keep_probability(until, 256, since=since)) == pytest.approx(
                expected, abs=1e-6
            )


@pytest.mark.parametrize("count", [2, 3, 10, 25, 30, 50, 100, 255, 256])
def test_denoising_steps(count: int) -> None:
    steps = denoising_steps(count, 256)
    if count < 256:  # at 256 the formula's rounding would visit a level twice
        assert steps == plain.levels(count, 256)
    assert len(steps) == count
    assert (steps[0], steps[-1]) == (256, 1)
    assert all(before > after for before, after in itertools.pairwise(steps))


@pytest.mark.parametrize("count", [2, 3, 10, 50, 200, 255, 256])
def test_quadratic_steps(count: int) -> None:
    """All distinct; where there is room for them, the squares."""
    steps = denoising_steps(count, 256, "quadratic")
    assert len(set(steps)) == count
    assert steps == sorted(steps, reverse=True)
    assert (steps[0], steps[-1]) == (256, 1)
    if 10 <= count < 255:
        even = denoising_steps(count, 256)
        assert sum(steps) < sum(even) - 20
    if count == 10:
        assert steps == [256, *(1 + 255 * i * i // 81 for i in range(8, -1, -1))]


@pytest.mark.parametrize("count", [1, 257])
def test_impossible_step_counts(count: int) -> None:
    with pytest.raises(ValueError, match="num_denoise_steps must be between 2"):
        denoising_steps(count, 256)
