"""What an evaluation is given: complete and fitting, or one sentence about what is missing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bigr import SamplerConfig
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.evaluation.evaluator import EvaluationContext, file_state, load_context
from tests.models import tiny_autoencoder, tiny_generator

FAST = SamplerConfig(num_iterations=3, num_denoise_steps=4)


def context(**fields: Any) -> EvaluationContext:
    given = {"generator": tiny_generator(), "autoencoder": tiny_autoencoder(), "sampler": FAST}
    return EvaluationContext(**{**given, **fields})


def test_the_pipeline_is_of_the_same_models() -> None:
    given = context()
    pipeline = given.pipeline(3)
    assert pipeline.models == given.models
    assert pipeline.batch_size == 3
    assert given.device == torch.device("cpu")
    assert context(generator=None).device == torch.device("cpu")


@pytest.mark.parametrize(
    ("fields", "name", "message"),
    [
        ({"generator": None}, "models", "needs a generator: add generator="),
        ({"autoencoder": None}, "models", "needs a B-AE: add autoencoder="),
        ({"autoencoder": None}, "codec", "needs a B-AE: add autoencoder="),
        ({"sampler": SamplerConfig(num_denoise_steps=999)}, "models", "num_denoise_steps must be"),
        ({}, "held_out", "needs validation images"),
        (
            {"data": SimpleNamespace(val_set=[], image_size=16)},
            "held_out",
            "the B-AE is for images of 8 pixels, but data.image_size is 16",
        ),
    ],
)
def test_what_is_missing(fields: dict[str, Any], name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(context(**fields), name)


def test_models_are_read_once_per_state_of_the_files(tmp_path: Path) -> None:
    """Jobs of a sweep share the models; a file that was written anew is read anew."""
    files = [str(tmp_path / f"{kind}.safetensors") for kind in ("generator", "autoencoder")]
    save_generator(tiny_generator(), Path(files[0]))
    save_autoencoder(tiny_autoencoder(), Path(files[1]))
    first = load_context(*files, "cpu", sampler=FAST)
    assert load_context(*files, "cpu").generator is first.generator
    before = file_state(files[0])
    save_generator(tiny_generator(seed=1, num_classes=5), Path(files[0]))
    assert file_state(files[0]) != before
    again = load_context(*files, "cpu").generator
    assert again is not None
    assert again.config.num_classes == 5
    assert load_context(None, files[1], "cpu").generator is None


def test_models_that_do_not_belong_together(tmp_path: Path) -> None:
    save_generator(tiny_generator(code_dim=8), tmp_path / "g.safetensors")
    save_autoencoder(tiny_autoencoder(), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="6"):
        load_context(str(tmp_path / "g.safetensors"), str(tmp_path / "a.safetensors"), "cpu")
