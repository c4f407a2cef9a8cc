"""Files in the released layouts."""

from __future__ import annotations

from pathlib import Path

import torch

from bigr import load_generator
from bigr.checkpoints.export import save_released_autoencoder, save_released_generator
from bigr.models.discriminator import DiscriminatorConfig, PatchDiscriminator
from tests.models import tiny_autoencoder, tiny_generator


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
