"""What is drawn while training."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from PIL import Image

from bigr import BiGRConfig, SamplerConfig
from bigr.training.autoencoder_module import AutoencoderModule
from bigr.training.callbacks.pictures import PictureCallback, ReconstructionGrid, SampleGrid
from bigr.training.generator_module import GeneratorModule
from bigr.training.optimizers import adamw
from tests.models import TINY, tiny_autoencoder
from tests.tiny_training import LinearModule

SAMPLER = SamplerConfig(num_iterations=2, num_denoise_steps=3)


class Grey(PictureCallback):
    """Draws random numbers, as a user's own callback might."""

    def images(self, module: lightning.LightningModule, batch: Any) -> torch.Tensor:
        return torch.rand(4, 3, 64, 64)


def test_once_per_validation_and_without_touching_the_random_state(tmp_path: Path) -> None:
    trainer: Any = SimpleNamespace(
        is_global_zero=True, sanity_checking=False, global_step=70, loggers=[]
    )
    callback, module = Grey("grey", str(tmp_path), 2), LinearModule()
    state = torch.get_rng_state()
    for batch_idx in range(3):
        callback.on_validation_batch_end(trainer, module, None, None, batch_idx)
    assert torch.equal(torch.get_rng_state(), state)
    (path,) = tmp_path.iterdir()
    assert path.name == "grey_0000070.png"
    assert np.asarray(Image.open(path)).std() > 10
    trainer.sanity_checking, trainer.global_step = True, 80
    callback.on_validation_batch_end(trainer, module, None, None, 0)
    assert len(list(tmp_path.iterdir())) == 1


def test_reconstructions_alternate_with_originals() -> None:
    sizes = tiny_autoencoder().config
    module = AutoencoderModule(sizes, functools.partial(torch.optim.Adam, lr=1e-3)).eval()
    originals = torch.rand(5, 3, 8, 8)
    with torch.inference_mode():
        drawn = ReconstructionGrid(num_images=4, columns=2).images(
            module, [originals, torch.zeros(5, dtype=torch.int64)]
        )
    assert drawn is not None
    assert drawn.shape == (8, 3, 8, 8)
    assert torch.equal(drawn[:2], originals[:2])
    assert torch.equal(drawn[4:6], originals[2:4])


def test_no_samples_without_an_autoencoder(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    module = GeneratorModule(BiGRConfig(**TINY), functools.partial(adamw, lr=1e-3))
    grid = SampleGrid(SAMPLER, num_classes=2, num_per_class=3)
    for _ in range(2):
        assert grid.images(module, None) is None
    assert caplog.messages == ["no pictures of samples: task.autoencoder is not set"]
    assert grid.images(LinearModule(), None) is None
    assert ReconstructionGrid().images(module, None) is None


@pytest.mark.parametrize("name", ["num_classes", "num_per_class"])
def test_impossible_settings(name: str) -> None:
    with pytest.raises(ValueError, match=rf"SampleGrid\.{name} must be a positive integer, got -3"):
        SampleGrid(SAMPLER, **{name: -3})
