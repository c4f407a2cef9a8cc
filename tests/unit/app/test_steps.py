"""Frames while an application runs, and what is left at the end."""

from __future__ import annotations

import json
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bigr.app.steps import CANVAS_SIDE, Step, steps_of, visible
from bigr.inference.preview import Film
from bigr.sampling.sampler import Progress, ProgressCallback
from tests.models import tiny_autoencoder
from tests.pictures import noise

SETTINGS = {"application": "test", "seed": 7}


def run(count: int, **more: Any) -> list[tuple[Step, list[str]]]:
    """The steps of a call that decides four tokens in each of four iterations."""

    def call(on_iteration: ProgressCallback) -> list[Image.Image]:
        certainty = torch.full((1, 16), float("nan"))
        for iteration in range(1, 5):
            certainty[0, 4 * iteration - 4 : 4 * iteration] = iteration / 4
            is_masked = torch.arange(16)[None] >= 4 * iteration
            codes = torch.zeros(1, 16, 6)
            on_iteration(Progress(iteration, 4, codes, is_masked, certainty.clone()))
        return [noise(seed=seed) for seed in range(count)]

    steps = []
    for step in steps_of(call, Film(tiny_autoencoder(), 1, 1), SETTINGS, **more):
        names: list[str] = []
        if step.archive is not None:
            with zipfile.ZipFile(step.archive) as file:
                names = sorted(file.namelist())
                assert json.loads(file.read("settings.json")) == SETTINGS
        steps.append((step, names))
    return steps


def test_frames_and_results() -> None:
    *frames, (last, names) = run(2)
    assert [step.message for step, _ in frames] == [f"iteration {i} of 4" for i in (1, 2, 3, 4)]
    assert all(step.pictures is None and step.archive is None for step, _ in frames)
    assert last.pictures is not None
    assert [picture.size for picture in last.pictures] == [(320, 320)] * 2
    assert last.message.startswith("2 pictures in ")
    assert last.message.endswith("seed 7")
    assert names == [
        "settings.json", "test_00.png", "test_01.png", "unmasking.gif", "unmasking.webp",
    ]  # fmt: skip


def test_maps_of_the_first_result() -> None:
    """Row by row the tokens were decided later, and with more confidence."""
    (last, _) = run(1)[-1]
    assert last.inside is not None
    for picture, _ in last.inside:
        rows = np.array(picture).sum(axis=-1).astype(int)[40::80]
        assert (rows == rows[:, :1]).all()
        assert (np.diff(rows[:, 0]) > 0).all()


def test_an_interpolation_is_an_animation() -> None:
    (last, names) = run(3, animates_result=True)[-1]
    assert str(last.frame).endswith("interpolation.gif")
    assert {"interpolation.gif", "interpolation.webp"} < set(names)


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [((8, 4), 320, (320, 160)), ((300, 10), 320, (300, 10)), ((700, 700), 320, (700, 700))],
)
def test_visible(size: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    assert visible(Image.new("RGB", size), side).size == expected
    assert CANVAS_SIDE // 2 == 320
