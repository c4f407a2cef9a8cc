"""The report of ``bigr.fit``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bigr.cli.fit_images import look_at
from bigr.cli.fit_report import draw_nearest, write_report
from bigr.cli.fitting import plan
from tests.image_files import write_flat


def solid(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(path)


def test_the_nearest_images_are_below_the_samples(tmp_path: Path) -> None:
    for level in (0, 100, 200):
        for copy in range(3):  # one of the three is held out
            solid(tmp_path / "photos" / str(level) / f"{copy}.png", level + copy)
    for number, level in enumerate((205, 2, 99)):
        solid(tmp_path / "samples" / f"{number}.png", level)
    images = look_at(str(tmp_path / "photos"))
    assert draw_nearest(images, tmp_path / "samples", tmp_path / "n.png") == 8
    pixels = np.asarray(Image.open(tmp_path / "n.png"))
    assert pixels.shape == (2 * 66 + 2, 3 * 66 + 2, 3)  # enlarged eight times, with borders
    assert pixels[10, 10::66, 0].tolist() == [205, 2, 99]
    nearest = pixels[80, 10::66, 0].tolist()
    assert [value // 100 * 100 for value in nearest] == [200, 0, 100]
    assert (pixels[68:132, 68:132] == nearest[1]).all()


def test_the_last_rows_of_the_picture_are_filled_up(tmp_path: Path) -> None:
    for level in (0, 50):
        solid(tmp_path / "photos" / f"{level}.png", level)
    for number in range(11):
        solid(tmp_path / "samples" / f"{number:02d}.png", number)
    images = look_at(str(tmp_path / "photos"))
    draw_nearest(images, tmp_path / "samples", tmp_path / "n.png")
    pixels = np.asarray(Image.open(tmp_path / "n.png"))
    assert pixels.shape == (4 * 66 + 2, 8 * 66 + 2, 3)
    assert pixels[10, 10::66, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert pixels[142, 10::66, 0].tolist() == [8, 9, 10, 255, 255, 255, 255, 255]


def test_no_samples_are_explained(tmp_path: Path) -> None:
    write_flat(tmp_path, {})
    solid(tmp_path / "photos" / "1.png", 1)
    solid(tmp_path / "photos" / "2.png", 1)
    images = look_at(str(tmp_path / "photos"))
    with pytest.raises(ValueError, match="has no samples: remove it, and run the command again"):
        draw_nearest(images, tmp_path, tmp_path / "n.png")


def test_the_report_has_pictures_scores_and_commands(tmp_path: Path) -> None:
    for number in range(4):
        solid(tmp_path / "photos" / f"{number}.png", 50 * number)
    images, output = look_at(str(tmp_path / "photos")), tmp_path / "fit"
    steps = plan(images, output, image_size=8, size="small")
    solid(output / "samples" / "images" / "0.png", 3)
    solid(output / "samples" / "grid.png", 3)
    for step in (1, 20):
        solid(output / "autoencoder" / "pictures" / f"step_{step:08d}.png", 3)
    (output / "generator" / "csv").mkdir(parents=True)
    (output / "generator" / "csv" / "metrics.csv").write_text(
        "step,val/loss,train/loss\n1,9,\n2,0.5,\n3,,7\n"
    )
    for name, figures in (("reconstruction", {"psnr": 21.5}), ("scores", {"own_accuracy": 0.25})):
        (output / name).mkdir()
        (output / name / "metrics.json").write_text(json.dumps({"figures": figures}))
    text = write_report(images, steps, output).read_text()
    assert text.startswith("# A generator trained on photos\n")
    for part in ("(dB) | 21.5 |", "accuracy of the samples | 0.25 |", "generator | 0.5 |"):
        assert part in text
    assert "SSIM" not in text  # it was not measured
    assert "[samples](scores/report.md)" in text
    for picture in ("samples/grid.png", "nearest.png", "autoencoder/pictures/step_00000020.png"):
        assert f"]({picture})" in text
        assert (output / picture).is_file()
    assert all(step.command in text for step in steps)
    (output / "scores" / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics\.json is missing or damaged: remove its folder"):
        write_report(images, steps, output)
