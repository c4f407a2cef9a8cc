"""Random numbers of an image: uniform, independent, and nobody else's business."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from bigr.sampling.gumbel import gumbel
from bigr.sampling.random_numbers import SeededNoise, image_seeds, splitmix64

CPU = torch.device("cpu")
THIRD = torch.tensor([3])


def noise(seeds: list[int], tokens: int = 64, bits: int = 24) -> SeededNoise:
    return SeededNoise(torch.tensor(seeds), tokens, bits, CPU)


def everything(source: SeededNoise, steps: int, tokens: int = 64) -> torch.Tensor:
    everyone = torch.arange(tokens)
    return source.bit_uniforms(1, torch.arange(1, steps + 1), everyone)


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
    assert [value % 2**64 for value in splitmix64(states).tolist()] == expected


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
    expected = alone.bit_uniforms(4, THIRD, some)
    assert torch.equal(together.bit_uniforms(4, THIRD, 64 + some), expected)
    assert torch.equal(together.order_uniforms(3)[1], alone.order_uniforms(3)[0])
    assert not torch.equal(together.bit_uniforms(4, THIRD, some), expected)
    assert not torch.equal(alone.bit_uniforms(5, THIRD, some), expected)
    assert not torch.equal(alone.bit_uniforms(4, THIRD + 1, some), expected)


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
    with pytest.raises(ValueError, match="a list with a number for each image, got 7"):
        image_seeds(1, seeds=7)  # type: ignore[arg-type]


def test_seeds_from_generators() -> None:
    """One draws the seeds one after the other, whatever their number; several draw one each."""

    def generator(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    numbers = image_seeds(40, generator=generator(1))
    one = generator(1)
    assert [int(torch.randint(2**62, (1,), generator=one)) for _ in range(40)] == numbers.tolist()
    each = image_seeds(2, generator=[generator(3), generator(1)])
    assert each.tolist() == [int(image_seeds(1, generator=generator(3))), int(numbers[0])]
    with pytest.raises(ValueError, match="2 images need one generator, or 2, got 3"):
        image_seeds(2, generator=[generator(seed) for seed in range(3)])


def splitmix(word: int) -> int:
    """SplitMix64's finalizer in Python's unbounded integers."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
    return word ^ (word >> 31)


def test_numbers_are_the_hash_of_their_coordinates() -> None:
    """A second implementation, one number at a time."""
    golden = 0x9E3779B97F4A7C15

    def draw_word(purpose: int, iteration: int, draw: int) -> int:
        word = 0
        for part in (purpose, iteration, draw):
            word = splitmix((word + (part + 1) * golden) % 2**64)
        return word

    def token_word(seed: int, token: int) -> int:
        image = splitmix((seed + golden) % 2**64)
        return splitmix((image + (token + 1) * golden) % 2**64)

    seed, tokens, bits, iteration = 2**63 - 5, 3, 4, 7
    source = noise([seed], tokens, bits)
    actual = source.bit_uniforms(iteration, torch.tensor([0, 9]), torch.arange(tokens))
    for row, draw in enumerate((0, 9)):
        for token in range(tokens):
            for bit in range(bits):
                word = token_word(seed, token) + draw_word(0, iteration, draw)
                word = splitmix((word + (bit + 1) * golden) % 2**64)
                assert float(actual[row, token, bit]) == (word >> 40) / 2**24
    for token, value in enumerate(source.order_uniforms(iteration)[0].tolist()):
        word = splitmix((token_word(seed, token) + draw_word(1, iteration, 0)) % 2**64)
        assert value == ((word >> 41) + 0.5) / 2**23
