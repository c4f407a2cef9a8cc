"""Run an application in a thread: a frame per iteration, then the results with a ZIP file.

Everything that is shown is a file in a folder that the caller provides and deletes.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from bigr.data.image_arrays import save_animation
from bigr.inference.preview import Film, heatmap
from bigr.pipeline.picture_settings import PictureSettings
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

    frame: Path
    message: str
    pictures: list[Path] | None = None
    """The results, in the last step."""
    captions: list[str] | None = None
    """One for each of the results."""
    inside: list[tuple[Path, str]] | None = None
    """Maps of the first result: when its tokens were decided, and with which confidence."""
    archive: Path | None = None
    """A ZIP with the results, the animation, the settings, and the input image and mask."""


class StoppedError(Exception):
    """The user no longer wants the results."""


@dataclasses.dataclass(frozen=True)
class PictureJob:
    """An application that is ready to run.

    Args:
        call: makes the images, and takes the callback ``on_iteration``.
        film: draws the frames.
        describe: returns the settings; it is called after the images have been made.
        animates_result: show the results as an animation.
        captions: captions of the results, such as their class and seed.
    """

    call: Callable[[ProgressCallback], list[Image.Image]]
    film: Film
    describe: Callable[[], PictureSettings]
    animates_result: bool = False
    captions: Sequence[str] = ()

    def steps(self, folder: Path, stop: threading.Event | None = None) -> Iterator[Step]:
        """Run ``call`` in a thread; yield a frame per iteration, and the results at the end.

        If this generator is closed, the call ends at its next iteration. If ``stop`` is set, the
        last frame is shown once more with a message.

        Args:
            folder: an empty folder for all files that are shown.
            stop: ends the call.

        Raises:
            Exception: whatever ``call`` raises.
        """
        recorder = Recorder()
        found: queue.Queue[Progress | list[Image.Image] | Exception] = queue.Queue()
        is_over = stop or threading.Event()
        began = time.perf_counter()

        def record(progress: Progress) -> None:
            if is_over.is_set():
                raise StoppedError
            recorder(progress)
            self.film(progress)
            found.put(progress)

        def work() -> None:
            try:
                found.put(self.call(record))
            except Exception as error:  # raised again by the generator
                found.put(error)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            number, last = 0, None
            while isinstance(step := found.get(), Progress):
                frame = _save(
                    visible(self.film.frames[number], CANVAS_SIDE),
                    folder / f"frame_{number:04d}.png",
                )
                number += 1
                last = Step(frame, f"iteration {step.iteration} of {step.num_iterations}")
                yield last
            if isinstance(step, StoppedError):
                if last is not None:
                    yield dataclasses.replace(last, message=f"stopped after {last.message}")
                return
            if isinstance(step, Exception):
                raise step
            yield self._result(step, recorder, folder, time.perf_counter() - began)
        finally:
            is_over.set()

    def _result(
        self, pictures: list[Image.Image], recorder: Recorder, folder: Path, took: float
    ) -> Step:
        settings, frames = self.describe(), self.film.frames
        # 1. The files to download.
        files = settings.save(folder)
        lingering = [*frames, *[frames[-1]] * LAST_FRAMES]
        files += save_animation(lingering, folder, "unmasking", FRAME_MS)
        shown = _save(visible(frames[-1], CANVAS_SIDE), folder / "frame_last.png")
        if self.animates_result:
            there_and_back = [visible(one) for one in [*pictures, *pictures[-2:0:-1]]]
            files += save_animation(there_and_back, folder, "interpolation", FRAME_MS)
            shown = folder / "interpolation.gif"
        info = settings.png_info()
        for index, picture in enumerate(pictures):
            files.append(folder / f"{settings.application}_{index:02d}.png")
            picture.save(files[-1], pnginfo=info)
        archive = folder / f"bigr_{settings.application}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            for path in files:
                file.write(path, path.name)
        # 2. What is shown.
        order, certainty = recorder.order[0].float(), recorder.confidence[0]
        share = (order / order.max().clamp(min=1)).where(order > 0, float("nan"))
        maps = [
            ("order", heatmap(share), "order: dark is first, bright is last"),
            ("confidence", heatmap(certainty), "bit confidence: dark is 0, bright is 1"),
        ]
        large = [folder / f"shown_{index:02d}.png" for index in range(len(pictures))]
        for picture, path in zip(pictures, large, strict=True):
            visible(picture).save(path, pnginfo=info)
        count = f"{len(pictures)} picture{'s' if len(pictures) > 1 else ''}"
        return Step(
            shown,
            f"{count} in {took:.1f} s, seed {settings.seed}",
            large,
            [*self.captions] or [""] * len(large),
            [(_save(drawn, folder / f"{name}.png"), text) for name, drawn, text in maps],
            archive,
        )


def _save(picture: Image.Image, path: Path) -> Path:
    picture.save(path)
    return path


def visible(picture: Image.Image, side: int = CANVAS_SIDE // 2) -> Image.Image:
    """Enlarge a small image to at most ``side`` pixels by repeating its pixels."""
    factor = max(1, side // max(picture.size))
    return picture.resize(
        (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
    )
