"""The widgets that the tabs of the page share."""

from __future__ import annotations

import contextlib
import functools
import inspect
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from bigr.app.actions import WHATEVER, Actions, Knobs
from bigr.app.steps import Step

MAX_SEED = 2**31 - 1
MAX_GUIDANCE = 10.0


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
                          label="Guidance", info="1 is none; more is more typical."),
                gr.Slider(1, actions.limits.iterations, value=sampler.num_iterations, step=1,
                          label="Iterations"),
                gr.Slider(0, 3, value=sampler.gumbel_temperature, step=0.01,
                          label="Gumbel temperature",
                          info="Noise on the order of the tokens; 0: the most certain first."),
                seed,
            ]  # fmt: skip
        other.click(
            lambda: random.randrange(MAX_SEED), outputs=seed, queue=False, api_visibility="private"
        )

    @staticmethod
    def read(values: tuple[Any, ...]) -> Knobs:
        guidance, iterations, temperature, seed = values
        if seed is None or not 0 <= seed <= MAX_SEED:
            raise ValueError(f"The seed is a number in 0..{MAX_SEED}.")
        return Knobs(float(guidance), int(iterations), float(temperature), int(seed))


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
        """Show each image on ``target``; one that is refused leaves ``target`` unchanged."""

        @with_messages
        def opened(path: str | None) -> tuple[Any, Any]:
            return path, draw(self.actions.open(path))

        @with_messages
        def taken(event: gr.SelectData) -> tuple[Any, Any, None]:
            path = self.example_paths[event.index]
            return path, draw(self.actions.open(path)), None

        outputs = [self.path, target]
        self.file.upload(opened, self.file, outputs, api_visibility="private")
        self.examples.select(taken, None, [*outputs, self.file], api_visibility="private")


class Output:
    """The frame, the results and the download."""

    def __init__(self, *, with_inside: bool = False) -> None:
        with gr.Column():
            self.frame = gr.Image(
                label="At work", interactive=False, format="png", height=360,
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
        start: Callable[..., Iterator[Step]],
        inputs: list[Any],
    ) -> None:
        """Show the steps of ``start`` when ``run`` is pressed, until ``stop`` is pressed."""

        @with_messages
        def show(*values: Any) -> Iterator[tuple[Any, ...]]:
            for step in start(*values):
                is_last = step.pictures is not None
                yield (
                    str(step.frame) if isinstance(step.frame, Path) else step.frame,
                    step.message,
                    step.pictures if is_last else gr.skip(),
                    gr.DownloadButton(value=step.archive, interactive=True)
                    if is_last
                    else gr.skip(),
                    step.inside if is_last else gr.skip(),
                )

        outputs = [self.frame, self.message, self.pictures, self.archive, self.inside]
        running = run.click(
            show, inputs, outputs,
            concurrency_id="model", concurrency_limit=1, api_visibility="private",
            show_progress="minimal", trigger_mode="once",
        )  # fmt: skip
        stop.click(
            lambda: "stopped", None, self.message,
            cancels=[running], queue=False, api_visibility="private",
        )  # fmt: skip


def with_messages(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function or generator so that a ``ValueError`` becomes a message on the page."""

    @contextlib.contextmanager
    def messages() -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            text = str(error)
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
