"""A small store of packed codes for tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from bigr.data.broken import BrokenImage
from bigr.data.codes_format import StoreSettings
from bigr.data.codes_writer import StoreWriter

SETTINGS = StoreSettings(
    tokenizer_sha256="ab" * 32,
    code_dim=6,
    grid_size=4,
    image_size=8,
    num_classes=5,
    views=("center", "mirror"),
    num_views=2,
    num_draws=3,
    deterministic=False,
    seed=0,
    decoder="torchvision",
    honour_exif=False,
    precision="32-true",
    shard_size=7,
    sources={"train": "1" * 64, "val": "2" * 64},
    num_images={"train": 16, "val": 3},
    classes=("a", "b", "c", "d", "e"),
)


BROKEN = {2: BrokenImage("c/2.jpg", "empty file"), 8: BrokenImage("d/8.jpg", "not: an image")}


NUM_SHARDS = {"train": 3, "val": 1}
WIDTH = 5
"""Of features."""


def bits(split: str) -> np.ndarray:
    """(n, V, N, K), the same at each call."""
    generator = np.random.default_rng(len(split))
    count = SETTINGS.num_images[split]
    return generator.integers(0, 2, (count, SETTINGS.entries, 16, 6), dtype=np.uint8)


def packed(values: np.ndarray) -> np.ndarray:
    return np.packbits(values.reshape(*values.shape[:2], -1), axis=-1)


def fill(writer: StoreWriter) -> None:
    """Write the shards that the store does not have yet."""
    for split, count in SETTINGS.num_images.items():
        for number in range(NUM_SHARDS[split]):
            chosen = np.arange(number * 7, min(number * 7 + 7, count))
            bad = [(int(i), BROKEN[i]) for i in chosen if split == "train" and i in BROKEN]
            good = np.array([i for i in chosen if i not in dict(bad)])
            if not writer.has(split, number):
                writer.write(split, number, packed(bits(split)[good]), good % 5, good, bad)


def view_features(split: str) -> np.ndarray:
    """(n, views, N, C) float16, the same at each call."""
    generator = np.random.default_rng(100 + len(split))
    shape = (SETTINGS.num_images[split], SETTINGS.num_views, 16, WIDTH)
    return generator.standard_normal(shape).astype(np.float16)


def make_store_with_features(folder: Path) -> None:
    """Write a complete store like :func:`make_store`, with features and no broken images."""
    settings = dataclasses.replace(SETTINGS, feature_dim=WIDTH, feature_encoder="encoder")
    writer = StoreWriter(folder, settings)
    with writer.open():
        for split, count in SETTINGS.num_images.items():
            for number in range(NUM_SHARDS[split]):
                chosen = np.arange(number * 7, min(number * 7 + 7, count))
                codes, features = packed(bits(split)[chosen]), view_features(split)[chosen]
                writer.write(split, number, codes, chosen % 5, chosen, [], features)
        writer.finish()


def make_store(folder: Path) -> None:
    """Write a complete store, as ``python -m bigr.tokenize`` does."""
    writer = StoreWriter(folder, SETTINGS)
    with writer.open():
        fill(writer)
        writer.finish()
