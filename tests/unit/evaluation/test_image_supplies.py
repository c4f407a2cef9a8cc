"""Where images come from: the same ones in any batch, and all that they depend on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from bigr.data.digits import LabelledImages
from bigr.data.image_dataset import MemoryImages
from bigr.evaluation.evaluator import EvaluationContext
from bigr.evaluation.image_supplies import FirstImages, GeneratedImages, regroup
from bigr.evaluation.stored_images import DatasetImages
from bigr.sampling.sampler_config import SamplerConfig
from tests.models import tiny_autoencoder, tiny_generator


def stored(num_classes: int = 2) -> DatasetImages:
    images = torch.arange(11)[:, None, None, None].expand(11, 3, 2, 2) / 255
    return DatasetImages(MemoryImages(LabelledImages(images, torch.arange(11) % num_classes), "x"))


@pytest.mark.parametrize("size", [1, 3, 4, 20])
@pytest.mark.parametrize("sizes", [[10], [1] * 10, [3, 4, 3], [8, 2], []])
def test_regroup(size: int, sizes: list[int]) -> None:
    numbers = torch.arange(sum(sizes))
    groups = list(regroup(numbers.split(sizes), size))
    assert [len(group) for group in groups] == [
        min(size, len(numbers) - start) for start in range(0, len(numbers), size)
    ]
    if groups:
        assert torch.equal(torch.cat(groups), numbers)


def test_regroup_waits_for_nothing_that_it_does_not_need() -> None:
    """A group is yielded as soon as it is complete, so that progress is visible."""
    taken = []

    def batches() -> Iterator[Tensor]:
        for index in range(3):
            taken.append(index)
            yield torch.full((2,), index)

    first = next(regroup(batches(), 2))
    assert first.tolist() == [0, 0]
    assert taken == [0]


def test_the_first_images_of_a_set() -> None:
    supply = FirstImages(stored(), "samples=x", count=8, batch_size=3)
    assert (supply.count, supply.image_size) == (8, 2)
    assert supply.labels is not None
    assert supply.labels.tolist() == [0, 1] * 4
    batches = list(supply.batches(range(1, 8)))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert torch.cat(batches)[:, 0, 0, 0].tolist() == list(range(1, 8))
    assert FirstImages(stored(num_classes=1), "samples=x").labels is None
    assert FirstImages(stored(), "samples=x").count == 11
    with pytest.raises(ValueError, match=r"samples=x has 11 images, but evaluation\.count=12"):
        FirstImages(stored(), "samples=x", count=12)


def test_generated_images_do_not_depend_on_the_batch() -> None:
    context = EvaluationContext(
        tiny_generator(), tiny_autoencoder(), SamplerConfig(num_iterations=2, num_denoise_steps=2)
    )
    whole = GeneratedImages(context, 6, seed=5, batch_size=6)
    single = GeneratedImages(context, 6, seed=5, batch_size=1)
    images = torch.cat(list(whole.batches(range(6))))
    assert images.dtype == torch.uint8
    assert torch.equal(images[2:5], torch.cat(list(single.batches(range(2, 5)))))
    assert whole.identity() == single.identity()
    assert whole.identity() != GeneratedImages(context, 6, seed=6).identity()
