"""Presets in Python are what the same names are on the command line."""

from __future__ import annotations

import subprocess
import sys

import hydra
import pytest
from hydra.utils import instantiate

from bigr import BiGRConfig, BinaryAutoencoderConfig, SamplerConfig
from bigr.presets import load_preset, preset_names

pytestmark = pytest.mark.usefixtures("composing")


@pytest.mark.parametrize("name", preset_names("sampler"))
def test_samplers(name: str) -> None:
    composed = hydra.compose("sample", [f"sampler={name}"]).sampler
    # Without a model, the settings that follow from it are the defaults.
    given = {key: value for key, value in composed.items() if value is not None}
    assert SamplerConfig.preset(name) == instantiate(given)


# The option "pretrained" has the sizes of the generator that another setting names.
@pytest.mark.parametrize("name", [n for n in preset_names("model") if n != "pretrained"])
def test_models(name: str) -> None:
    composed = hydra.compose("train", [f"model={name}", "autoencoder=d24", "resolution='256'"])
    found = BiGRConfig.preset(name, code_dim=24, grid_size=16, num_classes=1000)
    assert found == instantiate(composed.model)


@pytest.mark.parametrize(
    ("name", "image_size"),
    [(name, 512) for name in preset_names("autoencoder")]
    + [("d24", size) for size in (16, 32, 64, 128, 256)],
)
def test_autoencoders(name: str, image_size: int) -> None:
    composed = hydra.compose("train", [f"autoencoder={name}", f"resolution='{image_size}'"])
    found = BinaryAutoencoderConfig.preset(name, image_size=image_size)
    assert found == instantiate(composed.autoencoder)
    grids = {16: 4, 32: 8, 64: 8, 128: 16, 256: 16, 512: 32}
    small = name in ("digits", "fashion")  # 4x4 pixels per token at any image size
    assert found.grid_size == (image_size // 4 if small else grids[image_size])


def test_the_variant_for_512_pixels() -> None:
    composed = hydra.compose("train", ["model=l", "autoencoder=d32", "resolution='512'"])
    found = BiGRConfig.preset("l_512", code_dim=32, grid_size=32, num_classes=1000)
    assert found == instantiate(composed.model)
    assert (found.dim, found.denoiser_dim, found.denoiser_blocks) == (1024, 1280, 6)


def test_numbers_of_the_paper() -> None:
    xxl = BiGRConfig.preset("xxl", code_dim=24, grid_size=16, num_classes=1000)
    sizes = (xxl.dim, xxl.num_layers, xxl.num_heads, xxl.denoiser_dim, xxl.denoiser_blocks)
    assert sizes == (1536, 48, 24, 1536, 8)
    inpainting = SamplerConfig.preset("inpaint")
    assert (inpainting.num_iterations, inpainting.mask_schedule) == (25, "linear")
    assert load_preset("sampler", "paper_xl") == {"num_iterations": 25, "gumbel_temperature": 0.25}


def test_changes_take_precedence() -> None:
    changed = SamplerConfig.preset("paper_xl", num_iterations=9, order="raster")
    assert (changed.num_iterations, changed.gumbel_temperature) == (9, 0.25)
    assert changed.order == "raster"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SamplerConfig.preset("paper_x"), "no preset 'paper_x'. Did you mean paper_xl or"),
        (lambda: SamplerConfig.preset(3), "no preset 3. It can be best, "),  # type: ignore[arg-type]
        (lambda: load_preset("samplr", "fast"), "'samplr' is no group of presets; the groups are"),
        (lambda: SamplerConfig.preset("demo", gidance_scale=1.0), "Did you mean guidance_scale"),
        (lambda: BiGRConfig.preset("l", code_dim=24, grid_size=16), "BiGRConfig.num_classes"),
        (
            lambda: BinaryAutoencoderConfig.preset("d25", image_size=256),
            "It can be d16, d20, d24, d32",
        ),
    ],
)
def test_mistakes(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


def test_presets_need_neither_torch_nor_hydra() -> None:
    code = (
        "import sys; from bigr import SamplerConfig; SamplerConfig.preset('paper_xl')\n"
        "print(len({'torch', 'hydra', 'omegaconf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
