"""The tabs of the page, which choose what the button Run does, and with which values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
from PIL import Image

from bigr.app.actions import WHATEVER, Actions
from bigr.app.canvas import PAINT, draw_canvas, layer_of, pad, paint_rectangle, unpad
from bigr.app.limits import Knobs
from bigr.app.steps import CANVAS_SIDE, PictureJob, ReconstructionJob
from bigr.app.widgets import PRIVATE, class_menu, count_slider, kept, with_messages
from bigr.pipeline.picture_settings import PictureSettings

Job = PictureJob | ReconstructionJob
MODES = {
    "inpaint": "repaint what is painted (inpainting)",
    "outpaint": "keep what is painted, and repaint the rest (outpainting)",
    "enrich": "add details to a small picture (enrichment)",
    "reconstruct": "only encode and decode it (reconstruction)",
}
BLENDS = {
    "paste": "paste the pixels",
    "poisson": "blend the seams",
    "none": "show the decoded square",
}
EDIT_HELP = """The model sees the centre square of the picture, as a grid of {grid}x{grid} tokens.
Every token that the paint touches is repainted; it is grey until it is decided. Only the painted
pixels of the result are put into the picture. Enrichment reduces the picture to half the model's
resolution, enlarges it again, and generates the missing details."""
REPRODUCE_HELP = """The files that you download contain everything that their pictures were made
from. Drop one here: **Run** makes the same pictures again, and the other tabs and the sliders take
the values of the file, so that you can change them."""


class Task(Protocol):
    """A tab: its widgets, the job that they stand for, and their values for given settings."""

    name: str
    components: list[Any]
    """The widgets whose values :meth:`start` gets."""

    def start(self, values: Sequence[Any], knobs: Knobs) -> Job:
        """Return the job for the values of the components; ``ValueError`` if they are wrong."""

    def restore(self, request: gr.Request, settings: PictureSettings) -> list[Any] | None:
        """Return the values of the components for ``settings``; None if another tab has them."""


class GenerateTask:
    """Images of the chosen classes."""

    name = "generate"

    def __init__(self, actions: Actions) -> None:
        self.actions = actions
        choices = actions.class_choices
        classes = gr.Dropdown(
            choices, value=[choices[0][1]], multiselect=True, label="Classes",
            info="Type to search.",
        )  # fmt: skip
        self.components = [classes, count_slider(actions, "Pictures of each class", 4)]

    def start(self, values: Sequence[Any], knobs: Knobs) -> Job:
        """Return the job for classes and a number of images."""
        classes, count = values
        return self.actions.generate(classes, count, knobs)

    def restore(self, request: gr.Request, settings: PictureSettings) -> list[Any] | None:  # noqa: ARG002
        """Return the values for ``settings`` of images of classes."""
        if settings.application != "generate":
            return None
        given = settings.arguments
        classes = [self.actions.pipeline.class_id(label) for label in given["classes"]]
        return [classes, given.get("num_per_class", 1)]


class InterpolateTask:
    """An animation between two classes."""

    name = "interpolate"

    def __init__(self, actions: Actions) -> None:
        self.actions = actions
        self.components = [
            class_menu(actions, "From", index=0),
            class_menu(actions, "To", index=-1),
            count_slider(actions, "Pictures", 9),
        ]

    def start(self, values: Sequence[Any], knobs: Knobs) -> Job:
        """Return the job for two classes and a number of images."""
        first, second, count = values
        return self.actions.interpolate(first, second, count, knobs)

    def restore(self, request: gr.Request, settings: PictureSettings) -> list[Any] | None:  # noqa: ARG002
        """Return the values for ``settings`` of an interpolation."""
        if settings.application != "interpolate":
            return None
        given, class_id = settings.arguments, self.actions.pipeline.class_id
        return [class_id(given["first"]), class_id(given["second"]), len(given["ratios"])]


class ReproduceTask:
    """The pictures of a file again."""

    name = "reproduce"

    def __init__(self, actions: Actions) -> None:
        self.actions = actions
        self.file = gr.File(
            label="A ZIP, PNG or settings.json of this app",
            height=60,
            type="filepath",
            elem_classes="upload",
        )
        gr.Markdown(REPRODUCE_HELP)
        self.components = [self.file]

    def start(self, values: Sequence[Any], knobs: Knobs) -> Job:  # noqa: ARG002
        """Return the job for a file, whose settings are used instead of ``knobs``."""
        return self.actions.reproduce(uploaded(values[0]))

    def restore(self, request: gr.Request, settings: PictureSettings) -> list[Any] | None:  # noqa: ARG002
        """Return None, because any file makes the same pictures again."""
        return None


class EditTask:
    """An uploaded picture, which is inpainted, outpainted, edited, enriched or reconstructed."""

    name = "edit"

    def __init__(self, actions: Actions, examples: list[str]) -> None:
        self.actions = actions
        self.grid_size = actions.pipeline.grid_size
        self.path = gr.State(None)
        file = gr.File(
            label=f"Picture, up to {actions.limits.upload_mb:g} MB",
            height=60,
            type="filepath",
            elem_classes="upload",
        )
        shown = gr.Gallery(
            examples, label="Examples", columns=len(examples),
            allow_preview=False, interactive=False, buttons=[],
            elem_classes=["gallery", "examples"],
        )  # fmt: skip
        color = "#{:02x}{:02x}{:02x}".format(*PAINT)
        self.editor = gr.ImageEditor(
            label="Paint here", sources=(), type="pil", image_mode="RGBA", format="png",
            layers=False, transforms=(), height=480, canvas_size=(CANVAS_SIDE, CANVAS_SIDE),
            brush=gr.Brush(default_size=60, colors=[color], color_mode="fixed"),
            placeholder="Drop a picture above, or choose an example",
            elem_classes="canvas",
        )  # fmt: skip
        self.grid = gr.Checkbox(True, label=f"Show the {self.grid_size}x{self.grid_size} tokens")
        with gr.Accordion("Paint a rectangle, in tokens", open=False):
            sides = ("Left", "Top", "Width", "Height")
            with gr.Row(elem_classes="box"):
                self.box = [
                    gr.Number(int(index > 1), precision=0, minimum=int(index > 1),
                              maximum=self.grid_size - int(index < 2), label=side, min_width=50)
                    for index, side in enumerate(sides)
                ]  # fmt: skip
            with gr.Row():
                add = gr.Button("Paint the rectangle", size="sm")
                clear = gr.Button("Remove all paint", size="sm")
        mode = gr.Radio(
            [(text, name) for name, text in MODES.items()], value="inpaint", label="What to do"
        )
        label = class_menu(actions, "Class to paint", with_whatever=True)
        count = count_slider(actions, "Variants", 4)
        blend = gr.Dropdown(
            [(text, name) for name, text in BLENDS.items()], value="paste", label="Result"
        )
        with gr.Accordion("How a picture is edited", open=False):
            gr.Markdown(EDIT_HELP.format(grid=self.grid_size))
        self.components = [self.path, self.editor, mode, label, count, blend]
        self._listen(file, shown, examples, add, clear)

    def start(self, values: Sequence[Any], knobs: Knobs) -> Job:
        """Return the job for a picture, what was painted, and what is to be done with them."""
        path, painted, mode, label, count, blend = values
        if mode == "reconstruct":
            return self.actions.reconstruct(path)
        if mode == "enrich":
            return self.actions.enrich(path, label, count, knobs)
        if mode not in ("inpaint", "outpaint"):
            raise ValueError(f"What to do can be {', '.join(MODES)}.")
        strokes = self._strokes(self.actions.open(path), painted)
        return self.actions.repaint(path, strokes, mode == "outpaint", label, count, blend, knobs)

    def restore(self, request: gr.Request, settings: PictureSettings) -> list[Any] | None:
        """Return the values for ``settings`` of one of the applications of this tab."""
        given = settings.arguments
        if "image" not in given:
            return None
        mode = "inpaint" if settings.application == "edit" else settings.application
        masks = (given.get(name) for name in ("mask", "keep"))
        mask = next((one for one in masks if isinstance(one, Image.Image)), None)
        name = given.get("class_name")
        return [
            *self.take(request, given["image"], None if mask is None else layer_of(mask)),
            mode,
            WHATEVER if name is None else self.actions.pipeline.class_id(name),
            given.get("num_variants", 1),
            given.get("blend", "paste"),
        ]

    def take(
        self, request: gr.Request, picture: Image.Image, layer: Image.Image | None = None
    ) -> list[Any]:
        """Return the values of path and editor that put a picture on the canvas."""
        return [kept(request, picture), self._draw(request, picture, layer, True)]

    def _listen(
        self, file: gr.File, shown: gr.Gallery, examples: list[str], add: gr.Button,
        clear: gr.Button,
    ) -> None:  # fmt: skip
        """Connect the widgets; a picture that is refused leaves the canvas unchanged."""
        actions = self.actions

        @with_messages
        def opened(request: gr.Request, value: Any, has_grid: Any) -> tuple[Any, Any]:
            path = uploaded(value)
            return path, self._draw(request, actions.open(path), None, has_grid)

        @with_messages
        def taken(request: gr.Request, has_grid: Any, event: gr.SelectData) -> tuple[Any, ...]:
            if event.index not in range(len(examples)):
                raise ValueError(f"there is no example {event.index}.")
            path = examples[event.index]
            return path, self._draw(request, actions.open(path), None, has_grid), None

        @with_messages
        def redrawn(request: gr.Request, path: Any, painted: Any, has_grid: Any) -> Any:
            if not path:
                return gr.skip()
            picture = actions.open(path)
            return self._draw(request, picture, self._strokes(picture, painted), has_grid)

        @with_messages
        def added(request: gr.Request, path: Any, painted: Any, has_grid: Any, *box: Any) -> Any:
            picture = actions.open(path)
            layer = self._strokes(picture, painted)
            if not all(type(side) is int for side in box):
                raise ValueError("Left, top, width and height of the rectangle must be integers.")
            x, y, width, height = box
            layer = paint_rectangle(layer, picture.size, (x, y, width, height), self.grid_size)
            return self._draw(request, picture, layer, has_grid)

        @with_messages
        def cleared(request: gr.Request, path: Any, has_grid: Any) -> Any:
            return self._draw(request, actions.open(path), None, has_grid)

        outputs = [self.path, self.editor]
        canvas = [self.path, self.editor, self.grid]
        file.upload(opened, [file, self.grid], outputs, **PRIVATE)
        shown.select(taken, self.grid, [*outputs, file], **PRIVATE)
        self.grid.input(redrawn, canvas, self.editor, **PRIVATE)
        add.click(added, [*canvas, *self.box], self.editor, **PRIVATE)
        clear.click(cleared, [self.path, self.grid], self.editor, **PRIVATE)

    def _draw(
        self, request: gr.Request, picture: Image.Image, layer: Image.Image | None, has_grid: Any
    ) -> dict[str, Any]:
        """Return the value of the editor for a picture, and for what is painted on it."""
        grid_size = self.grid_size if has_grid is True else 0
        canvas = kept(request, pad(draw_canvas(picture, grid_size)))
        layers = [] if layer is None else [kept(request, pad(layer))]
        return {"background": canvas, "layers": layers, "composite": canvas}

    def _strokes(self, picture: Image.Image, painted: Any) -> Image.Image | None:
        """Return the layer that was painted on the canvas of a picture."""
        layers = painted.get("layers") if isinstance(painted, dict) else None
        layer = self.actions.strokes(layers[0]["path"] if layers else None)
        return None if layer is None else unpad(layer, picture.size)


def uploaded(value: Any) -> str | None:
    """Return the path of an uploaded file, from the value of its widget."""
    return value["path"] if isinstance(value, dict) else None


def save_examples(actions: Actions, folder: Path) -> list[str]:
    """Write the example images into ``folder``, and return their paths."""
    paths = []
    for index, picture in enumerate(actions.examples()):
        paths.append(str(folder / f"example_{index}.png"))
        picture.save(paths[-1])
    return paths
