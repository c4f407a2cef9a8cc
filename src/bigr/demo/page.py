"""The page, in Gradio. Everything it does is in :mod:`bigr.demo.actions`."""

from __future__ import annotations

import functools
import inspect
import logging
import random
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from bigr.demo.actions import WHATEVER, Actions, Knobs, Step

log = logging.getLogger(__name__)

HOUR = 3600
MAX_WAITING = 32
MAX_SEED = 2**31 - 1
MAX_GUIDANCE = 10.0
FONT = ("system-ui", "sans-serif")
"""Of the reader's machine: the page loads nothing from elsewhere."""
CSS = """
.gradio-container {max-width: 1240px !important; width: 100% !important; margin: 0 auto !important}
.tiny img {image-rendering: pixelated}
.results .grid-wrap, .inside .grid-wrap {height: auto !important; min-height: 0 !important}
"""
TITLE = "BiGR"
HEADER = """# BiGR
Generate and edit pictures with one model over binary latent codes
([paper](https://arxiv.org/abs/2410.14672))."""
EDIT_HELP = """The model works on the centre square of the picture, and on tokens: a {grid}th of
its side each. Every token that the paint touches is repainted, and grey while it isn't decided yet;
of the result only the pixels that were painted are put into the picture."""


def serve(actions: Actions, *, host: str, port: int, open_browser: bool) -> None:
    """Serve the app until it is interrupted.

    Raises:
        OSError: if the port can't be had.
    """
    _check_port(host, port)
    # Pillow warns of a decompression bomb first and refuses it at twice the size.
    Image.MAX_IMAGE_PIXELS = int(actions.limits.megapixels * 1e6)
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    with tempfile.TemporaryDirectory(prefix="bigr-demo-") as folder:
        page = build(actions, Path(folder))
        page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)
        page.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            share=False,
            max_file_size=f"{actions.limits.upload_mb}mb",
            enable_monitoring=False,
            footer_links=[],
            ssr_mode=False,
            theme=gr.themes.Default(font=FONT, font_mono=("monospace",)),
            css=CSS,
            quiet=True,
            prevent_thread_lock=True,
        )
        log.info("http://%s:%d — stop with Ctrl+C", host, port)
        page.block_thread()


def build(actions: Actions, folder: Path) -> gr.Blocks:
    """All tabs.

    Args:
        actions: what they do.
        folder: where the examples are kept while the app runs.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(HOUR, HOUR)) as page:
        gr.Markdown(HEADER)
        examples = _save_examples(actions, folder)
        with gr.Tab("Generate"):
            _generate(actions)
        with gr.Tab("Edit"):
            _edit(actions, examples)
        with gr.Tab("Interpolate"):
            _interpolate(actions)
        with gr.Tab("Enrich"):
            _enrich(actions, examples)
        with gr.Tab("Reconstruct"):
            _reconstruct(actions, examples)
    return page


def _generate(actions: Actions) -> None:
    choices = actions.class_choices
    with gr.Row():
        with gr.Column():
            classes = gr.Dropdown(
                choices, value=[choices[0][1]], multiselect=True, label="Classes",
                info="Type to search.",
            )  # fmt: skip
            count = _count(actions, "Pictures of each class", 4)
            knobs = _Knobs(actions)
            run, stop = _buttons("Generate")
        output = _Output(with_inside=True)

    def start(chosen: list[int], number: int, *values: Any) -> Iterator[Step]:
        return actions.generate(chosen, number, knobs.read(values))

    output.fill(run, stop, start, [classes, count, *knobs.components])


def _edit(actions: Actions, examples: list[str]) -> None:
    grid = actions.pipeline.grid_size
    with gr.Row():
        with gr.Column():
            source = _Source(actions, examples)
            editor = gr.ImageEditor(
                label="Paint here", sources=(), type="pil", image_mode="RGBA", format="png",
                layers=False, transforms=(), height=520,
                brush=gr.Brush(default_size=60, colors=["#ff3d71"], color_mode="fixed"),
                placeholder="Drop a picture above, or take an example",
                elem_classes="canvas",
            )  # fmt: skip
            mode = gr.Radio(
                ["repaint it (inpainting)", "keep it (outpainting)"],
                type="index", value="repaint it (inpainting)", label="What I painted",
            )  # fmt: skip
            label = _one_class(actions, "Class to paint", with_whatever=True)
            run, stop = _buttons("Repaint")
            count = _count(actions, "Variants", 4)
            blend = gr.Dropdown(
                [("paste the pixels", "paste"), ("blend the seams", "poisson"),
                 ("show the decoded square", "none")], value="paste", label="Result",
            )  # fmt: skip
            knobs = _Knobs(actions)
            gr.Markdown(EDIT_HELP.format(grid=grid))
        output = _Output(with_inside=True)
    source.show_on(editor, lambda picture: actions.canvas(picture))

    def start(
        path: str | None, painted: Any, index: int, chosen: int, number: int, how: Any, *values: Any
    ) -> Iterator[Step]:
        layers = (painted or {}).get("layers") or [None]
        return actions.repaint(path, layers[0], index == 1, chosen, number, how, knobs.read(values))

    output.fill(
        run, stop, start, [source.path, editor, mode, label, count, blend, *knobs.components]
    )


def _interpolate(actions: Actions) -> None:
    with gr.Row():
        with gr.Column():
            first = _one_class(actions, "From", index=0)
            second = _one_class(actions, "To", index=-1)
            count = _count(actions, "Pictures", 9)
            knobs = _Knobs(actions)
            run, stop = _buttons("Interpolate")
        output = _Output()

    def start(one: int, other: int, number: int, *values: Any) -> Iterator[Step]:
        return actions.interpolate(one, other, number, knobs.read(values))

    output.fill(run, stop, start, [first, second, count, *knobs.components])


def _enrich(actions: Actions, examples: list[str]) -> None:
    with gr.Row():
        with gr.Column():
            source = _Source(actions, examples)
            shown = gr.Image(label="Picture", interactive=False, height=320, format="png")
            label = _one_class(actions, "Class it shows", with_whatever=True)
            count = _count(actions, "Variants", 1)
            knobs = _Knobs(actions)
            gr.Markdown(
                "The picture is brought to half the model's resolution, enlarged twice, and given "
                "the details that it lacks, a quarter of the tokens at a time."
            )
            run, stop = _buttons("Enrich")
        output = _Output()
    source.show_on(shown, actions.visible)

    def start(path: str | None, chosen: int, number: int, *values: Any) -> Iterator[Step]:
        return actions.enrich(path, chosen, number, knobs.read(values))

    output.fill(run, stop, start, [source.path, label, count, *knobs.components])


def _reconstruct(actions: Actions, examples: list[str]) -> None:
    with gr.Row():
        with gr.Column():
            source = _Source(actions, examples)
            gr.Markdown(
                "What is left of a picture after its way through the bits: the limit of what the "
                "model can keep or paint."
            )
        result = gr.Gallery(
            label="The square, and its reconstruction", columns=2, format="png",
            buttons=["download", "fullscreen"], elem_classes="tiny",
        )  # fmt: skip

    def show(picture: Image.Image) -> list[Image.Image]:
        return [actions.visible(one) for one in actions.reconstruct(picture)]

    source.show_on(result, show)


def _one_class(
    actions: Actions, label: str, *, index: int = 0, with_whatever: bool = False
) -> gr.Dropdown:
    choices = actions.class_choices
    if with_whatever:
        choices = [("whatever fits", WHATEVER), *choices]
    return gr.Dropdown(
        choices, value=choices[index][1], label=label, info="Type to search.", filterable=True
    )


def _count(actions: Actions, label: str, value: int) -> gr.Slider:
    most = actions.limits.pictures
    return gr.Slider(1, most, value=min(value, most), step=1, label=label)


def _buttons(label: str) -> tuple[gr.Button, gr.Button]:
    with gr.Row():
        return gr.Button(label, variant="primary", scale=3), gr.Button("Stop", variant="stop")


class _Knobs:
    """The sampler's sliders and the seed."""

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


class _Source:
    """Where a picture comes from: a file, checked as it arrives, or an example."""

    def __init__(self, actions: Actions, examples: list[str]) -> None:
        self.actions = actions
        self.path = gr.State(None)
        self.file = gr.File(
            label=f"Picture, up to {actions.limits.upload_mb} MB", height=110, type="filepath"
        )
        self.examples = gr.Gallery(
            examples, label="Examples", columns=len(examples), height=125,
            allow_preview=False, interactive=False, buttons=[], elem_classes=["tiny", "examples"],
        )  # fmt: skip
        self.example_paths = examples

    def show_on(self, target: Any, draw: Callable[[Image.Image], Any]) -> None:
        """Draw each checked picture on ``target``; a refused one leaves what was there."""

        @_with_messages
        def opened(path: str | None) -> tuple[Any, Any]:
            return path, draw(self.actions.open(path))

        @_with_messages
        def taken(event: gr.SelectData) -> tuple[Any, Any, None]:
            path = self.example_paths[event.index]
            return path, draw(self.actions.open(path)), None

        outputs = [self.path, target]
        self.file.upload(opened, self.file, outputs, api_visibility="private")
        self.examples.select(taken, None, [*outputs, self.file], api_visibility="private")


class _Output:
    """Where the pictures come into being."""

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
        """Show the steps of ``start`` when ``run`` is pressed."""

        @_with_messages
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


def _with_messages(function: Callable[..., Any]) -> Callable[..., Any]:
    """Errors of the user as a message on the page; of generators, too."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def iterate(*values: Any) -> Iterator[Any]:
            try:
                yield from function(*values)
            except ValueError as error:
                raise gr.Error(_sentence(error), print_exception=False) from error

        return iterate

    @functools.wraps(function)
    def call(*values: Any) -> Any:
        try:
            return function(*values)
        except ValueError as error:
            raise gr.Error(_sentence(error), print_exception=False) from error

    return call


def _sentence(error: ValueError) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]


def _save_examples(actions: Actions, folder: Path) -> list[str]:
    paths = []
    for index, picture in enumerate(actions.examples()):
        paths.append(str(folder / f"example_{index}.png"))
        picture.save(paths[-1])
    return paths


def _check_port(host: str, port: int) -> None:
    """Gradio's own message would be about a range of ports."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"host={host} port={port} can't be had ({error.strerror or error}): give another "
                "port=…."
            ) from error
