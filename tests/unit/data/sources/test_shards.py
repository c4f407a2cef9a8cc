"""Shards of WebDataset: pairs, order, labels, and files that do not belong to a pair."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from bigr.data.sources.find import find_splits
from bigr.data.sources.shards import ShardSource
from tests.image_files import CLASSES, training_images, write_shards, write_tar


def test_shards_are_read_in_order_and_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = training_images()
    write_shards(f"{tmp_path}/{{}}.tar", images, shards=3)
    paths = sorted(tmp_path.glob("*.tar"))
    ShardSource(paths)
    monkeypatch.setattr(tarfile, "open", lambda *_: pytest.fail("the index was made again"))
    source = ShardSource(paths)
    assert [source.read(index) for index in range(len(source))] == [
        images[key] for key in sorted(images)
    ]
    assert [source.classes[label] for label in source.labels] == [key[0] for key in sorted(images)]
    assert source.name(6) == f"1.tar/{sorted(images)[6][1]}"
    assert source.classes == list(CLASSES)


def test_labels_follow_the_key_in_any_order_of_the_members(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "a.tar",
        {
            "x/2.cls": b"1\n", "x/1.jpg": b"one", "x/2.json": b"{}", "x/2.png": b"two",
            "y/1.mask.png": b"mask", "x/1.cls": b"0", "y/1.png": b"three", "y/1.cls": b"1",
        },
    )  # fmt: skip
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    source = ShardSource([tmp_path / "a.tar"])
    assert [source.read(index) for index in range(len(source))] == [b"one", b"two", b"three"]
    assert (source.labels.tolist(), source.classes) == ([0, 1, 1], ["cat", "dog"])


def test_both_splits_have_names_as_on_the_hub(tmp_path: Path) -> None:
    for name, count in (("pets-train-0.tar", 2), ("pets-train-1.tar", 2), ("pets-test-0.tar", 1)):
        write_tar(
            tmp_path / name,
            {f"{n}.{end}": b"0" for n in range(count) for end in ("jpg", "cls")},
        )
    assert [len(source) for source in find_splits(tmp_path)] == [4, 1]


def test_an_image_without_a_label_is_reported(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"1.jpg": b"one", "1.cls": b"0", "2.jpg": b"two"})
    with pytest.raises(ValueError, match=r"has no label for 2\.jpg: it needs 2\.cls beside it"):
        ShardSource([tmp_path / "a.tar"])
