"""Run an application in a thread: a frame per iteration, then the results with a ZIP file.

Everything that is shown is a file in a folder that the caller provides and deletes.
"""

from __future__ import annotations

import dataclasses
import itertools
import queue
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageOps

from bigr.data.image_arrays import save_animation
from bigr.inference.preview import Film, heatmap
from bigr.pipeline.picture_settings import FILE_NAME, PictureSettings
from bigr.sampling.decision_record import Recorder
from bigr.sampling.sampler import Progress, ProgressCallback

CANVAS_SIDE = 640
"""Longer side of the canvas in pixels."""
COLUMNS = 4
FRAME_MS = 150
LAST_FRAMES = 8


@dataclasses.dataclass(frozen=True)
class Results:
    """Finished pictures, as files. A page keeps them as its history."""

    message: str
    pictures: list[Path]
    """The pictures in full size, which contain their settings."""
    shown: list[Path]
    """The same pictures, enlarged if they are small."""
    captions: list[str]
    inside: list[tuple[Path, str]] = dataclasses.field(default_factory=list)
    """Maps of the first picture: when its tokens were decided, and with which confidence."""
    animation: Path | None = None
    """The pictures as an animation, if they are meant to be one."""
    before: Path | None = None
    """The input in the size of ``shown``, to be compared with them."""
    settings: Path | None = None
    """A ``settings.json``, with the images that it names next to it."""
    archive: Path | None = None
    """A ZIP with the pictures, the animations, the settings, and the input image and mask."""


@dataclasses.dataclass(frozen=True)
class Step:
    """What the page shows: a frame after an iteration, or the results at the end."""

    message: str
    share: float
    """How much of the work is done, from 0 to 1."""
    seconds_left: float | None = None
    """An estimate from the time that the work has taken so far."""
    frame: Path | None = None
    results: Results | None = None


class StoppedError(Exception):
    """The user no longer wants the results."""


@dataclasses.dataclass(frozen=True)
class PictureJob:
    """An application that is ready to run.

    Args:
        call: makes the images, and takes the callback ``on_iteration``.
        film: draws the frames.
        describe: returns the settings; it is called after the images have been made.
        animates_result: whether the results are shown as an animation.
        captions: a caption for each result, such as its class and seed.
        passes: how often each image is sampled.
        before: the input, to be compared with the results.
        keeps_finished: whether images that are finished when the job is stopped become results.
    """

    call: Callable[[ProgressCallback], list[Image.Image]]
    film: Film
    describe: Callable[[], PictureSettings]
    animates_result: bool = False
    captions: Sequence[str] = ()
    passes: int = 1
    before: Image.Image | None = None
    keeps_finished: bool = False

    def steps(self, folder: Path, stop: threading.Event | None = None) -> Iterator[Step]:
        """Run ``call`` in a thread; yield a frame per iteration, and the results at the end.

        When this generator is closed, the call ends with its next iteration. When ``stop`` is set,
        the last frame is shown once more, with a message and with the images that are finished.

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
            last, done = Step("starting", 0.0), 0.0
            yield last
            for number in itertools.count():
                step = found.get()
                if not isinstance(step, Progress):
                    break
                done += len(step.codes) / step.num_iterations
                share = min(done / (self.film.count * self.passes), 1.0)
                last = Step(
                    f"iteration {step.iteration} of {step.num_iterations}",
                    share,
                    (time.perf_counter() - began) * (1 - share) / share,
                    _save(
                        visible(self.film.frames[number], CANVAS_SIDE),
                        folder / f"frame_{number:04d}.png",
                    ),
                )
                yield last
            took = time.perf_counter() - began
            if isinstance(step, StoppedError):
                finished = self.film.finished if self.keeps_finished else []
                message = f"stopped after {last.message}" if last.frame else "stopped"
                results = (
                    self._results(finished, recorder, folder, took, message) if finished else None
                )
                yield dataclasses.replace(
                    last, message=message, share=0.0, seconds_left=None, results=results
                )
            elif isinstance(step, Exception):
                raise step
            elif isinstance(step, list):
                yield Step("finished", 1.0, results=self._results(step, recorder, folder, took))
        finally:
            is_over.set()

    def _results(
        self,
        pictures: list[Image.Image],
        recorder: Recorder,
        folder: Path,
        took: float,
        note: str = "",
    ) -> Results:
        settings, frames = self.describe(), self.film.frames
        # 1. The files to download.
        files = settings.save(folder)
        lingering = [*frames, *[frames[-1]] * LAST_FRAMES]
        files += save_animation(lingering, folder, "unmasking", FRAME_MS)
        animates = self.animates_result and len(pictures) > 1
        if animates:
            there_and_back = [visible(one) for one in [*pictures, *pictures[-2:0:-1]]]
            files += save_animation(there_and_back, folder, "interpolation", FRAME_MS)
        info = settings.png_info()
        full = [folder / f"{settings.application}_{i:02d}.png" for i in range(len(pictures))]
        shown = [folder / f"shown_{index:02d}.png" for index in range(len(pictures))]
        for picture, path, large in zip(pictures, full, shown, strict=True):
            picture.save(path, pnginfo=info)
            visible(picture).save(large, pnginfo=info)
        archive = folder / f"bigr_{settings.application}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            for path in [*files, *full]:
                file.write(path, path.name)
        # 2. What is shown beside them.
        order, certainty = recorder.order[0].float(), recorder.confidence[0]
        share = (order / order.max().clamp(min=1)).where(order > 0, float("nan"))
        maps = [
            ("order", heatmap(share), "order: dark is first, bright is last"),
            ("confidence", heatmap(certainty), "bit confidence: dark is 0, bright is 1"),
        ]
        before = None
        if self.before is not None:
            resized = ImageOps.fit(self.before, pictures[0].size)  # the same, if it has this size
            before = _save(visible(resized), folder / "before.png")
        count = f"{len(pictures)} picture{'s' if len(pictures) > 1 else ''}"
        return Results(
            f"{note + ': ' if note else ''}{count} in {took:.1f} s, seed {settings.seed}",
            full,
            shown,
            [*self.captions][: len(shown)] or [""] * len(shown),
            [(_save(drawn, folder / f"{name}.png"), text) for name, drawn, text in maps],
            folder / "interpolation.gif" if animates else None,
            before,
            folder / FILE_NAME,
            archive,
        )


@dataclasses.dataclass(frozen=True)
class ReconstructionJob:
    """Compares an image with what remains of it after encoding and decoding.

    Args:
        call: returns the image and its reconstruction, which have the same size.
    """

    call: Callable[[], list[Image.Image]]

    def steps(self, folder: Path, stop: threading.Event | None = None) -> Iterator[Step]:  # noqa: ARG002
        """Yield one step, with the results, whose files are in ``folder``."""
        names = ("square", "reconstruction")
        pictures = self.call()
        files = [
            _save(one, folder / f"{name}.png") for name, one in zip(names, pictures, strict=True)
        ]
        shown = [
            _save(visible(one), folder / f"shown_{name}.png")
            for name, one in zip(names, pictures, strict=True)
        ]
        captions = ["the centre square", "its reconstruction"]
        yield Step(
            "finished", 1.0, results=Results("encoded and decoded", files, shown, captions,
                                             before=shown[0]),
        )  # fmt: skip


def _save(picture: Image.Image, path: Path) -> Path:
    picture.save(path)
    return path


def visible(picture: Image.Image, side: int = CANVAS_SIDE // 2) -> Image.Image:
    """Enlarge a small image to at most ``side`` pixels by repeating its pixels."""
    factor = max(1, side // max(picture.size))
    return picture.resize(
        (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
    )
