"""What the app's buttons do, without a browser."""

from __future__ import annotations

import dataclasses
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
from bigr.app.actions import WHATEVER, Actions
from bigr.app.canvas import draw_canvas, layer_of
from bigr.app.limits import Knobs, Limits
from bigr.app.steps import PictureJob, Results, visible
from bigr.data.image_arrays import to_pil
from bigr.presets import load_preset
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


def test_frames_then_everything(actions: Actions, folder: Path) -> None:
    """Five images in batches of two: three iterations each, then pictures, maps and a ZIP."""
    steps = list(actions.generate([2], 5, KNOBS).steps(folder))
    assert [step.message for step in steps] == [
        "starting", *[f"iteration {i} of 3" for i in (1, 2, 3)] * 3, "finished"
    ]  # fmt: skip
    done = [0, 2 / 3, 4 / 3, 2, 8 / 3, 10 / 3, 4, 13 / 3, 14 / 3, 5, 5]  # of five images
    assert [step.share for step in steps] == pytest.approx([share / 5 for share in done])
    results = steps[-1].results
    assert results is not None
    assert results.message.startswith("5 pictures in ")
    assert results.archive is not None
    with zipfile.ZipFile(results.archive) as file:
        names = file.namelist()
        settings = json.loads(file.read("settings.json"))
    assert sorted(names) == sorted(
        [*(f"generate_{i:02d}.png" for i in range(5)), "settings.json",
         "unmasking.gif", "unmasking.webp"]
    )  # fmt: skip
    assert len(results.pictures) == len(results.shown) == 5
    assert len(results.inside) == 2
    assert SamplerConfig(**settings["sampler"]) == SamplerConfig(
        num_denoise_steps=4, num_iterations=3, order="random", guidance_scale=2.0,
        gumbel_temperature=0.1,
    )  # fmt: skip
    assert settings["arguments"] == {"classes": [2], "num_per_class": 5}
    assert settings["seed"] == 5
    assert settings["models"].keys() == {"name", "generator", "autoencoder"}


def last(job: PictureJob, folder: Path) -> Results:
    """The results, which lie in the folder."""
    results = list(job.steps(folder))[-1].results
    assert results is not None
    assert all(path.is_relative_to(folder) for path in results.pictures)
    return results


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def test_repaint_is_the_pipelines(actions: Actions, photo: str, folder: Path) -> None:
    painted = strokes(256, 128, 384, 256)  # pixels 20..30, 10..20
    step = last(actions.repaint(photo, painted, False, 1, 2, "paste", KNOBS), folder)
    expected = actions.pipeline.edit(
        photo, [[20, 10, 30, 20]], class_name=1, num_variants=2, seed=5, mask_schedule="linear",
        num_denoise_steps=4, num_iterations=3, order="random", guidance_scale=2.0,
    )  # fmt: skip
    for shown, full, picture in zip(step.shown, step.pictures, expected, strict=True):
        assert np.array_equal(pixels(shown), np.array(visible(picture)))
        assert np.array_equal(pixels(full), np.array(picture))
    assert step.before is not None
    assert np.array_equal(pixels(step.before), np.array(visible(Image.open(photo))))
    outside = last(actions.repaint(photo, painted, True, WHATEVER, 1, "paste", KNOBS), folder)
    before = np.array(visible(Image.open(photo)))
    factor = before.shape[0] // 30
    kept = np.s_[10 * factor : 20 * factor, 20 * factor : 30 * factor]
    after = pixels(outside.shown[0])
    assert np.array_equal(after[kept], before[kept])
    assert (after != before).any(axis=-1).mean() > 0.4


def test_the_canvas_is_large_and_keeps_the_shape(actions: Actions, photo: str) -> None:
    assert draw_canvas(actions.open(photo)).size == (640, 384)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("generate", ([], 1, KNOBS), "at least one class"),
        ("generate", ([0, 1], 4, KNOBS), "8 pictures cannot be made at a time, only 1 to 6"),
        ("generate", ([0], 1, Knobs(1.0, 11, 0.1, 0)), "iterations can be 1 to 10"),
        ("generate", ([4], 1, KNOBS), r"this generator has the classes 0\.\.2"),
        ("generate", ("0", 1, KNOBS), "classes must be a list"),
        ("generate", ([True], 1, KNOBS), "classes must be a list"),
        ("generate", ([0], 1.5, KNOBS), "num_per_class must be a positive integer, got 1.5"),
        ("generate", ([0], 0, KNOBS), "num_per_class must be a positive integer, got 0"),
        ("interpolate", (0, 4, 2, KNOBS), r"this generator has the classes 0\.\.2"),
        ("interpolate", (0, 1, 7, KNOBS), "7 pictures cannot be made at a time, only 1 to 6"),
        ("enrich", ("photo", -2, 1, KNOBS), "class_id must be an integer of at least -1"),
        ("repaint", ("photo", None, True, 0, 1, "smear", KNOBS), "blend must be one of"),
        ("interpolate", (0, 1, 1, KNOBS), "at least two"),
        ("enrich", (None, WHATEVER, 1, KNOBS), "Add a picture first"),
        ("repaint", (None, None, False, WHATEVER, 1, "paste", KNOBS), "Add a picture first"),
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
        list(getattr(actions, name)(*given).steps(tmp_path))


def test_outpainting_without_strokes_keeps_the_middle(
    actions: Actions, photo: str, folder: Path
) -> None:
    empty = strokes(0, 0, 0, 0)
    step = last(actions.repaint(photo, empty, True, WHATEVER, 1, "paste", KNOBS), folder)
    before = np.array(visible(Image.open(photo)))
    factor = before.shape[0] // 30
    kept = np.s_[7 * factor : 23 * factor, 12 * factor : 38 * factor]
    assert np.array_equal(pixels(step.shown[0])[kept], before[kept])


def test_nobody_waits(actions: Actions, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    steps = actions.generate([0], 6, KNOBS).steps(folder)
    next(steps)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.05)
    assert threading.active_count() <= before
    assert len(iterations) <= 3  # of nine


@pytest.mark.parametrize("name", ["generate", "edit", "interpolate", "enrich"])
def test_results_are_reproduced(actions: Actions, photo: str, tmp_path: Path, name: str) -> None:
    """From the ZIP and from a PNG, with the same captions."""
    job = {
        "generate": lambda: actions.generate([2, 0], 2, KNOBS),
        "edit": lambda: actions.repaint(
            photo, strokes(256, 128, 384, 256), False, 1, 2, "paste", KNOBS
        ),
        "interpolate": lambda: actions.interpolate(0, 2, 3, KNOBS),
        "enrich": lambda: actions.enrich(photo, 1, 2, KNOBS),
    }[name]()
    for folder in ("first", "zip", "png"):
        (tmp_path / folder).mkdir()
    first = last(job, tmp_path / "first")
    files = {"zip": first.archive, "png": tmp_path / "first" / f"{name}_01.png"}
    for kind, file in files.items():
        again = last(actions.reproduce(str(file)), tmp_path / kind)
        assert again.captions == first.captions
        for one, other in zip(first.pictures, again.pictures, strict=True):
            assert np.array_equal(pixels(one), pixels(other))
    expected = {
        "generate": ["2, seed 5", "2, seed 6", "0, seed 7", "0, seed 8"],
        "edit": ["1, seed 5", "1, seed 6"],
        "interpolate": [f"{share} 0, {rest} 2, seed 5" for share, rest in
                        (("100%", "0%"), ("50%", "50%"), ("0%", "100%"))],
        "enrich": ["1, seed 5", "1, seed 6"],
    }  # fmt: skip
    assert first.captions == expected[name]


def test_what_cannot_be_reproduced(actions: Actions, photo: str, folder: Path) -> None:
    """Nothing, a picture without settings, and more than a request may ask for."""
    for path, message in ((None, "Add a file first"), (photo, "no settings in it")):
        with pytest.raises(ValueError, match=message):
            actions.reproduce(path)
    made = last(actions.generate([0], 2, KNOBS), folder)
    path = folder / "settings.json"
    content = json.loads(path.read_text())
    for part, change, message in (
        ("arguments", {"num_per_class": 99}, "99 pictures cannot be made at a time, only 1 to 6"),
        ("sampler", {"num_iterations": 11}, "iterations can be 1 to 10"),
        ("sampler", {"corrector_share": 0.5, "corrector_rounds": 3}, "iterations can be 1 to 10"),
        ("sampler", {"guide": "other.pt"}, "with a guide that this app does not use"),
    ):
        path.write_text(json.dumps({**content, part: {**content[part], **change}}))
        with pytest.raises(ValueError, match=message):
            actions.reproduce(str(path))
    assert made.archive is not None


def test_errors_of_the_work_arrive(
    actions: Actions, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the GPU fell off")

    monkeypatch.setattr(actions.pipeline, "generate", fail)
    with pytest.raises(RuntimeError, match="fell off"):
        list(actions.generate([0], 1, KNOBS).steps(folder))


def test_class_menus() -> None:
    pipeline = BiGRPipeline(
        tiny_generator(), tiny_autoencoder(), device="cpu", class_names=["cat", "dog", "2"]
    )
    menu = Actions(pipeline, SAMPLER, Limits()).class_choices
    assert menu == [("cat (0)", 0), ("dog (1)", 1), ("2", 2)]


def test_the_sliders_can_start_at_the_given_sampler() -> None:
    pipeline = BiGRPipeline(tiny_generator(), tiny_autoencoder(), device="cpu")
    with pytest.raises(
        ValueError, match=r"sampler\.num_iterations=20 exceeds limits\.iterations=9"
    ):
        Actions(pipeline, SamplerConfig(), Limits(iterations=9))
    with pytest.raises(ValueError, match="guidance_scale must be a number between 0 and 10"):
        Actions(pipeline, SamplerConfig(guidance_scale=11.0), Limits())


def test_presets(actions: Actions) -> None:
    """Those within the limits; what no slider changes comes from them."""
    assert actions.presets["model"] is SAMPLER
    assert "paper_l" not in actions.presets  # 20 iterations; the limit is 10
    generous = Actions(actions.pipeline, SAMPLER, Limits())
    assert {"model", "demo", "digits", "paper_l", "paper_xl"} <= generous.presets.keys()
    assert not {"inpaint", "enrich"} & generous.presets.keys()
    # These keep the guidance of the model.
    fast = dataclasses.replace(SAMPLER, **load_preset("sampler", "fast"))
    assert generous.presets["fast"] == fast
    assert fast.guidance_scale == SAMPLER.guidance_scale
    digits = generous.presets["digits"]
    knobs = Knobs(1.5, 4, 0.2, 3, base=digits)
    sampler = generous.generate([0], 1, knobs).describe().sampler
    assert (digits.order, digits.mask_schedule, digits.num_denoise_steps) == (
        "random",
        "linear",
        50,
    )
    assert (
        sampler
        == dataclasses.replace(
            digits, guidance_scale=1.5, num_iterations=4, gumbel_temperature=0.2
        ).to_dict()
    )


def test_reconstruction(actions: Actions, photo: str, folder: Path) -> None:
    (step,) = actions.reconstruct(photo).steps(folder)
    assert step.results is not None
    square, decoded = map(pixels, step.results.pictures)
    pipeline = actions.pipeline
    expected = pipeline.load(Image.open(photo))
    assert np.array_equal(square, np.array(to_pil(expected[0])))
    again = pipeline.decode(pipeline.encode(expected))
    assert np.array_equal(decoded, np.array(to_pil(again[0])))
    assert step.results.settings is None


def test_a_mask_can_be_restored(actions: Actions, photo: str, folder: Path) -> None:
    """The layer that is drawn for the mask of a file gives the same mask again."""
    job = actions.repaint(photo, strokes(250, 120, 390, 260), False, 1, 1, "paste", KNOBS)
    given = last(job, folder)
    mask = actions.settings(str(given.pictures[0])).arguments["mask"]
    again = actions.repaint(photo, layer_of(mask), False, 1, 1, "paste", KNOBS)
    new = again.describe().arguments["mask"]
    assert np.array_equal(np.array(new), np.array(mask.convert("L")))


def test_finished_pictures_are_kept_when_a_job_is_stopped(actions: Actions, folder: Path) -> None:
    """Two batches of two are finished, and the fifth image is not."""
    stop, seen = threading.Event(), []
    job = actions.generate([2], 5, KNOBS)

    def call(record: Any) -> list[Image.Image]:
        def note(progress: Any) -> None:
            record(progress)
            seen.append(progress.iteration)
            if len(seen) == 7:
                stop.set()

        return job.call(note)

    step = list(dataclasses.replace(job, call=call).steps(folder, stop))[-1]
    assert step.message == "stopped after iteration 1 of 3"
    assert step.results is not None
    assert step.results.message.startswith("stopped after iteration 1 of 3: 4 pictures in ")
    sampler = SamplerConfig(**job.describe().sampler)
    expected = actions.pipeline.generate([2], num_per_class=5, seed=5, sampler=sampler)
    assert len(step.results.pictures) == 4
    for path, picture in zip(step.results.pictures, expected, strict=False):
        assert np.array_equal(pixels(path), np.array(picture))
