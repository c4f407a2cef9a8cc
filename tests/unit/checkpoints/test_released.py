"""Names of the released layouts, written out by hand, and inferred configurations."""

from __future__ import annotations

import pytest
import torch

from bigr.checkpoints.released import (
    autoencoder_from_released,
    autoencoder_to_released,
    discriminator_to_released,
    generator_from_released,
    generator_to_released,
    infer_autoencoder_config,
    infer_discriminator_config,
    schedule_tables,
)
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.config import BinaryAutoencoderConfig
from bigr.models.discriminator import DiscriminatorConfig, PatchDiscriminator
from tests.models import tiny_autoencoder, tiny_generator

GENERATOR = {
    "transformer.layers.1.attention.qkv.weight": "layers.1.attention.wqkv.weight",
    "transformer.layers.0.feed_forward.up.weight": "layers.0.feed_forward.w3.weight",
    "transformer.layers.0.modulation_offset": "layers.0.ada_gss",
    "transformer.mask_token": "mask_tok",
    "transcoder.denoiser.blocks.0.modulation.bias": "denoise_mlp.blocks.0.adaLN_modulation.1.bias",
    "transcoder.denoiser.output.weight": "denoise_mlp.final_layer.linear.weight",
    "transcoder.denoiser.output_modulation.weight": (
        "denoise_mlp.final_layer.adaLN_modulation.1.weight"
    ),
}
AUTOENCODER = {
    "encoder.blocks.1.skip.weight": "encoder.blocks.1.conv_out.weight",
    "quantizer.proj.bias": "quantize.proj.0.bias",
    "quantizer.embedding.weight": "quantize.embed.weight",
    "decoder.log_sigma.0.weight": "generator.logsigma.0.weight",
    "decoder.blocks.3.query.bias": "generator.blocks.3.q.bias",
}


def test_generator_names() -> None:
    ours = tiny_generator().state_dict()
    released = generator_to_released(ours, 256)
    for name, expected in GENERATOR.items():
        assert torch.equal(released[expected].flatten(), ours[name].flatten())
    assert released["layers.0.ada_gss"].shape == (1, 1, 6, 32)
    second = "diffusion_processor._denoise_fn.final_layer.linear.weight"
    assert torch.equal(released[second], ours["transcoder.denoiser.output.weight"])
    back = generator_from_released(released)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)


def test_unknown_names() -> None:
    """Kept when reading, so that the loader names them; an error when writing."""
    x = torch.ones(1)
    assert generator_from_released({"denoise_mlp.new.weight": x, "layers.x": x}).keys() == {
        "denoise_mlp.new.weight",
        "layers.x",
    }
    with pytest.raises(KeyError, match=r"transformer\.new"):
        generator_to_released({"transformer.new": x}, 256)
    with pytest.raises(KeyError, match=r"new\.weight"):
        autoencoder_to_released({"new.weight": x})


def test_autoencoder_names() -> None:
    ours = tiny_autoencoder().state_dict()
    released = autoencoder_to_released(ours)
    for name, expected in AUTOENCODER.items():
        if name in ours:
            assert torch.equal(released[expected], ours[name])
    assert sum(name in ours for name in AUTOENCODER) >= 4
    back = autoencoder_from_released(released)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)


def test_schedule_tables() -> None:
    """keep = 1 - t/T, so that the product of the betas up to t is keep again."""
    tables = schedule_tables(8)
    keep = torch.tensor([1 - t / 8 for t in range(9)])
    torch.testing.assert_close(tables["diffusion_processor.scheduler.k_final"], keep)
    torch.testing.assert_close(tables["diffusion_processor.scheduler.cumbeta"], keep)
    torch.testing.assert_close(tables["diffusion_processor.scheduler.b_final"], (1 - keep) / 2)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"code_dim": 32},
        {"image_size": 512, "attn_resolutions": (16,)},
        {"image_size": 64, "res_blocks": 3, "channel_multipliers": (1, 2, 4)},
        {"image_size": 64, "channel_multipliers": (1, 2, 4), "attn_resolutions": (32, 16)},
    ],
)
def test_inferred_autoencoder(change: dict[str, object]) -> None:
    sizes = {"code_dim": 24, "image_size": 256, "base_channels": 32, "embed_dim": 64, **change}
    config = BinaryAutoencoderConfig(**sizes)  # type: ignore[arg-type]
    with torch.device("meta"):
        weights = BinaryAutoencoder(config).state_dict()
    assert infer_autoencoder_config(weights) == config


@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_inferred_discriminator(num_layers: int) -> None:
    config = DiscriminatorConfig(base_channels=6, num_layers=num_layers)
    weights = PatchDiscriminator(config).state_dict()
    assert infer_discriminator_config(weights) == config
    assert "main.0.weight" in discriminator_to_released(weights)
