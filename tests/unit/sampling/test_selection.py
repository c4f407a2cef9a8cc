"""Selection against sorting: the same choice, and as few tokens denoised as that takes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bigr.sampling.selection import confidence, highest, select


def test_confidence() -> None:
    probs = torch.tensor([[0.0, 1.0], [0.5, 0.5], [0.75, 0.5]])
    assert confidence(probs).tolist() == [1.0, 0.0, 0.25]


def test_highest_prefers_the_lower_index() -> None:
    scores = torch.tensor([[1.0, 2.0, 2.0, 2.0], [5.0, 1.0, 0.0, 9.0]])
    is_candidate = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]).bool()
    chosen = highest(scores, is_candidate, torch.tensor([2, 1]))
    assert chosen.tolist() == [[False, True, True, False], [True, False, False, False]]


@pytest.mark.parametrize("has_scores", [False, True])
@pytest.mark.parametrize("uses_confidence", [False, True])
def test_the_same_as_sorting(has_scores: bool, uses_confidence: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        probs = torch.rand(3 * 24, 5, generator=generator)
        scores = torch.rand(3, 24, generator=generator) * 2 if has_scores else None
        is_masked = torch.rand(3, 24, generator=generator) < 0.7
        counts = [0, 3, int(is_masked[2].sum())]
        denoised: list[int] = []

        def denoise(tokens: Tensor, probs: Tensor = probs, seen: list[int] = denoised) -> Tensor:
            seen.extend(tokens.tolist())
            return probs[tokens]

        tokens, found = select(denoise, scores, is_masked, counts, uses_confidence=uses_confidence)
        expected = []
        for image in range(3):
            totals = {}
            for n in range(24):
                if is_masked[image, n]:
                    certainty = float((2 * probs[24 * image + n] - 1).abs().mean())
                    own = 0.0 if scores is None else float(scores[image, n])
                    totals[24 * image + n] = own + certainty * uses_confidence
            expected += sorted(totals, key=lambda n: -totals[n])[: counts[image]]
        assert tokens.tolist() == sorted(expected)
        assert torch.equal(found, probs[tokens])
        assert len(denoised) == len(set(denoised))
        assert set(tokens.tolist()) <= set(denoised)
        if not uses_confidence:
            assert len(denoised) == sum(counts)


def test_tokens_without_a_chance_are_not_denoised() -> None:
    """A head start of 3 over all others cannot be made up by a confidence of at most 1."""
    scores = torch.zeros(1, 100)
    scores[0, :5] = 3.0
    seen: list[int] = []

    def denoise(tokens: Tensor) -> Tensor:
        seen.extend(tokens.tolist())
        return torch.full((len(tokens), 2), 0.6)

    tokens, _ = select(
        denoise, scores, torch.ones(1, 100, dtype=torch.bool), [5], uses_confidence=True
    )
    assert tokens.tolist() == [0, 1, 2, 3, 4]
    assert len(seen) == 8
