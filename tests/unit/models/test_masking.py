"""The training mask."""

from __future__ import annotations

import math

import torch

from bigr.models.masking import draw_training_mask, training_mask_counts


def test_counts_follow_the_cosine() -> None:
    counts = training_mask_counts(256).tolist()
    expected = [max(1, math.floor(256 * math.cos(math.pi / 2 * s / 256))) for s in range(256)]
    assert counts == expected
    assert (counts[0], counts[-1]) == (256, 1)


def test_one_count_per_batch_every_step_equally_likely() -> None:
    counts = training_mask_counts(4)  # 4, 3, 2, 1
    generator = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(4000):
        masked = draw_training_mask(3, counts, generator).sum(dim=1)
        assert masked.unique().numel() == 1
        seen.append(int(masked[0]))
    for count in counts.tolist():
        share = seen.count(count) / len(seen)
        assert abs(share - counts.tolist().count(count) / 4) < 0.03


def test_tokens_are_chosen_uniformly() -> None:
    counts = torch.tensor([2] * 6)
    masks = draw_training_mask(30_000, counts, torch.Generator().manual_seed(0))
    assert torch.allclose(masks.float().mean(0), torch.full((6,), 1 / 3), atol=0.01)
    pairs = torch.stack([(masks[:, 0] & masks[:, j]).float().mean() for j in range(1, 6)])
    assert torch.allclose(pairs, torch.full((5,), 1 / 15), atol=0.006)
