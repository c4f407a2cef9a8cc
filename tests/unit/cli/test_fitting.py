"""The plan of ``bigr.fit``: commands that compose and fit together."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from bigr import convert, load_autoencoder
from bigr.checkpoints.identity import weights_sha256
from bigr.cli.configuration import config_dir, register_resolvers
from bigr.cli.entry import quote_numbers
from bigr.cli.fit_images import Images
from bigr.cli.fitting import FitStep, choose_size, plan

IMAGES = Images("my photos, 'new'", ("cat", "dog"), 20, 5)


@pytest.fixture
def _hydra() -> Iterator[None]:
    register_resolvers()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def composed(step: FitStep) -> DictConfig:
    words = [word for word in quote_numbers(step.words[1:]) if not word.startswith("hydra.")]
    return hydra.compose(step.words[0].split(".")[1], [*words, "paths.output=out"])


@pytest.mark.usefixtures("_hydra")
@pytest.mark.parametrize("image_size", [16, 32, 48, 128])
def test_every_command_composes_for_the_same_images(tmp_path: Path, image_size: int) -> None:
    output = tmp_path / "a b"
    steps = {s.name: s for s in plan(IMAGES, output, image_size=image_size, size="small")}
    autoencoder, codes, generator = (composed(steps[n]) for n in list(steps)[:3])
    assert autoencoder.data.root == codes.data.root == IMAGES.root
    assert autoencoder.data.image_size == image_size
    side = image_size // 2 ** (len(autoencoder.task.autoencoder.channel_multipliers) - 1)
    assert side == {48: 6}.get(image_size, 8)
    assert (autoencoder.data.batch_size, generator.data.batch_size) == (20, 20)
    assert generator.data.root == codes.output == str(output / "codes")
    assert generator.task.autoencoder == codes.autoencoder == str(steps["autoencoder"].product)
    samples = composed(steps["samples"])
    assert samples.pretrained == str(output)
    assert list(samples.application.classes) == [0, 1]
    assert composed(steps["scores"]).reference == IMAGES.root
    assert composed(steps["reconstruction"]).data.root == IMAGES.root
    # A shell reads the printed command as the words that are run.
    for step in steps.values():
        assert tuple(shlex.split(step.command)[2:]) == step.words


@pytest.mark.usefixtures("_hydra")
def test_sizes_and_steps(tmp_path: Path) -> None:
    steps = plan(
        IMAGES, tmp_path, image_size=32, size="large", autoencoder_steps=3, generator_steps=7
    )
    autoencoder, generator = composed(steps[0]), composed(steps[2])
    assert (autoencoder.trainer.max_steps, generator.trainer.max_steps) == (3, 7)
    assert (autoencoder.trainer.accelerator, generator.trainer.accelerator) == ("gpu", "gpu")
    assert (generator.model.dim, generator.model.num_layers) == (384, 14)
    assert (generator.global_batch_size, generator.data.batch_size) == (None, 20)
    assert choose_size("large") == "large"


def test_impossible_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image_size=50 must be a multiple of 8: choose 48"):
        plan(IMAGES, tmp_path, image_size=50, size="small")


@pytest.mark.usefixtures("_hydra")
def test_starting_from_trained_models(tmp_path: Path) -> None:
    """Their B-AE is copied and decides the image size, and their generator is fine-tuned."""
    settings = {"image_size": 32, "size": "small", "pretrained": "digits"}
    steps = {step.name: step for step in plan(IMAGES, tmp_path, **settings)}  # type: ignore[arg-type]
    take, generator = steps["autoencoder"], composed(steps["generator"])
    assert take.words[0] == "bigr.convert"
    convert.main(list(take.words[1:]))
    assert weights_sha256(load_autoencoder(take.product)) == weights_sha256(
        load_autoencoder("digits")
    )
    assert generator.task.init_from == "digits"
    assert (generator.model.dim, generator.model.num_layers) == (96, 4)
    assert generator.trainer.accelerator == "cpu"
    assert composed(steps["scores"]).evaluation.image_size == 16
    with pytest.raises(ValueError, match=r"brings its own B-AE.*leave out autoencoder_steps"):
        plan(IMAGES, tmp_path, autoencoder_steps=5, **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"pretrained=digit: .*Did you mean digits"):
        plan(IMAGES, tmp_path, **{**settings, "pretrained": "digit"})  # type: ignore[arg-type]
