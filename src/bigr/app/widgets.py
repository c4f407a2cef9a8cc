"""The widgets that the tabs of the page share."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr
from PIL import Image

from bigr.app.actions import MAX_GUIDANCE, MAX_GUMBEL, MAX_SEED, WHATEVER, Actions, Knobs
from bigr.app.steps import PictureJob
from bigr.app.visitors import Visitor

PRIVATE: dict[str, Any] = {"preprocess": False, "api_visibility": "private"}
"""Options of all listeners: they check the values themselves, and only the page calls them."""


def class_menu(
    actions: Actions, label: str, *, index: int = 0, with_whatever: bool = False
) -> gr.Dropdown:
    """Return a menu of the classes, optionally with an entry for no class."""
    choices = actions.class_choices
    if with_whatever:
        choices = [("whatever fits", WHATEVER), *choices]
    return gr.Dropdown(
        choices, value=choices[index][1], label=label, info="Type to search.", filterable=True
    )


def count_slider(actions: Actions, label: str, value: int) -> gr.Slider:
    """Return a slider for a number of images, up to the limit of a request."""
    most = actions.limits.pictures
    return gr.Slider(1, most, value=min(value, most), step=1, label=label)


def buttons(label: str) -> tuple[gr.Button, gr.Button]:
    """Return the button that starts the work, and the one that stops it."""
    with gr.Row():
        return gr.Button(label, variant="primary", scale=3), gr.Button("Stop", variant="stop")


class KnobSliders:
    """The sliders of the sampler, and the seed."""

    def __init__(self, actions: Actions) -> None:
        sampler = actions.sampler
        with gr.Row():
            seed = gr.Number(0, precision=0, minimum=0, maximum=MAX_SEED, label="Seed")
            other = gr.Button("Another seed", size="sm")
        with gr.Accordion("Sampler", open=False):
            self.components = [
                gr.Slider(0, MAX_GUIDANCE, value=sampler.guidance_scale, step=0.05,
                          label="Guidance", info="1: no guidance; higher: more typical pictures."),
                gr.Slider(1, actions.limits.iterations, value=sampler.num_iterations, step=1,
                          label="Iterations"),
                gr.Slider(0, MAX_GUMBEL, value=sampler.gumbel_temperature, step=0.01,
                          label="Gumbel temperature",
                          info="Noise on the order of the tokens; 0: the most certain first."),
                seed,
            ]  # fmt: skip
        other.click(
            None, outputs=seed, js=f"() => Math.floor(Math.random() * {MAX_SEED})",
            api_visibility="private",
        )  # fmt: skip

    @staticmethod
    def read(values: Sequence[Any]) -> Knobs:
        """Return the values of :attr:`components`.

        Raises:
            ValueError: if one of them is not a number in its range.
        """
        return Knobs(*values)


class Source:
    """An uploaded file, which is checked at once, or an example."""

    def __init__(self, actions: Actions, examples: list[str]) -> None:
        self.actions = actions
        self.path = gr.State(None)
        self.file = gr.File(
            label=f"Picture, up to {actions.limits.upload_mb:g} MB", height=110, type="filepath"
        )
        self.examples = gr.Gallery(
            examples, label="Examples", columns=len(examples), height=125,
            allow_preview=False, interactive=False, buttons=[], elem_classes=["tiny", "examples"],
        )  # fmt: skip
        self.example_paths = examples

    def show_on(self, target: Any, draw: Callable[[Image.Image], Any]) -> None:
        """Show each image on ``target``; one that is rejected leaves ``target`` unchanged.

        Args:
            target: shows what ``draw`` returns.
            draw: returns an image, or a list of images.
        """

        @with_messages
        def opened(request: gr.Request, file: Any) -> tuple[Any, Any]:
            path = file["path"] if isinstance(file, dict) else None
            return path, _kept(request, draw(self.actions.open(path)))

        @with_messages
        def taken(request: gr.Request, event: gr.SelectData) -> tuple[Any, Any, None]:
            if event.index not in range(len(self.example_paths)):
                raise ValueError(f"there is no example {event.index}.")
            path = self.example_paths[event.index]
            return path, _kept(request, draw(self.actions.open(path))), None

        outputs = [self.path, target]
        self.file.upload(opened, self.file, outputs, **PRIVATE)
        self.examples.select(taken, None, [*outputs, self.file], **PRIVATE)


def visitor_of(request: gr.Request) -> Visitor:
    """Return the visitor who has sent ``request``; the gate has noted it there."""
    visitor: Visitor = request.state.visitor
    return visitor


def _kept(request: gr.Request, drawn: Any) -> Any:
    """Store one or several images among the files of the visitor, and return their paths."""
    if isinstance(drawn, list):
        return [_kept(request, one) for one in drawn]
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG")
    return str(visitor_of(request).store("shown.png", buffer.getvalue()))


class Output:
    """The frame, the results and the download."""

    def __init__(self, *, with_inside: bool = False) -> None:
        with gr.Column():
            self.frame = gr.Image(
                label="In progress", interactive=False, format="png", height=360,
                elem_classes=["tiny", "frame"], buttons=["fullscreen"],
            )  # fmt: skip
            self.message = gr.Markdown(" ", elem_classes="status")
            self.pictures = gr.Gallery(
                label="Results", columns=4, height="auto", format="png", elem_classes="results",
                buttons=["download", "download_all", "fullscreen"],
            )  # fmt: skip
            self.archive = gr.DownloadButton(
                "Download all, with the animation and the settings", interactive=False
            )
            self.inside = gr.Gallery(
                label="Inside the first one", columns=2, height="auto", format="png",
                visible=with_inside, elem_classes="inside",
                buttons=["download", "fullscreen"],
            )  # fmt: skip

    def fill(
        self,
        run: gr.Button,
        stop: gr.Button,
        start: Callable[..., PictureJob],
        inputs: list[Any],
    ) -> None:
        """Show the steps of a job when ``run`` is pressed, until ``stop`` is pressed.

        Args:
            run: starts the job.
            stop: cancels it.
            start: returns the job for the values of ``inputs``.
            inputs: components.
        """

        @with_messages
        def show(request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
            job = start(*values)
            with visitor_of(request).run(request.session_hash or "") as run:
                for step in job.steps(*run):
                    is_last = step.pictures is not None
                    yield (
                        str(step.frame),
                        step.message,
                        list(zip(map(str, step.pictures or []), step.captions or [], strict=True))
                        if is_last
                        else gr.skip(),
                        gr.DownloadButton(value=str(step.archive), interactive=True)
                        if is_last
                        else gr.skip(),
                        [(str(path), text) for path, text in step.inside or []]
                        if is_last
                        else gr.skip(),
                    )

        def interrupt(request: gr.Request) -> None:
            visitor_of(request).stop(request.session_hash or "")

        outputs = [self.frame, self.message, self.pictures, self.archive, self.inside]
        run.click(
            show, inputs, outputs,
            concurrency_id="model", concurrency_limit=1,
            show_progress="minimal", trigger_mode="once", **PRIVATE,
        )  # fmt: skip
        # The job itself ends with a last step. If the page cancelled the job instead, a late frame
        # could replace the message, or be shown as an error.
        stop.click(interrupt, None, None, show_progress="hidden", **PRIVATE)


def with_messages(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function or generator so that a ``ValueError`` becomes a message on the page."""

    @contextlib.contextmanager
    def messages() -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            text = re.sub(r"^[A-Za-z]+\.(?=\w)", "", str(error))  # "Knobs." of "Knobs.seed must be"
            raise gr.Error(text[:1].upper() + text[1:], print_exception=False) from error

    @functools.wraps(function)
    def iterate(*values: Any) -> Iterator[Any]:
        with messages():
            yield from function(*values)

    @functools.wraps(function)
    def call(*values: Any) -> Any:
        with messages():
            return function(*values)

    return iterate if inspect.isgeneratorfunction(function) else call
