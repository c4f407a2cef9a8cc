"""Pictures of a sampler at work."""

from __future__ import annotations

import torch

from bigr.evaluation.generate import decode
from bigr.evaluation.preview import preview
from bigr.sampling.sampler import Progress
from tests.models import tiny_autoencoder


def test_masked_patches_are_grey() -> None:
    autoencoder = tiny_autoencoder()
    codes = torch.randint(2, (2, 16, 6), generator=torch.Generator().manual_seed(0)).float()
    is_masked = torch.zeros(2, 16, dtype=torch.bool)
    is_masked[0, 6] = True  # row 1, column 2: pixels 2-3 and 4-5
    images = preview(autoencoder, Progress(1, 4, codes, is_masked))
    expected = decode(autoencoder, codes, 2)
    with torch.inference_mode():
        expected[0, :, 2:4, 4:6] = 0.5
    assert torch.equal(images, expected)
