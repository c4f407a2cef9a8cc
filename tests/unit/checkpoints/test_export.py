"""Files in the released layouts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from bigr import load_generator
from bigr.checkpoints.export import save_released_autoencoder, save_released_generator
from bigr.checkpoints.native import save_generator
from bigr.models.discriminator import DiscriminatorConfig, PatchDiscriminator
from bigr.models.noise_schedule import LinearSchedule
from tests.models import tiny_autoencoder, tiny_generator


@dataclasses.dataclass(frozen=True)
class Other(LinearSchedule):
    """A schedule of a user, of which the released code knows nothing."""


def equal(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_released_layout_with_other_head_width_remembers_it(tmp_path: Path) -> None:
    generator = tiny_generator(dim=64, num_heads=4, feed_forward_multiple=256)
    path = save_released_generator(generator, tmp_path / "g.pt")
    assert load_generator(path).config == generator.config
    assert equal(load_generator(path), generator)


def test_released_layout_of_standard_sizes_holds_nothing_else(tmp_path: Path) -> None:
    generator = tiny_generator(dim=64, num_heads=1, feed_forward_multiple=256)
    save_released_generator(generator, tmp_path / "g.pt")
    content = torch.load(tmp_path / "g.pt", weights_only=True)
    assert content.keys() == {"ema"}


def test_names_of_both_networks(tmp_path: Path) -> None:
    """A flat dictionary with the prefixes ae. and disc., as the released trainer writes it."""
    discriminator = PatchDiscriminator(DiscriminatorConfig(base_channels=4, num_layers=2))
    path = save_released_autoencoder(
        tiny_autoencoder(), tmp_path / "deep" / "a.th", discriminator=discriminator
    )
    content = torch.load(path, weights_only=True)
    assert torch.equal(content["disc.main.0.weight"], discriminator.layers[0].weight)
    assert {name.split(".")[0] for name in content} <= {"ae", "disc", "bigr"}
    assert "ae.generator.logsigma.0.weight" in content
    assert [file.name for file in path.parent.iterdir()] == ["a.th"]


@pytest.mark.parametrize("change", [{"objective": "categorical"}, {"attention": "causal"}])
def test_baselines_have_no_released_layout(tmp_path: Path, change: dict[str, str]) -> None:
    """But the layout of this project holds them."""
    generator = tiny_generator(**change)
    (text,) = (f"{name}={value}" for name, value in change.items())
    with pytest.raises(ValueError, match=f"no place for a generator with {text}: save it as"):
        save_released_generator(generator, tmp_path / "g.pt")
    path = save_generator(generator, tmp_path / "g.safetensors")
    assert load_generator(path).config == generator.config
    assert equal(load_generator(path), generator)


def test_another_noise_schedule_is_refused(tmp_path: Path) -> None:
    """The released code would sample with the linear one, without a word."""
    generator = tiny_generator(num_diffusion_steps=8, noise_schedule=Other(8))
    with pytest.raises(ValueError, match=r"only the linear noise schedule.*test_export\.Other"):
        save_released_generator(generator, tmp_path / "g.pt")
    assert list(tmp_path.iterdir()) == []
