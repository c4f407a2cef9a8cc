"""The commands of make fashion: their order, and that each of them composes."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import hydra
import pytest

from bigr.cli.entry import quote_numbers
from bigr.data.image_dataset import ImageSet
from bigr.data.sources.find import find_splits
from tests.conftest import REPOSITORY
from tests.fashion import FASHION, needs_fashion


def commands(folder: Path, *arguments: Path) -> list[list[str]]:
    """Return the words of all commands that the script runs; nothing is run."""
    recorder = folder / "python"
    recorder.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {shlex.quote(str(folder / "log"))}\n')
    recorder.chmod(0o755)
    subprocess.run(
        ["bash", REPOSITORY / "scripts" / "demo_fashion.sh", *arguments],
        check=True,
        env={**os.environ, "PYTHON": str(recorder)},
        stdout=subprocess.DEVNULL,
    )
    return [line.split() for line in (folder / "log").read_text().splitlines()]


@pytest.mark.usefixtures("composing")
def test_all_commands_compose(tmp_path: Path) -> None:
    found = commands(tmp_path, tmp_path / "run", tmp_path)
    assert [words[1] for words in found] == [
        *("bigr.train", "bigr.tokenize", "bigr.train", *["bigr.evaluate"] * 6),
        *("bigr.probe", "bigr.sample"),
    ]
    for _, module, *words in found:
        if words[0] == "compare":
            assert words[1:4] == [f"{tmp_path}/run/scores/{n}" for n in SCORED]
            continue
        kept = [word for word in words if not word.startswith("hydra.")]
        config = hydra.compose(module.removeprefix("bigr."), quote_numbers(kept))
        assert config.paths
    scored = [words for words in found if "evaluation=fashion" in words]
    for words, name in zip(scored, SCORED, strict=True):
        assert f"hydra.run.dir={tmp_path}/run/scores/{name}" in words


SCORED = ("real", "reconstructions", "samples")


def test_the_images_are_downloaded_if_they_are_missing(tmp_path: Path) -> None:
    first, second, *_ = commands(tmp_path, tmp_path / "run", tmp_path / "nowhere")
    images = f"data.root={tmp_path}/run/images"
    assert {images, "data.download=true"} <= set(first)
    assert (tmp_path / "run" / "images").is_dir()  # data.root has to exist
    assert images in second
    assert "data.download=true" not in second


@needs_fashion
def test_the_images_are_padded() -> None:
    _, val = find_splits(FASHION)
    image = ImageSet(val, 32)[0].image  # an ankle boot, which points to the left
    assert val.classes[val.labels[0]] == "Ankle boot"
    assert image.shape == (3, 32, 32)
    assert image[:, :2].max() == image[:, -2:].max() == 0
    assert image[0, 2:30, 2:30].float().mean().item() == pytest.approx(
        val.pixels[0].mean() * 1024 / 784
    )
