"""Fixtures for tests of the data layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigr.data.codes_writer import StoreWriter
from tests.codes_stores import SETTINGS, fill
from tests.image_files import (
    training_images,
    write_arrow,
    write_folders,
    write_listed,
    write_nested_tar,
    write_parquet,
    write_shards,
    write_tar,
)


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    """The same training images in every format."""
    images = training_images()
    write_folders(tmp_path / "folders", "train", images)
    write_nested_tar(tmp_path / "tars" / "ILSVRC2012_img_train.tar", images)
    write_tar(tmp_path / "flat_tar" / "train.tar", {"/".join(key): d for key, d in images.items()})
    write_parquet(tmp_path / "parquet", "train", images)
    write_listed(tmp_path / "csv" / "train", images, "csv")
    write_listed(tmp_path / "json" / "train", images, "json")
    write_arrow(tmp_path / "arrow" / "train", images)
    write_shards(f"{tmp_path}/shards/train-{{:06d}}.tar", images)
    write_shards(f"{tmp_path}/one_shard/train.tar", images, shards=1)
    names = ("folders", "tars", "flat_tar", "parquet")
    names += ("csv", "json", "arrow", "shards", "one_shard")
    return {name: tmp_path / name for name in names}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Folder with a complete store."""
    writer = StoreWriter(tmp_path / "store", SETTINGS)
    fill(writer)
    writer.finish()
    return tmp_path / "store"
