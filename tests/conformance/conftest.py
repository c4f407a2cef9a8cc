"""Models with the weights of the conformance folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from bigr import BiGR, BinaryAutoencoder, load_autoencoder, load_generator
from bigr.checkpoints.load import generator_config
from bigr.checkpoints.read import read_checkpoint

Arrays = dict[str, Tensor]


@pytest.fixture(scope="session")
def sizes(conformance: Path) -> dict[str, float]:
    return json.loads((conformance / "generator_tiny.json").read_text())


@pytest.fixture(scope="session")
def generator(conformance: Path, sizes: dict[str, int]) -> BiGR:
    path = conformance / "generator_tiny.pt"
    inferred = generator_config(read_checkpoint(path, "generator"))
    return load_generator(path, config=dataclasses.replace(inferred, num_heads=sizes["num_heads"]))


@pytest.fixture(scope="session")
def generator_io(conformance: Path) -> Arrays:
    return load_file(conformance / "generator_tiny_io.safetensors")


@pytest.fixture(scope="session")
def autoencoder(conformance: Path) -> BinaryAutoencoder:
    return load_autoencoder(conformance / "bae_tiny.th")


@pytest.fixture(scope="session")
def autoencoder_io(conformance: Path) -> Arrays:
    return load_file(conformance / "bae_tiny_io.safetensors")
