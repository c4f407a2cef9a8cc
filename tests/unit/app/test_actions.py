"""What the app's buttons do, without a browser."""

from __future__ import annotations

import json
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bigr import BiGRPipeline, SamplerConfig
from bigr.app.actions import WHATEVER, Actions, Knobs, Limits
from bigr.app.steps import Step, visible
from bigr.sampling.sampler import Sampler
from tests.models import tiny_autoencoder, tiny_generator

SAMPLER = SamplerConfig(num_denoise_steps=4, num_iterations=3, order="random")
KNOBS = Knobs(guidance_scale=2.0, num_iterations=3, gumbel_temperature=0.1, seed=5)


@pytest.fixture
def actions() -> Actions:
    pipeline = BiGRPipeline(tiny_generator(), tiny_autoencoder(), device="cpu", batch_size=2)
    return Actions(pipeline, SAMPLER, Limits(pictures=6, iterations=10, megapixels=0.01))


@pytest.fixture
def photo(tmp_path: Path) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def strokes(left: int, top: int, right: int, bottom: int) -> Image.Image:
    """On the canvas of a 50 x 30 picture, 640 x 384."""
    layer = Image.new("RGBA", (640, 384))
    layer.paste((255, 0, 0, 255), (left, top, right, bottom))
    return layer


def test_frames_then_everything(actions: Actions) -> None:
    """Five images in batches of two: three iterations each, then pictures, maps and a ZIP."""
    steps = actions.generate([2], 5, KNOBS)
    seen = []
    for step in steps:
        seen.append(step.message)
        if step.archive is not None:
            with zipfile.ZipFile(step.archive) as file:
                names = file.namelist()
                settings = json.loads(file.read("settings.json"))
            break
    assert seen[:9] == [f"iteration {i} of 3" for i in (1, 2, 3)] * 3
    assert seen[9].startswith("5 pictures in ")
    assert sorted(names) == sorted(
        [*(f"generate_{i:02d}.png" for i in range(5)), "settings.json",
         "unmasking.gif", "unmasking.webp"]
    )  # fmt: skip
    assert step.pictures is not None
    assert step.inside is not None
    assert len(step.pictures) == 5
    assert SamplerConfig(**settings["sampler"]) == SamplerConfig(
        num_denoise_steps=4, num_iterations=3, order="random", guidance_scale=2.0,
        gumbel_temperature=0.1,
    )  # fmt: skip
    archive = step.archive
    assert list(steps) == []
    assert archive is not None
    assert not archive.exists()  # nothing piles up


def last(steps: Any) -> Step:
    return list(steps)[-1]


def test_repaint_is_the_pipelines(actions: Actions, photo: str) -> None:
    painted = strokes(256, 128, 384, 256)  # pixels 20..30, 10..20
    step = last(actions.repaint(photo, painted, False, 1, 2, "paste", KNOBS))
    expected = actions.pipeline.edit(
        photo, [[20, 10, 30, 20]], class_name=1, num_variants=2, seed=5, mask_schedule="linear",
        num_denoise_steps=4, num_iterations=3, order="random", guidance_scale=2.0,
    )  # fmt: skip
    assert step.pictures is not None
    for shown, picture in zip(step.pictures, expected, strict=True):
        assert np.array_equal(np.array(shown), np.array(visible(picture)))
    outside = last(actions.repaint(photo, painted, True, WHATEVER, 1, "paste", KNOBS))
    assert outside.pictures is not None
    before = np.array(visible(Image.open(photo)))
    factor = before.shape[0] // 30
    kept = np.s_[10 * factor : 20 * factor, 20 * factor : 30 * factor]
    after = np.array(outside.pictures[0])
    assert np.array_equal(after[kept], before[kept])
    assert (after != before).any(axis=-1).mean() > 0.4


def test_the_canvas_is_large_and_keeps_the_shape(actions: Actions, photo: str) -> None:
    assert actions.canvas(actions.open(photo)).size == (640, 384)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("generate", ([], 1, KNOBS), "at least one class"),
        ("generate", ([0, 1], 4, KNOBS), "8 pictures: 1 to 6"),
        ("generate", ([0], 1, Knobs(1.0, 11, 0.1, 0)), "Iterations can be 1 to 10"),
        ("interpolate", (0, 1, 1, KNOBS), "at least two"),
        ("enrich", (None, WHATEVER, 1, KNOBS), "Give a picture first"),
        ("repaint", (None, None, False, WHATEVER, 1, "paste", KNOBS), "Give a picture first"),
        ("repaint", ("photo", None, False, WHATEVER, 1, "paste", KNOBS), "Paint over"),
        ("repaint", ("photo", "edge", False, WHATEVER, 1, "paste", KNOBS), "touches no token"),
        ("repaint", ("large", None, False, WHATEVER, 1, "paste", KNOBS), "0.04 megapixels"),
    ],
)
def test_impossible_requests(
    actions: Actions, photo: str, tmp_path: Path, name: str, arguments: tuple[Any, ...],
    message: str,
) -> None:  # fmt: skip
    Image.new("RGB", (200, 200)).save(tmp_path / "large.png")
    files: dict[Any, Any] = {
        "photo": photo,
        "large": str(tmp_path / "large.png"),
        "edge": strokes(0, 0, 60, 384),  # outside of the centre square
    }
    given = [files.get(word, word) if isinstance(word, str) else word for word in arguments]
    with pytest.raises(ValueError, match=message):
        list(getattr(actions, name)(*given))


def test_outpainting_without_strokes_keeps_the_middle(actions: Actions, photo: str) -> None:
    step = last(actions.repaint(photo, strokes(0, 0, 0, 0), True, WHATEVER, 1, "paste", KNOBS))
    assert step.pictures is not None
    before = np.array(visible(Image.open(photo)))
    factor = before.shape[0] // 30
    kept = np.s_[7 * factor : 23 * factor, 12 * factor : 38 * factor]
    assert np.array_equal(np.array(step.pictures[0])[kept], before[kept])


def test_nobody_waits(actions: Actions, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the reader goes away, the work ends with its next iteration, and so does its thread."""
    iterations = []
    run = Sampler.run

    def slow(self: Sampler, *arguments: Any) -> Any:
        *rest, on_iteration = arguments

        def note(progress: Any) -> None:
            iterations.append(progress.iteration)
            on_iteration(progress)
            time.sleep(0.2)

        return run(self, *rest, note)

    monkeypatch.setattr(Sampler, "run", slow)
    before = threading.active_count()
    steps = actions.generate([0], 6, KNOBS)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.05)
    assert threading.active_count() <= before
    assert len(iterations) <= 3  # of nine


def test_errors_of_the_work_arrive(actions: Actions, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the GPU fell off")

    monkeypatch.setattr(actions.pipeline, "generate", fail)
    with pytest.raises(RuntimeError, match="fell off"):
        list(actions.generate([0], 1, KNOBS))


def test_class_menus() -> None:
    pipeline = BiGRPipeline(
        tiny_generator(), tiny_autoencoder(), device="cpu", class_names=["cat", "dog", "2"]
    )
    menu = Actions(pipeline, SAMPLER, Limits()).class_choices
    assert menu == [("cat (0)", 0), ("dog (1)", 1), ("2", 2)]


@pytest.mark.parametrize("key", ["upload_mb", "megapixels", "pictures", "iterations"])
def test_limits_are_positive(key: str) -> None:
    with pytest.raises(ValueError, match=rf"{key} must be a positive (number|integer)"):
        Limits(**{key: 0})
