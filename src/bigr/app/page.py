"""The page of the web app, in Gradio; :mod:`bigr.app.actions` does the work."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from bigr.app.actions import Actions
from bigr.app.steps import PictureJob, visible
from bigr.app.widgets import KnobSliders, Output, Source, buttons, class_menu, count_slider

THEME = gr.themes.Default(
    primary_hue=gr.themes.colors.indigo,
    font=("system-ui", "sans-serif"),
    font_mono=("monospace",),
).set(
    body_text_color_subdued="*neutral_600",
    block_info_text_color="*neutral_600",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_600",
    button_primary_background_fill_hover_dark="*primary_700",
    button_cancel_background_fill="*error_600",
)
"""Installed fonts, because the page loads nothing from other servers, and readable contrasts."""
CSS = """
.gradio-container {max-width: 1240px !important; width: 100% !important; margin: 0 auto !important}
.tiny img {image-rendering: pixelated}
.results .grid-wrap, .inside .grid-wrap {height: auto !important; min-height: 0 !important}
@media (max-width: 600px) {
  .results .grid-container {grid-template-columns: repeat(2, minmax(0, 1fr)) !important}
}
"""
TITLE = "BiGR"
HEADER = """# BiGR
Generate and edit pictures with one model over binary latent codes
([paper](https://arxiv.org/abs/2410.14672))."""
PAINTED = ["repaint it (inpainting)", "keep it (outpainting)"]
EDIT_HELP = """The model sees the centre square of the picture, as a grid of {grid}x{grid} tokens.
Every token that the paint touches is repainted; it is grey until it is decided. Only the painted
pixels of the result are put into the picture."""


def build(actions: Actions, folder: Path) -> gr.Blocks:
    """Build the page with all tabs.

    Args:
        actions: does the work.
        folder: keeps the example images while the app runs.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(HEADER)
        gr.HTML(f"<p>{html.escape(actions.description)}</p>", padding=False)
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
        with gr.Tab("Reproduce"):
            _reproduce(actions)
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

    def start(chosen: Any, number: Any, *values: Any) -> PictureJob:
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
            mode = gr.Radio(PAINTED, value=PAINTED[0], label="The painted region")
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

    def start(path: Any, painted: Any, does: Any, *values: Any) -> PictureJob:
        layers = painted.get("layers") if isinstance(painted, dict) else None
        strokes = actions.strokes(layers[0]["path"] if layers else None)
        chosen, number, how, *rest = values
        return actions.repaint(
            path, strokes, does == PAINTED[1], chosen, number, how, knobs.read(rest)
        )

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

    def start(one: Any, other: Any, number: Any, *values: Any) -> PictureJob:
        return actions.interpolate(one, other, number, knobs.read(values))

    output.fill(run, stop, start, [first, second, count, *knobs.components])


def _enrich(actions: Actions, examples: list[str]) -> None:
    with gr.Row():
        with gr.Column():
            source = Source(actions, examples)
            shown = gr.Image(
                label="Picture", interactive=False, height=320, format="png", elem_classes="source",
            )  # fmt: skip
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

    def start(path: Any, chosen: Any, number: Any, *values: Any) -> PictureJob:
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


def _reproduce(actions: Actions) -> None:
    with gr.Row():
        with gr.Column():
            file = gr.File(
                label="A ZIP, PNG or settings.json of this app", height=110, type="filepath"
            )
            gr.Markdown(
                "The files that you download contain everything that their pictures were made "
                "from. Drop one here to make the same pictures again."
            )
            run, stop = buttons("Reproduce")
        output = Output()

    def start(given: Any) -> PictureJob:
        return actions.reproduce(given["path"] if isinstance(given, dict) else None)

    output.fill(run, stop, start, [file])


def _save_examples(actions: Actions, folder: Path) -> list[str]:
    paths = []
    for index, picture in enumerate(actions.examples()):
        paths.append(str(folder / f"example_{index}.png"))
        picture.save(paths[-1])
    return paths
