"""Pictures of people: read, cropped, masked, put back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bigr.data.transforms import center_crop_pil
from bigr.data.user_pictures import Crop, read_mask, read_picture, seamless


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, len(mode)), np.uint8)
    return Image.fromarray(pixels, mode)


def test_sources_agree(tmp_path: Path) -> None:
    picture = noise(20, 14)
    picture.save(tmp_path / "a.png")
    array = np.array(picture)
    tensor = torch.from_numpy(array).permute(2, 0, 1) / 255
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), picture, array, tensor):
        assert np.array_equal(np.array(read_picture(source)), array)


def test_modes() -> None:
    """Sixteen-bit, palette and grey pictures become RGB, transparent ones RGBA."""
    assert read_picture(noise(9, 9).convert("L")).mode == "RGB"
    assert read_picture(noise(9, 9).convert("P")).mode == "RGB"
    assert read_picture(noise(9, 9).convert("CMYK")).mode == "RGB"
    assert read_picture(noise(9, 9, "RGBA")).mode == "RGBA"


def test_sixteen_bits(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.png")
    read = np.array(read_picture(tmp_path / "a.png"))
    assert np.array_equal(read[..., 0], values >> 8)


def test_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    noise(20, 14).save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg").size == (14, 20)


def bad_files(folder: Path) -> dict[str, str]:
    """Files that are no picture, and what is said of them."""
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    noise(200, 200).save(folder / "whole.jpg")
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    frames = [noise(8, 8), noise(9, 8).resize((8, 8))]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("1", (10_000, 10_000)).save(folder / "large.png")
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    Image.new("RGB", (1000, 4)).save(folder / "narrow.png")
    return {
        "text.png": "not a complete picture",
        "empty.jpg": "not a complete picture",
        "drawing.svg": "not a complete picture",
        "truncated.jpg": "not a complete picture",
        "moving.gif": "animated",
        "large.png": "100 megapixels, but at most 64",
        "bomb.png": "400 megapixels, but at most 64",
        "narrow.png": "no side may be more than 64 times as long",
        "missing.png": "there is no file",
    }


def test_bad_files(tmp_path: Path) -> None:
    for name, message in bad_files(tmp_path).items():
        with pytest.raises(ValueError, match=message):
            read_picture(tmp_path / name)


def test_crop_is_adms() -> None:
    picture = noise(50, 30)
    image = Crop(picture, 16).image()
    expected = np.array(center_crop_pil(picture, 16))
    assert np.array_equal((image * 255).round().permute(1, 2, 0).byte().numpy(), expected)


def test_masks(tmp_path: Path) -> None:
    picture = noise(20, 10)
    array = np.zeros((10, 20), dtype=bool)
    array[2:5, 3:9] = True
    grey = Image.fromarray(array.astype(np.uint8) * 255)
    layer = Image.new("RGBA", (20, 10))
    layer.paste((0, 0, 0, 255), (3, 2, 9, 5))
    grey.save(tmp_path / "mask.png")
    for mask in (
        array,
        torch.from_numpy(array),
        grey,
        layer,
        tmp_path / "mask.png",
        [[3, 2, 9, 5]],
    ):
        assert np.array_equal(np.array(read_mask(mask, picture)) > 0, array)
    cut_out = picture.convert("RGBA")
    cut_out.putalpha(Image.fromarray(np.where(array, 0, 255).astype(np.uint8)))
    assert np.array_equal(np.array(read_mask(None, cut_out)) > 0, array)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, "no transparent pixels"),
        ([[0, 0, 21, 5]], "is not a box"),
        ([[5, 5, 5, 9]], "is not a box"),
        ([3, 4, 5, 6], "is not a box"),
        (np.zeros((10, 20), dtype=bool), "is empty"),
        (np.ones((20, 10), dtype=bool), "must have the same size"),
    ],
)
def test_bad_masks(mask: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_mask(mask, noise(20, 10))  # type: ignore[arg-type]


def test_thin_strokes_are_not_lost() -> None:
    """A line one pixel wide in a picture eight times the model's size."""
    picture = noise(128, 160)
    mask = np.zeros((160, 128), dtype=bool)
    mask[:, 77] = True
    found = Crop(picture, 16).mask(read_mask(mask, picture))
    assert found[:, 9].all()
    assert found.sum() == 16


def test_paste_touches_the_mask_alone() -> None:
    picture, square = noise(40, 24), Image.new("RGB", (8, 8), (1, 2, 3))
    mask = np.zeros((24, 40), dtype=bool)
    mask[5:9, 2:30] = True  # sticks out of the centre square, columns 8 to 31
    result = np.array(Crop(picture, 8).paste(square, read_mask(mask, picture)))
    before = np.array(picture)
    painted = mask.copy()
    painted[:, :8] = False
    assert np.array_equal(result[~painted], before[~painted])
    assert (result[painted] == (1, 2, 3)).all()


@pytest.mark.parametrize("box", [(5, 6, 14, 20), (0, 0, 10, 24), (0, 5, 32, 20), (3, 3, 4, 4)])
def test_poisson(box: tuple[int, int, int, int]) -> None:
    """A flat patch takes on its surroundings' level; the known pixels stay; it isn't displaced."""
    left, top, right, bottom = box
    original = Image.new("RGB", (32, 24), (100, 100, 100))
    pixels = np.full((24, 32, 3), 180, dtype=np.uint8)
    y, x = (top + bottom) // 2, (left + right) // 2
    if right - left > 4:
        pixels[y, x] = 250
    mask = np.zeros((24, 32), dtype=np.uint8)
    mask[top:bottom, left:right] = 255
    result = np.array(seamless(original, Image.fromarray(pixels), Image.fromarray(mask)))
    assert (result[mask == 0] == 100).all()
    if right - left > 4:
        brightest = np.unravel_index(result[..., 0].argmax(), (24, 32))
        assert brightest == (y, x)
        inside = result[..., 0][mask > 0]
        assert abs(float(np.median(inside)) - 100) < 15


@pytest.mark.parametrize("kind", ["a named pipe", "a folder", "a device"])
def test_special_files_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    os.mkfifo(path) if kind == "a named pipe" else path.mkdir()
    path = Path("/dev/zero") if kind == "a device" else path
    with pytest.raises(ValueError, match=f"the image: {path} is {kind}"):
        read_picture(path)
    with pytest.raises(ValueError, match=f"the mask: {path} is {kind}"):
        read_mask(str(path), noise(9, 9))
