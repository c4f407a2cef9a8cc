"""Pipelines from files, folders and the hub, and back."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bigr import BiGRPipeline
from bigr.checkpoints.errors import CheckpointError, SaveError
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.models.model_settings import ModelSettings
from bigr.sampling.sampler_config import SamplerConfig
from tests.disk import full_disk
from tests.models import tiny_autoencoder, tiny_generator

FAST: dict[str, Any] = {"num_iterations": 3, "num_denoise_steps": 4}


def test_save_and_load(pipeline: BiGRPipeline, tmp_path: Path) -> None:
    named = BiGRPipeline(*pipeline.models, class_names=["Ant", "bee", "cat"], device="cpu")
    loaded = BiGRPipeline.from_pretrained(named.save_pretrained(tmp_path / "saved"), device="cpu")
    assert loaded.class_names == ["Ant", "bee", "cat"]
    assert loaded.generate("ant", **FAST)[0].tobytes() == pipeline.generate(0, **FAST)[0].tobytes()
    card = (tmp_path / "saved" / "README.md").read_text()
    assert '"code_dim": 6' in card
    assert "8x8 pixels" in card


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
    with pytest.raises(ValueError, match=r"classes\.txt has 2 lines, and the generator has 3"):
        BiGRPipeline.from_files(*files, device="cpu")


def test_class_names_of_the_training_data(tmp_path: Path) -> None:
    """They come with the generator, and a list of names or a file beside it replaces them."""
    generator, autoencoder = tiny_generator(), tiny_autoencoder()
    generator.settings = ModelSettings(class_names=("ant", "bee", "cat"))
    pipeline = BiGRPipeline(generator, autoencoder, device="cpu")
    assert pipeline.class_id("Cat") == 2
    pipeline.save_pretrained(tmp_path)
    (tmp_path / "classes.txt").unlink()
    assert BiGRPipeline.from_pretrained(tmp_path, device="cpu").class_names == ["ant", "bee", "cat"]
    (tmp_path / "classes.txt").write_text("x\ny\nz\n")
    assert BiGRPipeline.from_pretrained(tmp_path, device="cpu").class_names == ["x", "y", "z"]
    given = BiGRPipeline(generator, autoencoder, class_names=["1", "2", "3"], device="cpu")
    assert given.class_id("1") == 0


def test_settings_are_saved_and_used(pipeline: BiGRPipeline, tmp_path: Path) -> None:
    """Without a sampler, the saved one is used; applications and calls replace single values."""
    own = SamplerConfig(order="random", mask_schedule="linear", **FAST)
    assert pipeline.sampler_config == SamplerConfig()
    fast = BiGRPipeline(*pipeline.models, sampler=own, device="cpu")
    folder = fast.save_pretrained(tmp_path / "saved")
    loaded = BiGRPipeline.from_pretrained(folder, device="cpu")
    assert loaded.sampler_config == own
    assert loaded.models.generator.settings.image_size == 8
    expected = pipeline.generate(2, sampler=own)[0].tobytes()
    assert loaded.generate(2)[0].tobytes() == expected
    assert loaded.generate(2, order="raster")[0].tobytes() != expected
    loaded.interpolate(0, 1, ratios=[0.5])
    assert loaded.sampler.config == dataclasses.replace(own, gumbel_temperature=0.0)
    assert '"order": "random"' in (folder / "README.md").read_text()


def test_another_autoencoder_is_refused(
    pipeline: BiGRPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pipeline.save_pretrained(tmp_path)
    save_autoencoder(tiny_autoencoder(seed=9), folder / "autoencoder.safetensors")
    with pytest.raises(CheckpointError, match="trained on the codes of another B-AE"):
        BiGRPipeline.from_pretrained(folder, device="cpu")
    monkeypatch.setenv("BIGR_VERIFY", "0")
    BiGRPipeline.from_pretrained(folder, device="cpu")


def test_saved_in_half_precision(pipeline: BiGRPipeline, tmp_path: Path) -> None:
    """Half the size; loaded as float32 with rounded values, and the pair still fits together."""
    whole, half = (
        pipeline.save_pretrained(tmp_path / name, dtype=dtype) / "generator.safetensors"
        for name, dtype in (("whole", torch.float32), ("half", torch.bfloat16))
    )
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    loaded = BiGRPipeline.from_pretrained(half.parent, device="cpu").models
    for ours, theirs in zip(pipeline.models, loaded, strict=True):
        for weight, rounded in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert rounded.dtype == weight.dtype == torch.float32
            assert torch.equal(weight.bfloat16().float(), rounded)
    with pytest.raises(ValueError, match=r"dtype=torch\.int8: weights are saved as"):
        pipeline.save_pretrained(tmp_path, dtype=torch.int8)


def test_saving_on_a_full_disk_changes_nothing(pipeline: BiGRPipeline, tmp_path: Path) -> None:
    """There is room for the new generator, but not for the new autoencoder."""
    pipeline.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    room = len(before["autoencoder.safetensors"]) - 1
    assert len(before["generator.safetensors"]) < room
    other = BiGRPipeline(tiny_generator(seed=9), tiny_autoencoder(seed=9), device="cpu")
    with full_disk(room), pytest.raises(SaveError, match=r"not be written: .*File too large"):
        other.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_two_files(tmp_path: Path) -> None:
    """Both models are on the device, and a pair that does not belong together is refused."""
    generator, autoencoder = tiny_generator(), tiny_autoencoder()
    save_generator(generator, tmp_path / "g.safetensors")
    save_autoencoder(autoencoder, tmp_path / "a.safetensors")
    save_autoencoder(tiny_autoencoder(code_dim=5), tmp_path / "other.safetensors")
    names = [str(tmp_path / f"{name}.safetensors") for name in ("g", "a", "other")]
    models = BiGRPipeline.from_files(*names[:2], device="cpu").models
    assert models.generator.device == torch.device("cpu")
    assert torch.equal(models.autoencoder.last_weight, autoencoder.last_weight)
    with pytest.raises(ValueError, match="5"):
        BiGRPipeline.from_files(names[0], names[2], device="cpu")
    with pytest.raises(ValueError, match="device=tpu"):
        BiGRPipeline.from_files("nowhere.pt", "nowhere.th", device="tpu")


def test_type_of_a_loaded_pipeline(pipeline: BiGRPipeline, tmp_path: Path) -> None:
    """As diffusers' scripts state it; unknown types are refused before anything is read."""
    folder = pipeline.save_pretrained(tmp_path / "saved")
    loaded = BiGRPipeline.from_pretrained(folder, torch_dtype=torch.float16, device="cpu")
    assert loaded.dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"dtype=torch\.int8: a pipeline computes in one of"):
        BiGRPipeline.from_pretrained("nobody/nothing", torch_dtype=torch.int8, device="cpu")
