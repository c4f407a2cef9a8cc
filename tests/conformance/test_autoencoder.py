"""The B-AE and its discriminator against numbers from the released code."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from bigr import BinaryAutoencoder
from bigr.checkpoints.load import load_discriminator
from tests.numbers import relative_error

Arrays = dict[str, Tensor]


def test_sizes_are_inferred(conformance: Path, autoencoder: BinaryAutoencoder) -> None:
    sizes = json.loads((conformance / "bae_tiny.json").read_text())
    for name in ("code_dim", "image_size", "base_channels", "embed_dim", "res_blocks"):
        assert getattr(autoencoder.config, name) == sizes[name]
    assert list(autoencoder.config.channel_multipliers) == sizes["channel_multipliers"]
    assert list(autoencoder.config.attn_resolutions) == sizes["attn_resolutions"]


def test_encoder(autoencoder: BinaryAutoencoder, autoencoder_io: Arrays) -> None:
    images = autoencoder_io["images"]
    with torch.no_grad():
        hidden = autoencoder.encoder(images)
        bit_probs = autoencoder.encode(images)
    assert relative_error(hidden, autoencoder_io["encoder_hidden"]) < 1e-5
    assert relative_error(bit_probs, autoencoder_io["bit_prob"]) < 1e-5


def test_decoder(autoencoder: BinaryAutoencoder, autoencoder_io: Arrays) -> None:
    with torch.no_grad():
        images = autoencoder.decode(autoencoder_io["codes"])
    assert relative_error(images, autoencoder_io["decoded"]) < 1e-5


def test_discriminator(conformance: Path, autoencoder_io: Arrays) -> None:
    discriminator = load_discriminator(conformance / "bae_tiny.th")
    assert discriminator is not None
    with torch.no_grad():
        logits = discriminator(autoencoder_io["images"])
    assert relative_error(logits, autoencoder_io["disc_logits"]) < 1e-5
