"""Frames while an application runs, and what is left at the end."""

from __future__ import annotations

import itertools
import json
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bigr.app.steps import CANVAS_SIDE, PictureJob, ReconstructionJob, Results, Step, visible
from bigr.inference.preview import Film
from bigr.pipeline.picture_settings import PictureSettings
from bigr.sampling.sampler import Progress, ProgressCallback
from tests.models import tiny_autoencoder
from tests.pictures import noise


def settings() -> PictureSettings:
    return PictureSettings(
        application="enrich", arguments={"image": noise(4, 4)}, seed=7,
        sampler={}, execution={}, models={},
    )  # fmt: skip


def run(folder: Path, count: int, **more: Any) -> list[Step]:
    """The steps of a call that decides four tokens in each of four iterations."""

    def call(on_iteration: ProgressCallback) -> list[Image.Image]:
        certainty = torch.full((1, 16), float("nan"))
        for iteration in range(1, 5):
            certainty[0, 4 * iteration - 4 : 4 * iteration] = iteration / 4
            is_masked = torch.arange(16)[None] >= 4 * iteration
            codes = torch.zeros(1, 16, 6)
            on_iteration(Progress(iteration, 4, codes, is_masked, certainty.clone()))
        return [noise(seed=seed) for seed in range(count)]

    job = PictureJob(call, Film(tiny_autoencoder(), 1, 1), settings, **more)
    return list(job.steps(folder))


def results(step: Step) -> Results:
    assert step.results is not None
    return step.results


def names(found: Results) -> list[str]:
    assert found.archive is not None
    with zipfile.ZipFile(found.archive) as file:
        assert json.loads(file.read("settings.json"))["seed"] == 7
        return sorted(file.namelist())


def test_frames_and_results(tmp_path: Path) -> None:
    first, *frames, end = run(tmp_path, 2)
    assert (first.message, first.share, first.frame) == ("starting", 0.0, None)
    assert [step.message for step in frames] == [f"iteration {i} of 4" for i in (1, 2, 3, 4)]
    assert [step.share for step in frames] == [0.25, 0.5, 0.75, 1.0]
    assert all(step.results is None for step in frames)
    assert [Image.open(step.frame).width > 300 for step in frames if step.frame] == [True] * 4
    last = results(end)
    assert [Image.open(path).size for path in last.shown] == [(320, 320)] * 2
    assert last.message.startswith("2 pictures in ")
    assert last.message.endswith("seed 7")
    assert names(last) == [
        "enrich_00.png", "enrich_01.png", "image.png", "settings.json",
        "unmasking.gif", "unmasking.webp",
    ]  # fmt: skip


def test_remaining_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Iterations take 2 s each of a clock that moves only when it is read."""
    times = itertools.count(100.0, 2.0)
    monkeypatch.setattr("bigr.app.steps.time.perf_counter", lambda: next(times))
    steps = run(tmp_path, 1)
    assert [step.seconds_left for step in steps] == [None, 6.0, 4.0, 2.0, 0.0, None]


def test_a_job_that_is_stopped_says_so(tmp_path: Path) -> None:
    """Its last frame stays, and the call ends with its next iteration."""
    iterations = []

    def call(on_iteration: ProgressCallback) -> list[Image.Image]:
        for iteration in range(1, 100):
            codes, is_masked = torch.zeros(1, 16, 6), torch.ones(1, 16, dtype=torch.bool)
            confidence = torch.full((1, 16), float("nan"))
            on_iteration(Progress(iteration, 99, codes, is_masked, confidence))
            iterations.append(iteration)
            taken.acquire()
        return []

    taken, stop = threading.Semaphore(0), threading.Event()
    steps = PictureJob(call, Film(tiny_autoencoder(), 1, 1), settings).steps(tmp_path, stop)
    next(steps)
    first = next(steps)
    taken.release()
    second = next(steps)
    stop.set()
    taken.release()
    (last,) = steps
    assert (first.message, second.message) == ("iteration 1 of 99", "iteration 2 of 99")
    assert (last.message, last.frame) == ("stopped after iteration 2 of 99", second.frame)
    assert last.results is None
    assert iterations == [1, 2]


def test_maps_of_the_first_result(tmp_path: Path) -> None:
    """Row by row the tokens were decided later, and with more confidence."""
    last = results(run(tmp_path, 1)[-1])
    for path, _ in last.inside:
        rows = np.array(Image.open(path)).sum(axis=-1).astype(int)[40::80]
        assert (rows == rows[:, :1]).all()
        assert (np.diff(rows[:, 0]) > 0).all()


def test_an_interpolation_is_an_animation(tmp_path: Path) -> None:
    last = results(run(tmp_path, 3, animates_result=True)[-1])
    assert last.animation is not None
    assert last.animation.name == "interpolation.gif"
    assert {"interpolation.gif", "interpolation.webp"} < set(names(last))


def test_before_and_after_have_the_same_size(tmp_path: Path) -> None:
    """The input's centre square, if the results are squares of another size."""
    before = Image.new("RGB", (40, 20), "red")
    before.paste("blue", (10, 0, 30, 20))
    last = results(run(tmp_path, 1, before=before)[-1])
    assert last.before is not None
    picture = Image.open(last.before)
    assert picture.size == Image.open(last.shown[0]).size
    assert np.array(picture)[..., 0].max() < 30  # no red, but for the resampling at the edges


def test_a_reconstruction(tmp_path: Path) -> None:
    (step,) = ReconstructionJob(lambda: [noise(8, 8), noise(8, 8, seed=1)]).steps(tmp_path)
    last = results(step)
    assert [Image.open(path).size for path in last.pictures] == [(8, 8)] * 2
    assert last.before == last.shown[0]
    assert last.archive is last.settings is None


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [((8, 4), 320, (320, 160)), ((300, 10), 320, (300, 10)), ((700, 700), 320, (700, 700))],
)
def test_visible(size: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    assert visible(Image.new("RGB", size), side).size == expected
    assert CANVAS_SIDE // 2 == 320
