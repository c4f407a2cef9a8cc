"""The generator's training step: codes of a batch, and the same draws on any number of devices."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats

from bigr import BiGRConfig, load_generator
from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.identity import weights_sha256
from bigr.checkpoints.load import check_pair
from bigr.checkpoints.native import save_autoencoder
from bigr.inference.model_defaults import default_sampler
from bigr.models.codes import grid_to_tokens
from bigr.models.training_draws import draw_training
from bigr.sampling.sampler_config import SamplerConfig
from bigr.training.callbacks.weight_export import ExportWeights
from bigr.training.data.batch import Batch
from bigr.training.generator_module import GeneratorModule
from bigr.training.optimizers import adamw
from tests.models import TINY, tiny_autoencoder, tiny_generator
from tests.tiny_training import PairsDataModule, tiny_trainer

LABELS = torch.zeros(4, dtype=torch.int64)


def build(**settings: Any) -> GeneratorModule:
    return GeneratorModule(BiGRConfig(**TINY), functools.partial(adamw, lr=1e-3), **settings)


def test_deterministic_codes_are_the_likelier_bits(tmp_path: Path) -> None:
    autoencoder = tiny_autoencoder()
    path = save_autoencoder(autoencoder, tmp_path / "a.safetensors")
    module = build(autoencoder=str(path), deterministic_codes=True)
    images = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        expected = grid_to_tokens((autoencoder.encode(images) > 0.5).float())
    assert torch.equal(module.codes_of([images, LABELS]), expected)
    assert not any("quantizer" in name for name in module.state_dict())


def test_codes_pass_through_and_images_need_an_autoencoder() -> None:
    codes = torch.randint(0, 2, (4, 16, 6)).float()
    assert torch.equal(build().codes_of(Batch(LABELS, codes=codes)), codes)
    with pytest.raises(ValueError, match=r"set task\.autoencoder"):
        build().codes_of(Batch(LABELS, images=torch.rand(4, 3, 8, 8)))


@pytest.mark.parametrize("levels", [1, 3])
def test_accumulated_batches_give_the_step_of_the_whole_batch(levels: int) -> None:
    """Two batches of 4 change the weights as the 8 images at once would."""
    inputs, labels = PairsDataModule("codes").dataset[:8]
    weights = []
    for accumulated in (1, 2):
        torch.manual_seed(0)
        config = BiGRConfig(**{**TINY, "dropout": 0.0})
        module = GeneratorModule(
            config,
            lambda model: torch.optim.SGD(model.parameters(), lr=1.0),
            levels_per_token=levels,
        )
        parts = zip(labels.chunk(accumulated), inputs.float().chunk(accumulated), strict=True)
        batches: Any = [Batch(label, codes=codes) for label, codes in parts]
        loader = torch.utils.data.DataLoader(batches, batch_size=None)
        tiny_trainer(1, accumulate_grad_batches=accumulated).fit(module, loader)
        weights.append(module.model.state_dict())
        assert module.draws is not None
        assert module.draws.num_levels == levels
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["ant", "bee", "cat"], ("ant", "bee", "cat")),
        (["too", "few"], None),
        (3, None),  # somebody's own data module may mean something else by this word
        (None, None),
    ],
)
def test_class_names_of_the_data(tmp_path: Path, classes: Any, expected: Any) -> None:
    """They are part of checkpoints and of the exported weights."""
    data, module = PairsDataModule("codes"), build()
    data.classes = classes
    trainer = tiny_trainer(1, ExportWeights(str(tmp_path)))
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    for name in ("generator.safetensors", "a.ckpt"):
        assert load_generator(tmp_path / name).settings.class_names == expected


def test_sampler_and_autoencoder_are_remembered(tmp_path: Path) -> None:
    """They are part of checkpoints and exported weights; another B-AE is refused."""
    autoencoder = tiny_autoencoder()
    path = save_autoencoder(autoencoder, tmp_path / "a.safetensors")
    sampler = SamplerConfig(guidance_scale=1.25, order="random")
    module = build(autoencoder=str(path), sampler=sampler)
    trainer = tiny_trainer(1, ExportWeights(str(tmp_path)))
    trainer.fit(module, datamodule=PairsDataModule("codes"))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    for name in ("generator.safetensors", "a.ckpt"):
        generator = load_generator(tmp_path / name)
        assert default_sampler(generator.config, generator.settings) == sampler
        assert generator.settings.autoencoder_sha256 == weights_sha256(autoencoder)
        assert generator.settings.image_size == 8
        check_pair(generator, autoencoder)
        with pytest.raises(CheckpointError, match="another B-AE"):
            check_pair(generator, tiny_autoencoder(seed=1))


def test_parts_are_all_parameters_once() -> None:
    module = build()
    ours = [id(parameter) for part in module.parts().values() for parameter in part]
    assert sorted(ours) == sorted(id(parameter) for parameter in module.model.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compile": "always"}, r"GeneratorModule\.compile must be .*auto"),
        ({"max_skipped_steps": -1}, r"max_skipped_steps must be an integer of at least 0, got -1"),
        ({"seed": 1.5}, r"seed must be an integer of at least 0, got 1\.5"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_flipped_bits_are_input_alone() -> None:
    """A rate of 0 draws what was drawn before; otherwise only the bits of known tokens differ."""
    config = BiGRConfig(**TINY)
    model = tiny_generator()
    codes, labels = torch.randint(2, (4, 16, 6)).float(), torch.tensor([0, 1, 2, 0])
    plain_draws, flipped = (
        draw_training(
            config, 4, num_masked=9, flip_rate=rate, generator=torch.Generator().manual_seed(1)
        )
        for rate in (0.0, 1.0)
    )
    assert plain_draws.is_flipped is None
    assert flipped.is_flipped is not None
    for name in ("is_masked", "is_unconditional", "timesteps", "noise"):
        assert torch.equal(getattr(plain_draws, name), getattr(flipped, name))
    # By hand: the condition of flipped codes, and the loss of clean ones.
    seen = torch.where(flipped.is_flipped, 1.0 - codes, codes)
    condition = model.condition(seen, labels, flipped.is_masked)
    x_0, t = codes.flatten(0, 1), flipped.timesteps.flatten()
    x_t = model.transcoder.noised(x_0, t, flipped.noise.flatten(0, 1))
    losses = model.transcoder.loss(x_0, t, x_t, condition.flatten(0, 1)).loss
    expected = losses[flipped.is_masked.flatten()].mean()
    for masked_only in (True, False):
        outcome = model.loss(codes, labels, draws=flipped, masked_only=masked_only)
        torch.testing.assert_close(outcome.loss, expected)
    assert abs(model.loss(codes, labels, draws=plain_draws).loss - expected) > 1e-3
    part = flipped.rows(slice(1, 3)).is_flipped
    assert part is not None
    assert torch.equal(part, flipped.is_flipped[1:3])


def test_flip_rates_are_drawn_for_each_image() -> None:
    """Their mean is half of the highest rate, and they are spread evenly up to it."""
    config = BiGRConfig(**{**TINY, "grid_size": 16})
    generator = torch.Generator().manual_seed(2)
    draws = draw_training(config, 400, num_masked=9, flip_rate=0.3, generator=generator)
    assert draws.is_flipped is not None
    rates = draws.is_flipped.float().mean(dim=(1, 2))
    assert stats.kstest(rates.numpy(), "uniform", (0.0, 0.3)).pvalue > 0.01


def test_the_direct_objective_has_one_noise_level() -> None:
    config = BiGRConfig(**{**TINY, "objective": "direct"})
    with pytest.raises(ValueError, match=r"task\.levels_per_token must be 1 with model\.objective"):
        GeneratorModule(config, functools.partial(adamw, lr=1e-3), levels_per_token=2)
