"""Models, class names, and images to codes and back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bigr import BiGRPipeline
from bigr.models.codes import grid_to_tokens
from tests.models import tiny_autoencoder, tiny_generator
from tests.pictures import noise, pixels

FAST: dict[str, Any] = {"num_iterations": 3, "num_denoise_steps": 4}


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


def test_class_names(pipeline: BiGRPipeline, tmp_path: Path) -> None:
    """Given, or beside the checkpoint, or ImageNet's; a model of ten classes has none by itself."""
    ten = BiGRPipeline(tiny_generator(num_classes=10), tiny_autoencoder(), device="cpu")
    assert ten.class_names is None
    assert ten.class_id("7") == ten.class_id(7) == 7
    thousand = BiGRPipeline(tiny_generator(num_classes=1000), tiny_autoencoder(), device="cpu")
    assert thousand.class_id("golden retriever") == 207
    pipeline.save_pretrained(tmp_path)
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\n")
    files = [tmp_path / f"{kind}.safetensors" for kind in ("generator", "autoencoder")]
    assert BiGRPipeline.from_files(*files, device="cpu").class_id("Bee") == 1
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    with pytest.raises(ValueError, match="2 class_names for a generator of 3 classes"):
        BiGRPipeline.from_files(*files, device="cpu")
