"""Broken images: once each, and not too many."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigr.data.broken import BrokenImage, BrokenImages, TooManyBrokenError


def images(*numbers: int) -> list[BrokenImage]:
    return [BrokenImage(f"cat/{number}.jpg", "empty file") for number in numbers]


def test_each_once_over_epochs_processes_and_restarts(tmp_path: Path) -> None:
    report = tmp_path / "run" / "broken_files.txt"
    one, other = (BrokenImages(1000, 0.01, report) for _ in range(2))
    assert [image.name for image in one.add(images(1, 2, 1))] == ["cat/1.jpg", "cat/2.jpg"]
    assert one.add(images(2)) == []
    assert [image.name for image in other.add(images(2, 3))] == ["cat/3.jpg"]
    assert BrokenImages(1000, 0.01, report).add(images(1, 3)) == []
    assert report.read_text().splitlines() == [f"cat/{n}.jpg: empty file" for n in (1, 2, 3)]


def test_too_many_end_it_with_the_list(tmp_path: Path) -> None:
    report = tmp_path / "broken_files.txt"
    broken = BrokenImages(1000, 0.03, report)
    broken.add(images(*range(30)))
    with pytest.raises(TooManyBrokenError) as caught:
        broken.add(images(30))
    message = str(caught.value)
    assert "31 of 1000 images are broken" in message
    assert "data.max_broken_share=0.03" in message
    assert "cat/19.jpg: empty file\n  … and 11 more in" in message
    assert len(report.read_text().splitlines()) == 31


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_impossible_share(share: float) -> None:
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        BrokenImages(10, share)
