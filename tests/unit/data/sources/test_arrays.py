"""CIFAR and MNIST in the files of their authors."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from torchvision.datasets import CIFAR10, MNIST

from bigr.data.image_dataset import ImageSet
from bigr.data.sources.arrays import ArraySource, download, read_idx
from bigr.data.sources.find import count_classes, find_splits
from tests.fashion import FASHION, needs_fashion

COUNTS = {"train": 12, "t10k": 5}


def idx(array: np.ndarray[Any, Any]) -> bytes:
    header = bytes([0, 0, 8, array.ndim])
    return header + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def write_mnist(folder: Path, *, compressed: bool = False) -> dict[str, Any]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for prefix, count in COUNTS.items():
        arrays[f"{prefix}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = rng.integers(0, 10, count, np.uint8)
    for name, array in arrays.items():
        data = gzip.compress(idx(array)) if compressed else idx(array)
        (folder / f"{name}{'.gz' if compressed else ''}").write_bytes(data)
    return arrays


@pytest.mark.parametrize("compressed", [False, True])
def test_mnist_is_what_torchvision_reads(tmp_path: Path, compressed: bool) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", compressed=compressed)
    train, val = find_splits(tmp_path)
    assert count_classes(tmp_path) == 10
    if compressed:  # torchvision reads only decompressed files
        write_mnist(tmp_path / "plain" / "MNIST" / "raw")
    root = tmp_path / "plain" if compressed else tmp_path
    for source, is_train in ((train, True), (val, False)):
        theirs = MNIST(str(root), train=is_train)
        assert source.labels.tolist() == theirs.targets.tolist()
        for index in range(len(source)):
            ours = ImageSet(source, 32)[index].image
            assert ours[0, 2:30, 2:30].tolist() == theirs.data[index].tolist()
            assert ours[0].sum() == theirs.data[index].sum()  # the border is black
    assert train.fingerprint() != val.fingerprint()


def test_fashion_is_recognised_by_its_folder(tmp_path: Path) -> None:
    write_mnist(tmp_path / "fashion-mnist")
    write_mnist(tmp_path / "digits")
    assert find_splits(tmp_path / "fashion-mnist")[0].classes[9] == "Ankle boot"
    assert find_splits(tmp_path / "digits")[0].classes[9] == "9"


@needs_fashion
def test_the_package_of_debian() -> None:
    train, val = find_splits(FASHION)
    assert np.bincount(train.labels).tolist() == [6000] * 10
    assert np.bincount(val.labels).tolist() == [1000] * 10


def test_cifar_is_what_torchvision_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small files, whose checksums stand for those of the originals."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    sums = {}
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"):
        batch = {
            "data": rng.integers(0, 256, (3, 3072), np.uint8),
            "labels": rng.integers(0, 10, 3).tolist(),
            "label_names": [f"class {n}" for n in range(10)],
        }
        (folder / name).write_bytes(pickle.dumps(batch))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    # Files with other checksums are never opened.
    with pytest.raises(ValueError, match="is incomplete or damaged: remove it"):
        find_splits(tmp_path)
    monkeypatch.setattr(
        CIFAR10, "train_list", [[f"data_batch_{n}", sums[f"data_batch_{n}"]] for n in range(1, 6)]
    )
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    train, val = find_splits(tmp_path)
    assert (len(train), len(val), train.classes[3]) == (15, 3, "class 3")
    theirs = CIFAR10(str(tmp_path), train=False)
    for index in range(3):
        ours = ImageSet(val, 32)[index]
        assert ours.image.permute(1, 2, 0).tolist() == theirs.data[index].tolist()
        assert ours.label == theirs.targets[index]


def test_colour_and_grey_images_are_lossless() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    colour, grey = (
        ArraySource(pixels, [0, 0], ["a"], "x"),
        ArraySource(pixels[..., 0], [0, 0], ["a"], "x"),
    )
    assert ImageSet(colour, 8)[1].image.permute(1, 2, 0).tolist() == pixels[1].tolist()
    assert ImageSet(grey, 8)[1].image[2].tolist() == pixels[1, ..., 0].tolist()
    assert colour.name(1) == "x:1"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (idx(np.zeros((2, 3, 3), np.uint8))[:-1], "is damaged"),
        (idx(np.zeros((2, 9), np.uint8)), "is damaged"),
        (b"\0\0\x0b\x03" + bytes(12), "is damaged"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "is damaged"),
        (b"", "is damaged"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_files_are_refused(
    tmp_path: Path, data: bytes, message: str, compressed: bool
) -> None:
    path = tmp_path / ("a.gz" if compressed else "a")
    path.write_bytes(gzip.compress(data) if compressed else data)
    with pytest.raises(ValueError, match=message):
        read_idx(path, 3)


def test_damaged_archives_and_pipes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(100))[:-9])
    with pytest.raises(ValueError, match="is damaged"):
        read_idx(tmp_path / "a.gz", 3)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a named pipe"):
        read_idx(tmp_path / "pipe", 3)


@pytest.mark.parametrize("name", ["t10k-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_missing_and_contradicting_files_are_refused(tmp_path: Path, name: str) -> None:
    arrays = write_mnist(tmp_path / "mnist")
    (tmp_path / "mnist" / name).write_bytes(idx(arrays[name][:-1]))
    with pytest.raises(ValueError, match="t10k do not fit together"):
        find_splits(tmp_path / "mnist")
    (tmp_path / "mnist" / name).unlink()
    with pytest.raises(ValueError, match=f"lacks {name}"):
        find_splits(tmp_path / "mnist")


def test_downloads_are_left_to_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        torchvision.datasets, "CIFAR100", lambda root, download: calls.append((root, download))
    )
    download("CIFAR100", tmp_path)
    assert calls == [(str(tmp_path), True)]

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("Error downloading train-images")

    monkeypatch.setattr(torchvision.datasets, "MNIST", fail)
    with pytest.raises(ValueError, match=r"MNIST can't be downloaded to .*: check the connection"):
        download("MNIST", tmp_path)
