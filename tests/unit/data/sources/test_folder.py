"""Images in folders: order, hidden files, labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigr.data.sources.folder import class_names, read_class_folders, read_flat


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def test_class_folders(tmp_path: Path) -> None:
    """Files of subfolders belong to the class; hidden files and other suffixes are ignored."""
    touch(tmp_path, "b/2.png", "b/10.png", "b/.hidden.png", "b/notes.txt", "a/deep/er/1.JPG")
    touch(tmp_path, ".cache/1.png", "loose.png")
    source = read_class_folders(tmp_path)
    names = [source.name(index) for index in range(len(source))]
    assert names == ["a/deep/er/1.JPG", "b/10.png", "b/2.png"]
    assert source.labels.tolist() == [0, 1, 1]
    assert source.classes == class_names(tmp_path) == ["a", "b"]
    assert source.read(2) == b"b/2.png"


def test_names_may_have_any_characters(tmp_path: Path) -> None:
    touch(tmp_path, "ä ö/Größe 1.png")
    source = read_class_folders(tmp_path)
    assert source.name(0) == "ä ö/Größe 1.png"
    assert source.read(0) == "ä ö/Größe 1.png".encode()


def test_labels_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "2.png", "1.jpeg")
    source = read_flat(tmp_path, {"1": 5, "2": 3, "9": 0}, [str(n) for n in range(6)])
    assert source.labels.tolist() == [5, 3]
    with pytest.raises(ValueError, match=r"the ground truth has no label for 2\.png"):
        read_flat(tmp_path, {"1": 5}, ["x"] * 6)
