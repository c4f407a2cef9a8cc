"""The pipeline's methods, on tiny models: what is kept, what is painted, what depends on what."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bigr import BiGRPipeline, SamplerConfig
from bigr.models.codes import grid_to_tokens
from bigr.sampling.conditioning import INTERPOLATION_RATIOS, cell_groups, token_mask
from bigr.sampling.sampler import Progress, Sampler
from tests.models import tiny_autoencoder, tiny_generator

FAST: dict[str, Any] = {"num_iterations": 3, "num_denoise_steps": 4}


@pytest.fixture
def pipeline() -> BiGRPipeline:
    return BiGRPipeline(tiny_generator(), tiny_autoencoder(), device="cpu")


def noise(width: int = 8, height: int = 8, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.array(picture).astype(int)


def test_generate_is_the_samplers(pipeline: BiGRPipeline) -> None:
    pictures = pipeline.generate([0, 2], num_per_class=2, seed=7, **FAST)
    codes = Sampler(SamplerConfig(**FAST)).sample(
        pipeline.models.generator, torch.tensor([0, 0, 2, 2]), seeds=range(7, 11)
    )
    for picture, image in zip(pictures, pipeline.decode(codes), strict=True):
        expected = (image * 255).round().permute(1, 2, 0).numpy()
        assert np.array_equal(pixels(picture), expected)
    assert pipeline.generate(2, seed=10, **FAST)[0].tobytes() == pictures[3].tobytes()


def test_inpaint_changes_the_mask_alone(pipeline: BiGRPipeline) -> None:
    """In the size of the original; other seeds paint other things."""
    picture = noise(40, 24)
    box = [10, 4, 20, 14]
    variants = pipeline.inpaint(picture, [box], num_variants=3, **FAST)
    before, inside = pixels(picture), np.zeros((24, 40), dtype=bool)
    inside[4:14, 10:20] = True
    for variant in variants:
        assert np.array_equal(pixels(variant)[~inside], before[~inside])
        assert (pixels(variant)[inside] != before[inside]).mean() > 0.5
    assert len({variant.tobytes() for variant in variants}) == 3


def test_known_tokens_are_the_reconstruction(pipeline: BiGRPipeline) -> None:
    """The codes handed to the decoder are the picture's own wherever nothing is masked."""
    seen: list[Progress] = []
    picture = noise()
    pipeline.inpaint(picture, [[0, 0, 4, 8]], blend="none", on_iteration=seen.append, **FAST)
    codes = pipeline.encode(pipeline.load(picture))
    kept = torch.tensor([False, False, True, True]).repeat(4)
    assert [progress.iteration for progress in seen] == [1, 2, 3]
    assert torch.equal(seen[-1].codes[0, kept], codes[0, kept])
    assert not seen[-1].is_masked.any()


def test_outpainting_is_inpainting_inverted(pipeline: BiGRPipeline) -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[2:6, 2:6] = True
    for blend in ("paste", "poisson", "none"):
        out = pipeline.outpaint(noise(), mask, blend=blend, seed=3, **FAST)
        inside = pipeline.inpaint(noise(), ~mask, blend=blend, seed=3, **FAST)
        assert out[0].tobytes() == inside[0].tobytes()
    default = pipeline.outpaint(noise(), blend="none", seed=3, **FAST)
    assert default[0].tobytes() == out[0].tobytes()


def test_everything_masked_is_generation(pipeline: BiGRPipeline) -> None:
    edited = pipeline.edit(noise(), [[0, 0, 8, 8]], class_name=1, blend="none", seed=4, **FAST)
    config = SamplerConfig(num_iterations=3, num_denoise_steps=4, mask_schedule="linear")
    assert edited[0].tobytes() == pipeline.generate(1, seed=4, sampler=config)[0].tobytes()


def test_class_matters_only_if_given(pipeline: BiGRPipeline) -> None:
    box = [[0, 0, 8, 4]]
    free = pipeline.inpaint(noise(), box, **FAST)[0].tobytes()
    assert pipeline.inpaint(noise(), box, guidance_scale=9.0, **FAST)[0].tobytes() == free
    edits = {pipeline.edit(noise(), box, class_name=c, **FAST)[0].tobytes() for c in range(3)}
    assert len(edits | {free}) == 4


def test_interpolation_ends_at_the_classes(pipeline: BiGRPipeline) -> None:
    pictures = pipeline.interpolate(0, 2, seed=5, **FAST)
    assert len(pictures) == len(INTERPOLATION_RATIOS) == 27
    assert pictures[0].tobytes() == pipeline.generate(0, seed=5, **FAST)[0].tobytes()
    assert pictures[-1].tobytes() == pipeline.generate(2, seed=5, **FAST)[0].tobytes()
    assert len({picture.tobytes() for picture in pictures}) > 3


def test_paper_ratios() -> None:
    assert list(INTERPOLATION_RATIOS) == sorted(INTERPOLATION_RATIOS)
    assert INTERPOLATION_RATIOS[3:24] == pytest.approx([0.3 + 0.02 * i for i in range(21)])


def test_cell_groups() -> None:
    """Each group has one token of every 2x2 cell; all of them have every token once."""
    groups = cell_groups(8, torch.Generator().manual_seed(0))
    assert torch.equal(groups.sum(dim=0), torch.ones(64, dtype=torch.int64))
    cells = groups.view(4, 4, 2, 4, 2).sum(dim=(2, 4))
    assert torch.equal(cells, torch.ones(4, 4, 4, dtype=torch.int64))
    assert not torch.equal(groups, cell_groups(8, torch.Generator().manual_seed(1)))
    with pytest.raises(ValueError, match="even grid"):
        cell_groups(7, torch.Generator())


def test_enrichment_resamples_one_group_a_round(pipeline: BiGRPipeline) -> None:
    seen: list[Progress] = []
    picture = noise(16, 16)
    one_round = pipeline.enrich(picture, num_rounds=1, seed=2, on_iteration=seen.append, **FAST)
    group = cell_groups(4, torch.Generator().manual_seed(2))[:1]
    small = torch.tensor(np.array(picture.reduce(2).reduce(2))).permute(2, 0, 1)[None] / 255
    enlarged = torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear")
    codes = pipeline.encode(enlarged)
    same = (seen[-1].codes == codes).all(dim=-1)[0]
    assert same[~group[0]].all()
    assert not same[group[0]].all()
    assert len(seen) == 3
    rounds = pipeline.enrich(picture, seed=2, num_variants=2, **FAST)
    assert len({one_round[0].tobytes(), *(picture.tobytes() for picture in rounds)}) == 3
    assert pipeline.enrich(picture, seed=3, **FAST)[0].tobytes() == rounds[1].tobytes()


def test_reconstruct_and_features(pipeline: BiGRPipeline) -> None:
    pictures = [noise(seed=0), noise(seed=1)]
    images = pipeline.load(pictures)
    model = pipeline.models
    codes = model.autoencoder.encode(images).gt(0.5).float()
    expected = model.autoencoder.decode(codes).clamp(0, 1)
    for picture, image in zip(pipeline.reconstruct(pictures), expected, strict=True):
        assert abs(pixels(picture) - (image * 255).permute(1, 2, 0).detach().numpy()).max() < 1.01
    features = pipeline.features(pictures, layer=-1)
    null = torch.full((2,), model.generator.config.null_class)
    direct = model.generator.features(grid_to_tokens(codes), null, -1)
    assert torch.allclose(features, direct, atol=1e-5)


def test_save_and_load(pipeline: BiGRPipeline, tmp_path: Path) -> None:
    named = BiGRPipeline(*pipeline.models, class_names=["Ant", "bee", "cat"], device="cpu")
    loaded = BiGRPipeline.from_pretrained(named.save_pretrained(tmp_path / "saved"), device="cpu")
    assert loaded.class_names == ["Ant", "bee", "cat"]
    assert loaded.generate("ant", **FAST)[0].tobytes() == pipeline.generate(0, **FAST)[0].tobytes()
    card = (tmp_path / "saved" / "README.md").read_text()
    assert '"code_dim": 6' in card
    assert "8x8 pixels" in card


def test_batches_do_not_matter(pipeline: BiGRPipeline) -> None:
    pictures = [noise(seed=seed) for seed in range(5)]
    small = BiGRPipeline(*pipeline.models, device="cpu", batch_size=2)
    images = pipeline.load(pictures)
    assert torch.equal(small.encode(images), pipeline.encode(images))
    assert torch.equal(small.encode(images)[3:4], pipeline.encode(images[3:4]))
    assert torch.allclose(small.features(pictures, 0), pipeline.features(pictures, 0), atol=1e-4)
    for method in (small.reconstruct, pipeline.reconstruct):
        expected = [pipeline.reconstruct(picture)[0].tobytes() for picture in pictures]
        assert [picture.tobytes() for picture in method(pictures)] == expected


def test_push(pipeline: BiGRPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is uploaded is a folder from which the same pipeline can be loaded."""
    import huggingface_hub

    calls: list[tuple[str, Any]] = []

    class Api:
        def create_repo(self, repo: str, **more: Any) -> str:
            calls.append((repo, more))
            return f"https://hub/{repo}"

        def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
            calls.append((repo_id, commit_message))
            shutil.copytree(folder_path, tmp_path / "uploaded")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert pipeline.push_to_hub("me/mine", private=True) == "https://hub/me/mine"
    assert calls[0] == ("me/mine", {"private": True, "exist_ok": True})
    loaded = BiGRPipeline.from_pretrained(tmp_path / "uploaded", device="cpu")
    assert loaded.generate(1, **FAST)[0].tobytes() == pipeline.generate(1, **FAST)[0].tobytes()


def test_without_opencv(pipeline: BiGRPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is sampled."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(Sampler, "sample", None)
    with pytest.raises(ValueError, match="blend=poisson needs OpenCV"):
        pipeline.inpaint(noise(), [[0, 0, 4, 4]], blend="poisson")


def test_mask_rules() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 3, 3:6] = True  # tokens of two pixels: rows 1, columns 1 and 2
    tokens = token_mask(mask, 4, "any").view(4, 4)
    assert tokens.nonzero().tolist() == [[1, 1], [1, 2]]
    with pytest.raises(ValueError, match="touches no token"):
        token_mask(mask, 4, "nearest")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.generate("tabby"), "no names for its classes"),
        (lambda p: p.generate(3), "has the classes 0..2"),
        (lambda p: p.generate([]), "at least one class"),
        (lambda p: p.generate(0, num_denoise_steps=999), "num_denoise_steps must be between"),
        (lambda p: p.inpaint(noise(), [[0, 0, 4, 4]], mask_rule="all"), "mask_rule=all"),
        (lambda p: p.inpaint(noise(40, 8), [[0, 0, 4, 4]]), r"centre square \[16, 0, 24, 8\]"),
        (lambda p: p.outpaint(noise(), [[0, 0, 8, 8]]), "keep is the whole image"),
        (
            lambda p: p.inpaint(noise(), [[0, 0, 4, 4]], blend="soft"),
            "blend=soft: it can be paste, poisson",
        ),
        (lambda p: p.interpolate(0, 1, ratios=[0.5, 1.5]), "ratios must be numbers in 0..1"),
        (lambda p: p.enrich(noise(), num_rounds=0), "at least 1"),
    ],
)
def test_bad_arguments(pipeline: BiGRPipeline, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(pipeline)


def test_unknown_setting(pipeline: BiGRPipeline) -> None:
    with pytest.raises(TypeError, match="guidance: there is no such argument"):
        pipeline.generate(0, guidance=3)
