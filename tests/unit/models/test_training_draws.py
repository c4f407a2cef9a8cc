"""What a training step leaves to chance."""

from __future__ import annotations

import math

import pytest
import torch

from bigr import BiGRConfig
from bigr.models.training_draws import draw_num_masked, draw_training, training_mask_count
from tests.models import TINY, tiny_generator

CONFIG = BiGRConfig(**{**TINY, "class_dropout": 0.25})


def test_counts_follow_the_cosine() -> None:
    counts = [training_mask_count(256, step) for step in range(256)]
    expected = [max(1, math.floor(256 * math.cos(math.pi / 2 * s / 256))) for s in range(256)]
    assert counts == expected
    assert (counts[0], counts[-1]) == (256, 1)


def test_every_step_of_the_cosine_is_equally_likely() -> None:
    counts = [training_mask_count(4, step) for step in range(4)]  # 4, 3, 2, 1
    generator = torch.Generator().manual_seed(0)
    config = BiGRConfig(**{**TINY, "grid_size": 2})
    seen = [draw_num_masked(config, generator) for _ in range(8000)]
    for count in counts:
        assert seen.count(count) / len(seen) == pytest.approx(0.25, abs=0.02)


def test_a_causal_model_predicts_all_tokens() -> None:
    config = BiGRConfig(**{**TINY, "attention": "causal"})
    assert [draw_num_masked(config) for _ in range(5)] == [16] * 5
    assert draw_training(config, 3, num_masked=16).is_masked.all()


def test_tokens_are_chosen_uniformly() -> None:
    config = BiGRConfig(**{**TINY, "grid_size": 2})
    generator = torch.Generator().manual_seed(0)
    masks = draw_training(config, 30_000, num_masked=2, generator=generator).is_masked
    assert (masks.sum(dim=1) == 2).all()
    assert torch.allclose(masks.float().mean(0), torch.full((4,), 1 / 2), atol=0.01)
    pairs = torch.stack([(masks[:, 0] & masks[:, j]).float().mean() for j in range(1, 4)])
    assert torch.allclose(pairs, torch.full((3,), 1 / 6), atol=0.01)


def test_levels_labels_and_noisy_bits() -> None:
    model = tiny_generator()
    generator = torch.Generator().manual_seed(0)
    draws = draw_training(CONFIG, 20_000, num_masked=3, generator=generator)
    assert draws.is_unconditional.float().mean().item() == pytest.approx(0.25, abs=0.01)
    levels = draws.timesteps.flatten()
    assert (int(levels.min()), int(levels.max())) == (1, 256)
    assert torch.bincount(levels, minlength=257)[1:].float().std() < 50  # of 1,250 each
    # q(x_t = 1 | x_0) = k_t x_0 + (1 - k_t) / 2 with k_t = 1 - t/T
    noise = draws.noise.flatten(0, 1)
    for level, probability in ((1, 1 - 1 / 512), (64, 7 / 8), (256, 1 / 2)):
        x_0 = torch.ones(len(noise), 6)
        t = torch.full((len(noise),), level)
        x_t = model.transcoder.noised(x_0, t, noise)
        assert set(x_t.unique().tolist()) == {0.0, 1.0}
        assert x_t.mean().item() == pytest.approx(probability, abs=0.002)
        x_t = model.transcoder.noised(1 - x_0, t, noise)
        assert x_t.mean().item() == pytest.approx(1 - probability, abs=0.002)


def test_several_levels_are_uniform_and_spread_over_the_range() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = draw_training(CONFIG, 5_000, num_masked=3, num_levels=4, generator=generator)
    assert draws.num_levels == 4
    assert draws.noise.shape == (20_000, 16, 6)
    levels = draws.timesteps.unflatten(0, (4, -1)).sort(dim=0).values.flatten(1)  # (4, tokens)
    assert (int(levels.min()), int(levels.max())) == (1, 256)
    assert torch.bincount(levels.flatten(), minlength=257)[1:].float().std() < 50  # of 1,250 each
    for level in draws.timesteps.unflatten(0, (4, -1)):  # each of them, not only all together
        counts = torch.bincount(level.flatten(), minlength=257)[1:].float()
        assert counts.mean() == 312.5
        assert counts.std() < 25
    gaps = levels[1:] - levels[:-1]
    assert (int(gaps.min()), int(gaps.max())) in {(63, 64), (64, 64), (63, 65)}  # rounding
    assert (gaps == 64).float().mean() > 0.99
    assert not torch.equal(draws.noise[:5_000], draws.noise[5_000:10_000])


@pytest.mark.parametrize("num_levels", [1, 3])
def test_rows_and_the_places_of_masked_tokens(num_levels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    draws = draw_training(CONFIG, 6, num_masked=5, num_levels=num_levels, generator=generator)
    some = draws.rows(slice(1, 6, 2))
    assert torch.equal(some.is_masked, draws.is_masked[[1, 3, 5]])
    rows = [6 * level + row for level in range(num_levels) for row in (1, 3, 5)]
    assert torch.equal(some.noise, draws.noise[rows])
    assert torch.equal(some.timesteps, draws.timesteps[rows])
    assert some.num_levels == num_levels
    assert some.num_masked == 5
    for mask, places in zip(draws.is_masked, draws.masked_first(), strict=True):
        assert mask.nonzero().flatten().tolist() == places.tolist()
