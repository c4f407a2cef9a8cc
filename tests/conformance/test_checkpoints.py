"""Names and shapes of the released files, and conversion there and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bigr.checkpoints.released import (
    autoencoder_from_released,
    autoencoder_to_released,
    generator_from_released,
    generator_to_released,
    infer_autoencoder_config,
    infer_generator_config,
)
from bigr.cli.conversion import ConversionOptions, convert
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR

PARAMETERS = {
    "bigr_L_d24": 336_346_136,
    "bigr_XL_d24": 799_372_824,
    "bigr_XXL_d24": 1_480_028_184,
    "bigr_XXL_d32": 1_480_065_056,
    "bigr_L_d32_512": 372_718_624,
    "bae_d24": 65_530_654,
    "bae_d32": 65_534_758,
    "bae_d32_512": 61_328_166,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_released_layouts(conformance: Path, name: str) -> None:
    """Sizes inferred from shapes give a model with the released names, shapes and count."""
    table = json.loads((conformance / "released_checkpoint_shapes.json").read_text())
    shapes = {key: tuple(shape) for key, shape in table[name].items()}
    with torch.device("meta"):
        released = {key: torch.empty(shape) for key, shape in shapes.items()}
        if name.startswith("bigr"):
            model = BiGR(infer_generator_config(generator_from_released(released)))
            back = generator_to_released(model.state_dict(), 256)
        else:
            config = infer_autoencoder_config(autoencoder_from_released(released))
            model = BinaryAutoencoder(config)
            back = autoencoder_to_released(model.state_dict())
    assert {key: tuple(tensor.shape) for key, tensor in back.items()} == shapes
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


def test_every_released_file_is_covered(conformance: Path) -> None:
    table = json.loads((conformance / "released_checkpoint_shapes.json").read_text())
    assert table.keys() == PARAMETERS.keys()


@pytest.mark.parametrize("name", ["generator_tiny.pt", "bae_tiny.th"])
def test_round_trip_is_lossless(conformance: Path, tmp_path: Path, name: str) -> None:
    """Released -> own -> released: the same names, and the same numbers bit for bit."""
    heads = 4 if name.startswith("generator") else None
    own = tmp_path / "own.safetensors"
    back = tmp_path / name
    convert(str(conformance / name), own, ConversionOptions(num_heads=heads))
    convert(str(own), back, ConversionOptions())
    before = torch.load(conformance / name, weights_only=True)
    after = torch.load(back, weights_only=True)
    if heads is not None:
        before, after = before["ema"], after["ema"]
    assert before.keys() == after.keys() - {"bigr.config"}
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(before[key].dtype == after[key].dtype for key in before)
