"""Random numbers of an image: uniform, independent, and nobody else's business."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from bigr.sampling.random_numbers import SeededNoise, _mix, gumbel, image_seeds

CPU = torch.device("cpu")


def noise(seeds: list[int], tokens: int = 64, bits: int = 24) -> SeededNoise:
    return SeededNoise(torch.tensor(seeds), tokens, bits, CPU)


def everything(source: SeededNoise, steps: int, tokens: int = 64) -> torch.Tensor:
    everyone = torch.arange(tokens)
    return torch.stack([source.bit_uniforms(1, step, everyone) for step in range(steps)])


def test_hash_is_splitmix64() -> None:
    """First outputs of SplitMix64 for seed 1234567, as published with the generator."""
    golden = -7046029254386353131
    states = torch.tensor([1234567], dtype=torch.int64) + golden * torch.arange(1, 6)
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [value % 2**64 for value in _mix(states).tolist()] == expected


def test_bit_uniforms_are_uniform() -> None:
    values = everything(noise([7]), 200).flatten().double()
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values[:100_000].numpy(), "uniform").pvalue > 1e-3
    assert values.mean().item() == pytest.approx(0.5, abs=0.002)


@pytest.mark.parametrize("axis", ["step", "token", "bit", "image"])
def test_neighbours_are_uncorrelated(axis: str) -> None:
    draws = torch.stack([everything(noise([seed]), 40) for seed in range(4)]).double()
    dimension = {"image": 0, "step": 1, "token": 2, "bit": 3}[axis]
    first = draws.narrow(dimension, 0, draws.shape[dimension] - 1).flatten()
    second = draws.narrow(dimension, 1, draws.shape[dimension] - 1).flatten()
    correlation = torch.corrcoef(torch.stack([first, second]))[0, 1].item()
    assert abs(correlation) < 4 / len(first) ** 0.5


def test_an_image_has_its_own_numbers() -> None:
    """They depend on its seed, not on its place in the batch or on which tokens are asked for."""
    together = noise([5, 9, 2])
    alone = noise([9])
    some = torch.tensor([3, 60])
    expected = alone.bit_uniforms(4, 2, some)
    assert torch.equal(together.bit_uniforms(4, 2, 64 + some), expected)
    assert torch.equal(together.order_uniforms(3)[1], alone.order_uniforms(3)[0])
    assert not torch.equal(together.bit_uniforms(4, 2, some), expected)
    assert not torch.equal(alone.bit_uniforms(5, 2, some), expected)
    assert not torch.equal(alone.bit_uniforms(4, 3, some), expected)


def test_order_uniforms_give_gumbel_noise() -> None:
    source = noise(list(range(300)))
    uniforms = source.order_uniforms(2).flatten()
    assert uniforms.min() > 0
    assert uniforms.max() < 1
    values = gumbel(uniforms).double()
    assert torch.isfinite(values).all()
    assert stats.kstest(values.numpy(), "gumbel_r").pvalue > 1e-3


def test_image_seeds() -> None:
    assert image_seeds(3, seeds=range(5, 8)).tolist() == [5, 6, 7]
    first = image_seeds(4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(first, image_seeds(4, generator=torch.Generator().manual_seed(1)))
    assert first.unique().numel() == 4
    with pytest.raises(ValueError, match="3 images need 3 seeds, got 2"):
        image_seeds(3, seeds=[1, 2])
    with pytest.raises(ValueError, match="give either generator or seeds"):
        image_seeds(1, seeds=[1], generator=torch.Generator())
    with pytest.raises(ValueError, match="seeds must lie in"):
        image_seeds(1, seeds=[-1])
