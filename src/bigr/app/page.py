"""The page of the web app, in Gradio; :mod:`bigr.app.actions` does the work."""

from __future__ import annotations

import logging
import socket
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from bigr.app.actions import Actions
from bigr.app.steps import Step, visible
from bigr.app.widgets import KnobSliders, Output, Source, buttons, class_menu, count_slider

log = logging.getLogger(__name__)

HOUR = 3600
MAX_WAITING = 32
FONT = ("system-ui", "sans-serif")
"""Fonts that are installed: the page loads nothing from other servers."""
CSS = """
.gradio-container {max-width: 1240px !important; width: 100% !important; margin: 0 auto !important}
.tiny img {image-rendering: pixelated}
.results .grid-wrap, .inside .grid-wrap {height: auto !important; min-height: 0 !important}
"""
TITLE = "BiGR"
HEADER = """# BiGR
Generate and edit pictures with one model over binary latent codes
([paper](https://arxiv.org/abs/2410.14672))."""
EDIT_HELP = """The model sees the centre square of the picture, as a grid of {grid}x{grid} tokens.
Every token that the paint touches is repainted; it is grey until it is decided. Only the painted
pixels of the result are put into the picture."""


def serve(actions: Actions, *, host: str, port: int, open_browser: bool) -> None:
    """Serve the app until it is interrupted.

    Raises:
        OSError: if the port can't be used.
    """
    _check_port(host, port)
    # By default Pillow only warns, and refuses an image at twice this size.
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
            max_file_size=f"{actions.limits.upload_mb:g}mb",
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
    """Build the page with all tabs.

    Args:
        actions: does the work.
        folder: keeps the example images while the app runs.
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
            count = count_slider(actions, "Pictures of each class", 4)
            knobs = KnobSliders(actions)
            run, stop = buttons("Generate")
        output = Output(with_inside=True)

    def start(chosen: list[int], number: int, *values: Any) -> Iterator[Step]:
        return actions.generate(chosen, number, knobs.read(values))

    output.fill(run, stop, start, [classes, count, *knobs.components])


def _edit(actions: Actions, examples: list[str]) -> None:
    grid = actions.pipeline.grid_size
    with gr.Row():
        with gr.Column():
            source = Source(actions, examples)
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
            label = class_menu(actions, "Class to paint", with_whatever=True)
            run, stop = buttons("Repaint")
            count = count_slider(actions, "Variants", 4)
            blend = gr.Dropdown(
                [("paste the pixels", "paste"), ("blend the seams", "poisson"),
                 ("show the decoded square", "none")], value="paste", label="Result",
            )  # fmt: skip
            knobs = KnobSliders(actions)
            gr.Markdown(EDIT_HELP.format(grid=grid))
        output = Output(with_inside=True)
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
            first = class_menu(actions, "From", index=0)
            second = class_menu(actions, "To", index=-1)
            count = count_slider(actions, "Pictures", 9)
            knobs = KnobSliders(actions)
            run, stop = buttons("Interpolate")
        output = Output()

    def start(one: int, other: int, number: int, *values: Any) -> Iterator[Step]:
        return actions.interpolate(one, other, number, knobs.read(values))

    output.fill(run, stop, start, [first, second, count, *knobs.components])


def _enrich(actions: Actions, examples: list[str]) -> None:
    with gr.Row():
        with gr.Column():
            source = Source(actions, examples)
            shown = gr.Image(label="Picture", interactive=False, height=320, format="png")
            label = class_menu(actions, "Class it shows", with_whatever=True)
            count = count_slider(actions, "Variants", 1)
            knobs = KnobSliders(actions)
            gr.Markdown(
                "The picture is reduced to half the model's resolution and enlarged again. Then "
                "the missing details are generated, a quarter of the tokens at a time."
            )
            run, stop = buttons("Enrich")
        output = Output()
    source.show_on(shown, visible)

    def start(path: str | None, chosen: int, number: int, *values: Any) -> Iterator[Step]:
        return actions.enrich(path, chosen, number, knobs.read(values))

    output.fill(run, stop, start, [source.path, label, count, *knobs.components])


def _reconstruct(actions: Actions, examples: list[str]) -> None:
    with gr.Row():
        with gr.Column():
            source = Source(actions, examples)
            gr.Markdown(
                "What remains of a picture that is encoded into bits and decoded again: no "
                "generated picture can be better."
            )
        result = gr.Gallery(
            label="The square, and its reconstruction", columns=2, format="png",
            buttons=["download", "fullscreen"], elem_classes="tiny",
        )  # fmt: skip

    def show(picture: Image.Image) -> list[Image.Image]:
        return [visible(one) for one in actions.reconstruct(picture)]

    source.show_on(result, show)


def _save_examples(actions: Actions, folder: Path) -> list[str]:
    paths = []
    for index, picture in enumerate(actions.examples()):
        paths.append(str(folder / f"example_{index}.png"))
        picture.save(paths[-1])
    return paths


def _check_port(host: str, port: int) -> None:
    """Raise ``OSError`` if the port can't be used; Gradio's message names a range of ports."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"host={host} port={port} can't be used ({error.strerror or error}): give another "
                "port=…."
            ) from error
