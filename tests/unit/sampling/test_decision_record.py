"""What the recorder remembers is what the sampler did."""

from __future__ import annotations

import pytest
import torch

from bigr.sampling.decision_record import Recorder
from bigr.sampling.sampler import Progress, Sampler
from bigr.sampling.sampler_config import SamplerConfig
from tests.models import tiny_generator

CONFIG = SamplerConfig(num_iterations=4, num_denoise_steps=4, mask_schedule="linear")


@pytest.mark.parametrize("order", ["confidence", "random", "raster"])
def test_as_many_tokens_as_the_schedule_says(order: str) -> None:
    config = SamplerConfig(
        num_iterations=4, num_denoise_steps=4, mask_schedule="linear", order=order
    )
    recorder = Recorder()
    model = tiny_generator()
    Sampler(config).sample(model, torch.tensor([0, 1]), seeds=[0, 1], on_iteration=recorder)
    for row in recorder.order:
        for iteration in range(1, 5):
            left = int((row > iteration).sum())
            assert left == 16 - 4 * iteration
    assert not recorder.confidence.isnan().any()
    if order == "raster":
        assert torch.equal(recorder.order, recorder.order.sort(dim=1).values)


def test_greedy_takes_the_most_certain_first() -> None:
    """Without noise the tokens of the first iteration are the most certain of all, then."""
    config = SamplerConfig(
        num_iterations=2, num_denoise_steps=4, mask_schedule="linear", gumbel_temperature=0.0
    )
    recorder = Recorder()
    Sampler(config).sample(tiny_generator(), torch.tensor([1]), seeds=[3], on_iteration=recorder)
    everything = SamplerConfig(
        num_iterations=1, num_denoise_steps=4, mask_schedule="linear", gumbel_temperature=0.0
    )
    at_once = Recorder()
    Sampler(everything).sample(tiny_generator(), torch.tensor([1]), seeds=[3], on_iteration=at_once)
    is_first = recorder.order[0] == 1
    certainty = at_once.confidence[0]
    assert certainty[is_first].min() >= certainty[~is_first].max()
    torch.testing.assert_close(recorder.confidence[0][is_first], certainty[is_first])


def test_given_tokens_and_several_batches() -> None:
    recorder = Recorder()
    model = tiny_generator()
    is_masked = torch.zeros(1, 16, dtype=torch.bool)
    is_masked[0, 3:7] = True
    Sampler(CONFIG).sample(
        model,
        torch.tensor([0]),
        known_codes=torch.ones(1, 16, 6),
        is_masked=is_masked,
        seeds=[0],
        on_iteration=recorder,
    )
    Sampler(CONFIG).sample(model, torch.tensor([2, 1]), seeds=[1, 2], on_iteration=recorder)
    assert recorder.order.shape == (3, 16)
    assert torch.equal(recorder.order[0] > 0, is_masked[0])
    assert torch.equal(recorder.confidence[0].isnan(), ~is_masked[0])
    assert int((recorder.order[1:] == 0).sum()) == 0


def test_a_batch_that_was_given_up_is_forgotten() -> None:
    recorder = Recorder()
    nothing = torch.full((2, 16), float("nan"))
    recorder(Progress(1, 4, torch.zeros(2, 16, 6), torch.ones(2, 16, dtype=torch.bool), nothing))
    Sampler(CONFIG).sample(tiny_generator(), torch.tensor([2]), seeds=[1], on_iteration=recorder)
    assert recorder.order.shape == (1, 16)
