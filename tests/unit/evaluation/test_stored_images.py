"""Images of references: read piece by piece, the same pixels."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bigr.data.broken import BrokenImage
from bigr.data.digits import LabelledImages
from bigr.data.image_dataset import MemoryImages, Sample
from bigr.data.sealed_json import DamagedFileError
from bigr.evaluation.stored_images import ArchivedImages, DatasetImages, find_images


@pytest.fixture
def pixels() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (11, 6, 5, 3), dtype=np.uint8)


def test_archive(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    """In any order, although the file is read as a stream."""
    np.savez(tmp_path / "a.npz", mu=np.zeros(3), arr_0=pixels)
    images = ArchivedImages(tmp_path / "a.npz")
    assert len(images) == 11
    assert images.shape == (11, 6, 5, 3)
    for chosen in (range(4, 9), range(0, 1), range(10, 11), range(11)):
        batch = images.batch(chosen)
        assert batch.is_contiguous()
        expected = pixels[chosen.start : chosen.stop].transpose(0, 3, 1, 2)
        assert np.array_equal(batch.numpy(), expected)
    np.savez(tmp_path / "b.npz", arr_0=pixels[:, ::-1])
    assert ArchivedImages(tmp_path / "b.npz").fingerprint() != images.fingerprint()


@pytest.mark.parametrize("kind", ["archive", "folder"])
@pytest.mark.parametrize("count", [10, 11])
def test_halves(tmp_path: Path, kind: str, count: int) -> None:
    """The even and the odd images, with their classes and names, are all images together."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    labels = np.arange(count) % 3
    where = tmp_path / "images.npz"
    if kind == "archive":
        np.savez(where, arr_0=pixels, arr_1=labels)
    else:
        where = tmp_path / "images"
        for number, image in enumerate(pixels):
            path = where / "val" / f"class{labels[number]}" / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    whole = find_images(str(where), "samples")
    found_labels = whole.labels()
    assert found_labels is not None
    for start, half in enumerate(("val_even", "val_odd")):
        images = find_images(str(where), "samples", split=half)
        numbers = range(start, count, 2)
        assert len(images) == len(numbers)
        assert images.image_size == 4
        assert images.fingerprint() != whole.fingerprint()
        assert [images.name(i) for i in range(len(images))] == [whole.name(i) for i in numbers]
        part = images.labels()
        assert part is not None
        assert part.tolist() == found_labels[start::2].tolist()
        for chosen in (range(len(images)), range(1, 4)):
            expected = torch.cat(
                [whole.batch(range(n, n + 1)) for n in numbers[chosen.start : chosen.stop]]
            )
            assert torch.equal(images.batch(chosen), expected)


@pytest.mark.parametrize("bad", [np.zeros((2, 4, 4, 3)), np.zeros((2, 4, 4), np.uint8)])
def test_arrays_that_are_no_images(tmp_path: Path, bad: np.ndarray[Any, Any]) -> None:
    np.savez(tmp_path / "a.npz", arr_0=bad)
    with pytest.raises(ValueError, match=r"not images \(n, H, W, 3\) of uint8"):
        ArchivedImages(tmp_path / "a.npz")


def test_dataset(pixels: np.ndarray[Any, Any]) -> None:
    """Floats are rounded to the bytes that they came from."""
    floats = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    labelled = LabelledImages(floats, torch.zeros(11, dtype=torch.long))
    images = DatasetImages(MemoryImages(labelled, "test"))
    assert len(images) == 11
    batch = images.batch(range(2, 5))
    assert batch.dtype == torch.uint8
    assert np.array_equal(batch.numpy(), pixels[2:5].transpose(0, 3, 1, 2))


def test_a_file_without_images(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    np.savez(tmp_path / "a.npz", mu=np.zeros(3))
    with pytest.raises(DamagedFileError, match=r"a\.npz is damaged or not an \.npz file .*arr_0"):
        ArchivedImages(tmp_path / "a.npz")
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, pixels)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        data = buffer.getvalue().replace(b"(11, 6, 5, 3)", b"(91, 6, 5, 3)")
        archive.writestr("arr_0.npy", data)
    with pytest.raises(DamagedFileError, match=r"arr_0 of shape \(91, 6, 5, 3\) has 990 bytes"):
        ArchivedImages(tmp_path / "b.npz")


def test_broken_images_are_named(pixels: np.ndarray[Any, Any]) -> None:
    class Replacing(MemoryImages):
        def __getitem__(self, index: int) -> Sample:
            found = super().__getitem__(0)
            return found._replace(broken=(BrokenImage(f"{index}.png", "cut off"),) * (index == 4))

    floats = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    images = Replacing(LabelledImages(floats, torch.zeros(11, dtype=torch.long)), "test")
    assert len(DatasetImages(images).batch(range(4))) == 4
    with pytest.raises(ValueError, match=r"the image 4\.png is broken \(cut off\)"):
        DatasetImages(images).batch(range(3, 6))


def save(folder: Path, name: str, pixels: np.ndarray[Any, Any]) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name)


def test_layouts_of_folders(tmp_path: Path) -> None:
    """A flat folder, class folders, and splits of class folders, with their labels."""
    random = np.random.default_rng(0)
    squares = random.integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    for index, square in enumerate(squares):
        save(tmp_path / "flat", f"{index}.png", square)
        save(tmp_path / "classes", f"{'ab'[index // 2]}/{index}.png", square)
        for split in ("train", "val"):
            save(tmp_path / "splits" / split, f"{'ab'[index // 2]}/{index}.png", square)
    expected = torch.from_numpy(squares).permute(0, 3, 1, 2)
    for name, labels in (("flat", None), ("classes", [0, 0, 1, 1]), ("splits", [0, 0, 1, 1])):
        images = find_images(str(tmp_path / name), "samples")
        assert images.image_size == 6
        assert torch.equal(images.batch(range(4)), expected)
        found = images.labels()
        assert (None if found is None else found.tolist()) == labels
    assert find_images(str(tmp_path / "flat"), "samples", image_size=4).image_size == 4
    save(tmp_path / "classes", "beside.png", squares[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"^samples=.*empty is an empty folder: name one"):
        find_images(str(tmp_path / "empty"), "samples")
    with pytest.raises(ValueError, match=r"has images outside class folders, such as beside\.png"):
        find_images(str(tmp_path / "classes"), "samples")


def test_labels_of_archives(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    cases = {"two": np.arange(11) % 2, "one": np.zeros(11, int), "few": np.arange(3), "no": None}
    for name, labels in cases.items():
        more = {} if labels is None else {"arr_1": labels}
        np.savez(tmp_path / f"{name}.npz", arr_0=pixels[:, :5], **more)  # type: ignore[arg-type]
        found = find_images(str(tmp_path / f"{name}.npz"), "samples").labels()
        assert (found is not None) == (name == "two")
        assert found is None or found.tolist() == cases["two"].tolist()


@pytest.mark.parametrize("wrong", [-5, 10**9])
def test_numbers_that_are_no_classes(tmp_path: Path, wrong: int) -> None:
    labels = np.array([0, 1, wrong])
    np.savez(tmp_path / "a.npz", arr_0=np.zeros((3, 6, 6, 3), np.uint8), arr_1=labels)
    with pytest.raises(ValueError, match=r"a\.npz: arr_1 must contain the numbers of classes"):
        find_images(str(tmp_path / "a.npz"), "samples").labels()


def test_files_that_are_no_images_are_found_first(tmp_path: Path) -> None:
    save(tmp_path, "0.png", np.zeros((6, 6, 3), np.uint8))
    (tmp_path / "1.png").write_text("text")
    with pytest.raises(ValueError, match=r"^samples=.*: the image 1\.png is broken .*repair or"):
        find_images(str(tmp_path), "samples")


def test_the_fingerprint_changes_with_the_files(tmp_path: Path) -> None:
    square = np.zeros((6, 6, 3), np.uint8)
    save(tmp_path / "images", "0.png", square)
    save(tmp_path / "images", "1.png", square)
    first = find_images(str(tmp_path / "images"), "samples").fingerprint()
    assert find_images(str(tmp_path / "images"), "samples").fingerprint() == first
    (tmp_path / "images" / ".hidden").touch()
    assert find_images(str(tmp_path / "images"), "samples").fingerprint() == first
    save(tmp_path / "images", "1.png", square + 1)
    assert find_images(str(tmp_path / "images"), "samples").fingerprint() != first


def test_damaged_archives_are_refused(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, arr_0=pixels[:, :5])
    flipped = bytearray(path.read_bytes())
    flipped[600] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(DamagedFileError, match=r"a\.npz is damaged.*the checksum of arr_0\.npy"):
        find_images(str(path), "samples")
