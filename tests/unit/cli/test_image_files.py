"""The files of ``bigr.sample``: their names, their number, and what happens on a full disk."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from bigr import BiGRPipeline
from bigr.cli import image_files
from bigr.pipeline import GeneratedPicture
from tests.models import tiny_autoencoder, tiny_generator


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (level, level, level))


def level_of(path: Path) -> Any:
    with Image.open(path) as picture:
        return picture.convert("L").getpixel((0, 0))


def test_more_pictures_than_may_wait_are_all_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "MOST_WAITING", 3)
    pictures = (grey(level) for level in range(20))
    paths = image_files.write_images(pictures, tmp_path, "edit", 5, None)
    assert [path.name for path in paths.values()] == [f"edit_{i:03d}.png" for i in range(20)]
    assert [level_of(paths[index]) for index in range(20)] == list(range(20))


def test_generated_pictures_are_numbered_by_their_seeds(tmp_path: Path) -> None:
    """Each process of several makes every second picture, and the film ends with the first."""
    pictures = [GeneratedPicture(class_id=3, seed=seed, picture=grey(seed)) for seed in (8, 10)]
    film: Any = SimpleNamespace(is_over=False)
    paths = image_files.write_images(pictures, tmp_path, "stream", 7, film)
    assert {index: path.name for index, path in paths.items()} == {
        1: "class_0003_seed_000008.png",
        3: "class_0003_seed_000010.png",
    }
    assert film.is_over


@pytest.mark.parametrize("count", [1, 5])
def test_a_picture_that_cannot_be_written_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(image_files, "MOST_WAITING", 2)
    (tmp_path / "images").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="images"):
        image_files.write_images(map(grey, range(count)), tmp_path / "images", "edit", 0, None)


@pytest.mark.parametrize(
    ("arguments", "is_shared", "places"),
    [
        ({"ratios": None}, False, (8, 4)),  # the 27 of the paper
        ({"num_variants": 3}, False, (3, 1)),
        ({"num_variants": 3, "ratios": [0.0, 1.0]}, False, (3, 1)),
        ({"num_per_class": 50}, True, (2, 1)),  # of a batch of two
    ],
)
def test_films_have_a_place_for_each_picture(
    arguments: dict[str, Any], is_shared: bool, places: tuple[int, int]
) -> None:
    pipeline = BiGRPipeline(tiny_generator(), tiny_autoencoder(), device="cpu")
    film = image_files.make_film(pipeline, arguments, is_shared)
    pipeline.generate(0, num_per_class=2, on_iteration=film, num_iterations=2, num_denoise_steps=2)
    assert [frame.size for frame in film.frames] == [(66 * places[0] + 2, 66 * places[1] + 2)] * 2


@pytest.mark.parametrize(("arguments", "places"), [({}, (8, 2)), ({"num_per_class": 3}, (3, 3))])
def test_the_grid_has_a_row_for_each_class(
    tmp_path: Path, arguments: dict[str, Any], places: tuple[int, int]
) -> None:
    paths = image_files.write_images(map(grey, range(9)), tmp_path / "images", "x", 0, None)
    image_files.draw(list(paths.values()), tmp_path, arguments, None)
    with Image.open(tmp_path / "samples.png") as grid:
        assert grid.size == (66 * places[0] + 2, 66 * places[1] + 2)
    assert not list(tmp_path.glob("*.gif"))


def test_sequences_are_animated_forwards_and_backwards(tmp_path: Path) -> None:
    paths = image_files.write_images(map(grey, (0, 90, 180)), tmp_path / "images", "x", 0, None)
    image_files.draw(list(paths.values()), tmp_path, {"ratios": [0.0, 0.5, 1.0]}, None)
    with Image.open(tmp_path / "interpolation.gif") as animation:
        assert animation.n_frames == 4
