"""The images of ``bigr.fit`` are counted and decoded before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigr.cli.fit_images import check_images, look_at
from tests.image_files import ODD, encoded, photograph, write_flat


def test_images_are_counted_first(tmp_path: Path) -> None:
    write_flat(tmp_path, {f"{n}.png": ODD["png"] for n in range(10)})
    found = look_at(str(tmp_path))
    assert (found.num_train, found.num_val, found.classes) == (9, 1, ("images",))
    with pytest.raises(ValueError, match=r"^images=.*nowhere: there is no such folder"):
        look_at(str(tmp_path / "nowhere"))


def test_broken_images_are_found_before_training(tmp_path: Path) -> None:
    images = {f"{n}.png": ODD["png"] for n in range(11)}
    write_flat(tmp_path, {**images, "a.jpg": encoded(photograph(40, 30), "JPEG")[:300]})
    found = look_at(str(tmp_path))
    with pytest.raises(ValueError, match=r"1 of 12 images is broken: a.jpg \(Image is incomplete"):
        check_images(found, 8)
    (tmp_path / "3.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"2 of 12 images are broken: .*3.png \(not an image\)"):
        check_images(found, 8)
    for name in ("a.jpg", "3.png"):
        (tmp_path / name).unlink()
    check_images(look_at(str(tmp_path)), 8)


def test_too_few_images_are_reported_before_training(tmp_path: Path) -> None:
    """Nine images are too few to score samples, and one is too few to hold one out."""
    write_flat(tmp_path, {f"{n}.png": ODD["png"] for n in range(9)})
    with pytest.raises(ValueError, match=r"^images=.* has 9 images with .* at least 10 are needed"):
        check_images(look_at(str(tmp_path)), 8)
    for number in range(1, 9):
        (tmp_path / f"{number}.png").unlink()
    with pytest.raises(ValueError, match=r"^images=.*: no image can be held out"):
        look_at(str(tmp_path))
