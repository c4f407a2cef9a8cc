"""The settings of pictures in three kinds of files: written, read again, and never trusted."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bigr import BiGRPipeline, SamplerConfig
from bigr.pipeline.picture_settings import (
    MAX_EMBEDDED_BYTES,
    MAX_TEXT_BYTES,
    PictureSettings,
    model_digests,
)
from tests.models import tiny_autoencoder, tiny_generator
from tests.pictures import noise


def settings(**changes: Any) -> PictureSettings:
    values: dict[str, Any] = {
        "application": "edit",
        "arguments": {"image": noise(20, 12), "mask": Image.new("L", (20, 12), 255),
                      "class_name": 1, "num_variants": 2, "blend": "paste"},
        "seed": 5,
        "sampler": SamplerConfig(num_iterations=3).to_dict(),
        "execution": {"precision": "auto", "mode": "auto"},
        "models": {"name": "tiny"},
    }  # fmt: skip
    return PictureSettings(**{**values, **changes})


@pytest.mark.parametrize("kind", ["json", "png", "zip"])
def test_what_is_saved_is_loaded(tmp_path: Path, kind: str) -> None:
    written = settings()
    paths = written.save(tmp_path)
    assert [path.name for path in paths] == ["settings.json", "image.png", "mask.png"]
    assert str(tmp_path) not in paths[0].read_text()
    picture, archive = tmp_path / "picture.png", tmp_path / "all.zip"
    noise(4, 4).save(picture, pnginfo=written.png_info())
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in paths:
            file.write(path, path.name)
    if kind != "json":
        for path in paths:
            path.unlink()
    read = PictureSettings.load({"json": paths[0], "png": picture, "zip": archive}[kind])
    assert read.arguments.pop("image").tobytes() == noise(20, 12).tobytes()
    assert [color for _, color in read.arguments.pop("mask").getcolors()] == [(255, 255, 255)]
    assert read.arguments == {"class_name": 1, "num_variants": 2, "blend": "paste"}
    assert (read.application, read.seed, read.models) == ("edit", 5, {"name": "tiny"})
    assert SamplerConfig(**read.sampler) == SamplerConfig(num_iterations=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"application": "save_pretrained"}, "application must be one of generate, inpaint"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"seed": None}, "seed must be an integer of at least 0, got null"),
        ({"sampler": {"num_iterations": "3"}}, "num_iterations must be "),
        ({"sampler": {"iterations": 3}}, "iterations: there is no such key"),
        ({"execution": {"mode": "fast"}}, "mode must be one of"),
        ({"arguments": {"image": {"_target_": "os.system"}}}, "arguments.image must be"),
        ({"arguments": {"extra": {"_target_": "os.system"}}}, "arguments.extra: edit has no such"),
        ({"arguments": {"on_iteration": "x"}}, "arguments.on_iteration: edit has no such"),
        ({"arguments": {"class_name": "${oc.env:HOME}"}}, "not the settings of pictures"),
        ({"arguments": {"seeds": [1, 2]}}, "arguments.seeds: edit has no such"),
        ({"arguments": {"image": "data:image/png;base64,AAA"}}, "arguments.image is damaged"),
        ({"arguments": {"image": "data:image/png;base64,AAAA"}}, "not a complete picture"),
        ({"arguments": {"image": "other.png"}}, "put other.png from the ZIP file beside it"),
        ({"more": 1}, "more: there is no such key"),
    ],
)
def test_wrong_settings(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (path, *_) = settings().save(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ValueError, match=message) as error:
        PictureSettings.load(path)
    assert str(error.value).startswith(f"settings={path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"\xff",
        b"[" * 100_000,
        b"{}",
        b" " * (MAX_TEXT_BYTES + 1),
        b"PK\x03\x04",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"settings=.*settings\.json: "):
        PictureSettings.load(path)
    with pytest.raises(ValueError, match="is a folder"):
        PictureSettings.load(tmp_path)


def test_images_are_beside_the_settings(tmp_path: Path) -> None:
    (path, *_) = settings().save(tmp_path)
    content = json.loads(path.read_text())
    content["arguments"]["image"] = "/etc/../secret.png"
    path.write_text(json.dumps(content))
    noise(3, 5).save(tmp_path / "secret.png")
    assert PictureSettings.load(path).arguments["image"].size == (3, 5)


def test_a_large_image_is_only_in_the_zip(tmp_path: Path) -> None:
    side = int((MAX_EMBEDDED_BYTES / 3) ** 0.5) + 20
    written = settings(
        arguments={"image": noise(side, side), "mask": Image.new("L", (side, side), 255),
                   "class_name": 1}
    )  # fmt: skip
    path = tmp_path / "edit_00.png"
    noise(4, 4).save(path, pnginfo=written.png_info())
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match=r"put image\.png from the ZIP file beside it, or give"):
        PictureSettings.load(path)
    written.save(tmp_path)  # as if the ZIP had been unpacked there
    assert PictureSettings.load(path).arguments["image"].size == (side, side)


def test_files_without_settings(tmp_path: Path) -> None:
    noise(4, 4).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match="this picture has no settings in it"):
        PictureSettings.load(tmp_path / "photo.png")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as file:
        file.writestr("notes.txt", "")
    with pytest.raises(ValueError, match=r"the ZIP file has no settings\.json"):
        PictureSettings.load(tmp_path / "empty.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("settings.json", b" " * (MAX_TEXT_BYTES + 1))
    with pytest.raises(ValueError, match=r"settings\.json is larger than 4 MB"):
        PictureSettings.load(tmp_path / "bomb.zip")


def test_other_weights_are_refused() -> None:
    pipeline = BiGRPipeline(tiny_generator(), tiny_autoencoder(), device="cpu")
    other = BiGRPipeline(tiny_generator(seed=1), tiny_autoencoder(), device="cpu")
    made = settings(models={"name": "tiny", **model_digests(pipeline)})
    made.check_models(pipeline)
    with pytest.raises(ValueError, match=r"generator: the settings were made with other weights"):
        made.check_models(other)
