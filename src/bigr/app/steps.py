"""Run an application in a thread: a frame per iteration, then the results with a ZIP file."""

from __future__ import annotations

import dataclasses
import json
import queue
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from bigr.data.image_arrays import save_animation
from bigr.inference.preview import Film, heatmap
from bigr.sampling.decision_record import Recorder
from bigr.sampling.sampler import Progress, ProgressCallback

CANVAS_SIDE = 640
"""Longer side of the canvas in pixels."""
COLUMNS = 4
FRAME_MS = 150
LAST_FRAMES = 8


@dataclasses.dataclass(frozen=True)
class Step:
    """What the page shows: a frame after an iteration, or the results at the end."""

    frame: Image.Image | Path
    message: str
    pictures: list[Image.Image] | None = None
    """The results, in the last step."""
    inside: list[tuple[Image.Image, str]] | None = None
    """Maps of the first result: when its tokens were decided, and with which confidence."""
    archive: Path | None = None
    """A ZIP with the results, the animation and the settings; deleted after this step."""


class StoppedError(Exception):
    """The page no longer waits for the results."""


def steps_of(
    call: Callable[[ProgressCallback], list[Image.Image]],
    film: Film,
    settings: dict[str, Any],
    *,
    animates_result: bool = False,
) -> Iterator[Step]:
    """Run ``call`` in a thread; yield a frame after each iteration, and the results at the end.

    When this generator is closed, the call ends with its next iteration.

    Args:
        call: makes images, and takes the callback ``on_iteration``.
        film: draws the frames.
        settings: content of ``settings.json``, with ``application`` and ``seed``.
        animates_result: show the results as an animation.

    Raises:
        Exception: whatever ``call`` raises.
    """
    recorder = Recorder()
    steps: queue.Queue[Step | list[Image.Image] | Exception] = queue.Queue()
    is_over = threading.Event()
    began = time.perf_counter()

    def record(progress: Progress) -> None:
        if is_over.is_set():
            raise StoppedError
        recorder(progress)
        film(progress)
        text = f"iteration {progress.iteration} of {progress.num_iterations}"
        steps.put(Step(visible(film.frames[-1], CANVAS_SIDE), text))

    def work() -> None:
        try:
            steps.put(call(record))
        except Exception as error:  # raised again by the generator
            steps.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while isinstance(step := steps.get(), Step):
            yield step
        if isinstance(step, Exception):
            raise step
        took = time.perf_counter() - began
        with tempfile.TemporaryDirectory() as folder:
            yield _result(
                step, film.frames, recorder, Path(folder), took, animates_result, settings
            )
    finally:
        is_over.set()


def _result(
    pictures: list[Image.Image],
    frames: list[Image.Image],
    recorder: Recorder,
    folder: Path,
    took: float,
    animates_result: bool,
    settings: dict[str, Any],
) -> Step:
    lingering = [*frames, *[frames[-1]] * LAST_FRAMES]
    save_animation(lingering, folder, "unmasking", FRAME_MS)
    shown: Image.Image | Path = visible(frames[-1], CANVAS_SIDE)
    if animates_result:
        there_and_back = [visible(one) for one in [*pictures, *pictures[-2:0:-1]]]
        save_animation(there_and_back, folder, "interpolation", FRAME_MS)
        shown = folder / "interpolation.gif"
    for index, picture in enumerate(pictures):
        picture.save(folder / f"{settings['application']}_{index:02d}.png")
    (folder / "settings.json").write_text(json.dumps(settings, indent=2) + "\n")
    archive = folder / f"bigr_{settings['application']}.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.iterdir()):
            if path != archive:
                file.write(path, path.name)
    order, certainty = recorder.order[0].float(), recorder.confidence[0]
    share = (order / order.max().clamp(min=1)).where(order > 0, float("nan"))
    inside = [
        (heatmap(share), "order: dark is first, bright is last"),
        (heatmap(certainty), "bit confidence: dark is 0, bright is 1"),
    ]
    count = f"{len(pictures)} picture{'s' if len(pictures) > 1 else ''}"
    return Step(
        shown,
        f"{count} in {took:.1f} s, seed {settings['seed']}",
        [visible(picture) for picture in pictures],
        inside,
        archive,
    )


def visible(picture: Image.Image, side: int = CANVAS_SIDE // 2) -> Image.Image:
    """Enlarge a small image to at most ``side`` pixels by repeating its pixels."""
    factor = max(1, side // max(picture.size))
    return picture.resize(
        (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
    )
