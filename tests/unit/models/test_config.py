"""Configurations: ranges, derived sizes, and no need for torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bigr.models.config import BiGRConfig, BinaryAutoencoderConfig
from tests.models import tiny_generator
from tests.processes import fresh_python


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 30}, "dim=30 and num_heads=2 do not fit"),
        ({"num_layers": 0}, "num_layers must be a positive integer, got 0"),
        ({"objective": "z0"}, "objective must be one of flip, x0, direct, categorical, got 'z0'"),
        ({"attention": "masked"}, "attention must be bidirectional or causal, got 'masked'"),
        ({"dropout": 1.5}, r"dropout must be a number between 0 and 1, got 1.5"),
        ({"code_dim": True}, "BiGRConfig.code_dim must be a positive integer, got true"),
        ({"norm_eps": float("nan")}, "norm_eps must be a number of at least 0, got nan"),
        ({"num_diffusion_steps": 1}, "num_diffusion_steps must be at least 2; use objective=dir"),
        ({"objective": "direct", "auxiliary_weight": 0.1}, "auxiliary_weight needs a diffusion"),
        ({"objective": "categorical", "auxiliary_weight": 0.1}, "0 with objective=categorical"),
    ],
)
def test_generator_values_out_of_range(change: dict[str, object], message: str) -> None:
    config = dataclasses.asdict(tiny_generator().config)
    with pytest.raises(ValueError, match=message):
        BiGRConfig(**{**config, **change})


@pytest.mark.parametrize(
    ("code_dim", "groups"), [(1, 1), (12, 1), (13, 13), (16, 2), (20, 2), (24, 2), (32, 4)]
)
def test_groups_of_a_softmax(code_dim: int, groups: int) -> None:
    """As few as possible, equal, and of at most 12 bits."""
    config = dataclasses.replace(tiny_generator().config, code_dim=code_dim)
    assert (config.num_groups, config.num_outputs) == (1, code_dim)
    softmax = dataclasses.replace(config, objective="categorical")
    assert (softmax.num_groups, softmax.num_outputs) == (groups, 2 ** (code_dim // groups))
    assert dataclasses.replace(softmax, softmax_bits=1).num_outputs == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 18}, "image_size=18 must be a multiple of 4"),
        ({"base_channels": 40}, "base_channels=40 must be a multiple of norm_groups=32"),
        ({"code_dim": 0}, "code_dim must be a positive integer"),
        (
            {"channel_multipliers": ()},
            "channel_multipliers must be a non-empty list in which each",
        ),
    ],
)
def test_autoencoder_values_out_of_range(change: dict[str, object], message: str) -> None:
    sizes = {"code_dim": 8, "image_size": 16, "channel_multipliers": (1, 2, 2), **change}
    with pytest.raises(ValueError, match=message):
        BinaryAutoencoderConfig(**sizes)


def test_derived_sizes() -> None:
    """The paper's B-AE for 256 pixels, and LLaMA's rule for SwiGLU: 2/3 of 4 * 1024, rounded up."""
    autoencoder = BinaryAutoencoderConfig(code_dim=24, image_size=256)
    assert (autoencoder.downsampling, autoencoder.grid_size) == (16, 16)
    generator = dataclasses.replace(
        tiny_generator().config, dim=1024, num_heads=16, grid_size=16, feed_forward_multiple=256
    )
    assert (generator.feed_forward_dim, generator.seq_len) == (2816, 256)
    assert generator.null_class == generator.num_classes


def test_lists_become_tuples() -> None:
    """As they come from YAML and JSON; configurations are hashable."""
    config = BinaryAutoencoderConfig(
        code_dim=8,
        image_size=16,
        channel_multipliers=[1, 2],  # type: ignore[arg-type]
        attn_resolutions=[],  # type: ignore[arg-type]
    )
    assert config.channel_multipliers == (1, 2)
    assert config.attn_resolutions == ()
    assert hash(config) == hash(dataclasses.replace(config))


def test_torch_is_not_imported(tmp_path: Path) -> None:
    code = "import sys, bigr.models.config; sys.exit('torch' in sys.modules)"
    assert fresh_python("-c", code, cwd=tmp_path).returncode == 0
