"""Pictures as they come into being: frames on the way, then all there is to take home."""

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
"""Longer side of a picture on the canvas, in pixels."""
COLUMNS = 4
FRAME_MS = 150
LAST_FRAMES = 8


@dataclasses.dataclass(frozen=True)
class Step:
    """What there is to see: a frame on the way, or at the end everything."""

    frame: Image.Image | Path
    message: str
    pictures: list[Image.Image] | None = None
    """The results, at the end."""
    inside: list[tuple[Image.Image, str]] | None = None
    """Maps of the first result: when its tokens were decided, and how certainly."""
    archive: Path | None = None
    """A ZIP with the results, the animation and the settings; gone after this step."""


class StoppedError(Exception):
    """Nobody waits for the pictures any more."""


def steps_of(
    call: Callable[[ProgressCallback], list[Image.Image]],
    film: Film,
    settings: dict[str, Any],
    *,
    animates_result: bool = False,
) -> Iterator[Step]:
    """A frame for each iteration of ``call``, which runs beside this generator, then the results.

    When nobody iterates any more, the call ends with its next iteration.

    Args:
        call: makes pictures and takes a callback.
        film: draws the frames.
        settings: for ``settings.json``; with ``application`` and ``seed``.
        animates_result: the results are an animation themselves.
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
        except Exception as error:  # every one, for the generator to raise
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
        (heatmap(share), "decided: dark first, bright last"),
        (heatmap(certainty), "bit confidence: dark 0, bright 1"),
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
    """A tiny picture enlarged to about ``side`` pixels without smoothing."""
    factor = max(1, side // max(picture.size))
    return picture.resize(
        (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
    )
