"""Encoded images of every odd kind, made here, and the same ones as folders, tars and parquet."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

CLASSES = ("n01440764", "n01443537", "n01484850")


def photograph(width: int = 500, height: int = 375, shift: int = 0) -> Image.Image:
    """A piece of scikit-learn's photograph of a temple, or all of it enlarged."""
    whole = Image.fromarray(load_sample_image("china.jpg"))
    if width > 600 or height > 400:
        return whole.resize((width, height), Image.Resampling.BICUBIC)
    left = shift % (640 - width + 1)
    return whole.crop((left, 0, left + width, height))


def encoded(image: Image.Image, kind: str = "JPEG", **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **settings)
    return buffer.getvalue()


def odd_images() -> dict[str, bytes]:
    """Every mode that people have under the name .JPEG."""
    rgb = photograph(320, 240)
    grey16 = (np.asarray(rgb.convert("L")).astype(np.uint16) << 8) + 77
    turned = Image.Exif()
    turned[0x0112] = 6  # turn by 90 degrees to see it upright
    transparent = rgb.convert("RGBA")
    transparent.putalpha(128)
    return {
        "colour": encoded(rgb, quality=90),
        "progressive": encoded(rgb, quality=90, progressive=True),
        "full_chroma": encoded(rgb, quality=90, subsampling=0),
        "grey": encoded(rgb.convert("L"), quality=90),
        "cmyk": encoded(rgb.convert("CMYK"), quality=90),
        "turned": encoded(rgb, quality=90, exif=turned),
        "png": encoded(rgb, "PNG"),
        "palette": encoded(rgb.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
        "transparent": encoded(transparent, "PNG"),
        "grey16": encoded(Image.fromarray(grey16), "PNG"),
        "webp": encoded(rgb, "WEBP", quality=90),
        "large": encoded(photograph(1300, 901), quality=80),
        "narrow": encoded(photograph(60, 400), quality=90),
    }


def broken_images() -> dict[str, bytes]:
    whole = encoded(photograph(320, 240), quality=90)
    png = encoded(photograph(320, 240), "PNG")
    return {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "truncated_png": png[: len(png) // 2],
        "text": b"<html>404 not found</html>",
        "header_only": whole[:100],
    }


def write_folders(root: Path, split: str, images: dict[tuple[str, str], bytes]) -> None:
    """``root/<split>/<class>/<file>``; the keys are (class, file)."""
    for (owner, name), data in images.items():
        path = root / split / owner / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_nested_tar(path: Path, images: dict[tuple[str, str], bytes]) -> None:
    """As ILSVRC2012_img_train.tar: one tar per class in a tar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as outer:
        for owner in sorted({owner for owner, _ in images}):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as inner:
                for (other, name), data in images.items():
                    if other == owner:
                        add(inner, name, data)
            add(outer, f"{owner}.tar", buffer.getvalue())


def write_tar(path: Path, images: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in images.items():
            add(tar, name, data)


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size = len(data)
    tar.addfile(about, io.BytesIO(data))


def write_parquet(
    root: Path, split: str, images: dict[tuple[str, str], bytes], shards: int = 2, group: int = 4
) -> None:
    """As on the hub: a struct of bytes and path, labels, class names in the metadata."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    classes = sorted({owner for owner, _ in images})
    names = {"names": classes, "_type": "ClassLabel"}
    about = {"info": {"features": {"image": {"_type": "Image"}, "label": names}}}
    items = sorted(images.items())
    (root / "data").mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        part = items[shard * len(items) // shards : (shard + 1) * len(items) // shards]
        table = pa.table(
            {
                "image": [{"bytes": data, "path": name} for (_, name), data in part],
                "label": pa.array([classes.index(owner) for (owner, _), _ in part], pa.int64()),
            }
        ).replace_schema_metadata({"huggingface": json.dumps(about)})
        path = root / "data" / f"{split}-{shard:05d}-of-{shards:05d}.parquet"
        pq.write_table(table, path, row_group_size=group)


def write_listed(root: Path, images: dict[tuple[str, str], bytes], kind: str) -> None:
    """Images in one folder with ``labels.csv`` or ``labels.json``, in another order than theirs."""
    import csv
    import json

    write_flat(root, {name: data for (_, name), data in images.items()})
    rows = [(name, owner) for owner, name in sorted(images, reverse=True)]
    if kind == "json":
        (root / "labels.json").write_text(json.dumps(dict(rows)))
        return
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label"), *rows])


def write_flat(root: Path, images: dict[str, bytes]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, data in images.items():
        (root / name).write_bytes(data)


def write_shards(pattern: str, images: dict[tuple[str, str], bytes], shards: int = 2) -> None:
    """As WebDataset: pairs of an image and a text with its class."""
    items = sorted(images.items())
    for shard in range(shards):
        part = items[shard * len(items) // shards : (shard + 1) * len(items) // shards]
        pairs = {}
        for (owner, name), data in part:
            pairs[name] = data
            pairs[f"{name.split('.')[0]}.cls"] = owner.encode()
        write_tar(Path(pattern.format(shard)), pairs)


def write_arrow(folder: Path, images: dict[tuple[str, str], bytes], shards: int = 2) -> None:
    """As ``Dataset.save_to_disk`` of the library ``datasets``."""
    import json

    import pyarrow as pa

    classes = sorted({owner for owner, _ in images})
    names = {"names": classes, "_type": "ClassLabel"}
    about = {"info": {"features": {"image": {"_type": "Image"}, "label": names}}}
    items = sorted(images.items())
    folder.mkdir(parents=True, exist_ok=True)
    files = [f"data-{shard:05d}-of-{shards:05d}.arrow" for shard in range(shards)]
    for shard, file in enumerate(files):
        part = items[shard * len(items) // shards : (shard + 1) * len(items) // shards]
        table = pa.table(
            {
                "image": [{"bytes": data, "path": name} for (_, name), data in part],
                "label": pa.array([classes.index(owner) for (owner, _), _ in part], pa.int64()),
            }
        ).replace_schema_metadata({"huggingface": json.dumps(about)})
        with pa.ipc.new_stream(str(folder / file), table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
    state = {"_data_files": [{"filename": file} for file in files]}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps(about["info"]))


ODD = odd_images()
BROKEN = broken_images()


def training_images() -> dict[tuple[str, str], bytes]:
    """Odd and broken ones, spread over three classes."""
    images = {}
    for index, (kind, data) in enumerate(sorted({**ODD, **BROKEN}.items())):
        owner = CLASSES[index % len(CLASSES)]
        images[owner, f"{owner}_{kind}.JPEG"] = data
    return images


def validation_images() -> dict[str, bytes]:
    return {
        f"ILSVRC2012_val_{n:08d}.JPEG": encoded(photograph(80, 70, shift=n * 40)) for n in (1, 2, 3)
    }
