"""The methods of the pipeline with the randomness taken out, against codes of the released code.

Pictures go in, and the codes are those that the pipeline decodes. The B-AE is replaced by one that
knows the codes of the pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from bigr import BiGR, BiGRPipeline, ExecutionConfig
from bigr.models.codes import tokens_to_grid
from bigr.sampling.sampler import Progress
from tests.half_noise import HalfNoise
from tests.models import tiny_autoencoder

Arrays = dict[str, Tensor]

SIDE = 8
SETTINGS: dict[str, Any] = {"guidance_scale": 2.5, "num_denoise_steps": 25}
RATIOS = (0.0, 0.3, 0.5, 0.9)


@pytest.fixture(scope="module")
def io(conformance: Path) -> Arrays:
    return load_file(conformance / "applications_tiny_io.safetensors")


@pytest.fixture
def pipeline(generator: BiGR, monkeypatch: pytest.MonkeyPatch) -> BiGRPipeline:
    monkeypatch.setattr("bigr.sampling.sampler.SeededNoise", HalfNoise)
    autoencoder = tiny_autoencoder(code_dim=generator.config.code_dim, image_size=SIDE)
    exact = ExecutionConfig(precision="float32")
    return BiGRPipeline(generator, autoencoder, device="cpu", execution=exact)


def pictures_of(pipeline: BiGRPipeline, known: Tensor) -> list[Image.Image]:
    """Return pictures of grey value i, which the B-AE is made to encode as the codes i of known."""

    def encode(images: Tensor) -> Tensor:
        return tokens_to_grid(known.float()[(images[:, 0, 0, 0] * 255).round().long()])

    pipeline.models.autoencoder.encode = encode  # type: ignore[method-assign]
    return [Image.new("RGB", (SIDE, SIDE), (index, index, index)) for index in range(len(known))]


def keep_last(codes: list[Tensor]) -> Callable[[Progress], None]:
    """Return a callback that collects the codes after the last iteration of every sampling."""

    def keep(progress: Progress) -> None:
        if progress.iteration == progress.num_iterations:
            codes.append(progress.codes)

    return keep


@pytest.mark.parametrize("name", ["half", "few", "most"])
def test_inpainting(pipeline: BiGRPipeline, io: Arrays, name: str) -> None:
    known, is_masked = io["inpaint_known"], io[f"inpaint_{name}_mask"].bool()
    pixels = is_masked.view(-1, 4, 4).repeat_interleave(2, 1).repeat_interleave(2, 2)
    found = pipeline.repaint(
        pictures_of(pipeline, known), list(pixels), io["inpaint_class_ids"].tolist(),
        blend="none", num_iterations=5, **SETTINGS,
    )  # fmt: skip
    expected = io[f"inpaint_{name}_codes"]
    assert torch.equal(torch.stack([one.known_codes for one in found]), known.float())
    assert torch.equal(torch.stack([one.codes for one in found]), expected.float())
    assert (expected != known).any(dim=-1)[is_masked].any()


def test_enrichment(pipeline: BiGRPipeline, io: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rounds of four places, each of which is hidden in all cells at once."""
    orders, codes = iter(io["enrich_places"]), list[Tensor]()
    monkeypatch.setattr("bigr.pipeline.applications.place_order", lambda _: next(orders))
    pictures = pipeline.enrich(
        *pictures_of(pipeline, io["enrich_known"]), return_rounds=True, num_iterations=3,
        on_iteration=keep_last(codes), **SETTINGS,
    )  # fmt: skip
    assert (len(codes), len(pictures)) == (16, 4)
    for number in range(4):
        expected = io[f"enrich_round_{number}_codes"].float()
        assert torch.equal(codes[4 * number + 3], expected), number
        shown = (pipeline.decode(expected)[0] * 255).round().byte().permute(1, 2, 0)
        assert pictures[number].tobytes() == shown.numpy().tobytes()


def test_interpolation(pipeline: BiGRPipeline, io: Arrays) -> None:
    """The ratio is the share of the first class."""
    codes: list[Tensor] = []
    pipeline.interpolate(
        2, 7, ratios=RATIOS, num_iterations=6, on_iteration=keep_last(codes), **SETTINGS
    )
    expected = torch.cat([io[f"interpolate_2_7_r{ratio}_codes"] for ratio in RATIOS])
    assert torch.equal(codes[0], expected.float())
    assert not torch.equal(expected[0], expected[-1])
