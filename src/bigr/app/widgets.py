"""The widgets that several parts of the page share, and how its listeners report mistakes."""

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

from bigr.app.actions import MODEL_PRESET, WHATEVER, Actions
from bigr.app.limits import MAX_GUIDANCE, MAX_GUMBEL, MAX_SEED, Knobs
from bigr.app.visitors import Visitor
from bigr.pipeline.picture_settings import PictureSettings
from bigr.sampling.sampler_config import SamplerConfig
from bigr.schema import from_dict

PRIVATE: dict[str, Any] = {"preprocess": False, "api_visibility": "private"}
"""Options of all listeners: they check the values themselves, and only the page calls them."""
FILE_PRESET = "as in the file"
"""Name of the settings that were read from a file or chosen in the history."""


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


class KnobSliders:
    """The seed, the preset, and the sliders of the sampler."""

    def __init__(self, actions: Actions) -> None:
        self.actions = actions
        sampler = actions.sampler
        with gr.Row(elem_classes="seed"):
            seed = gr.Number(0, precision=0, minimum=0, maximum=MAX_SEED, label="Seed")
            other = gr.Button("Another seed", size="md", min_width=160, scale=0)
        with gr.Accordion("Sampler", open=False):
            preset = gr.Dropdown(
                list(actions.presets), value=MODEL_PRESET, label="Preset",
                info="Sets the sliders and all other settings, like sampler=NAME in a command.",
            )  # fmt: skip
            restored = gr.State(None)
            sliders = [
                gr.Slider(0, MAX_GUIDANCE, value=sampler.guidance_scale, step=0.05,
                          label="Guidance",
                          info="1 is no guidance; higher values give more typical pictures."),
                gr.Slider(1, actions.limits.iterations, value=sampler.num_iterations, step=1,
                          label="Iterations"),
                gr.Slider(0, MAX_GUMBEL, value=sampler.gumbel_temperature, step=0.01,
                          label="Gumbel temperature",
                          info="Noise in the order of the tokens; 0: the most certain first."),
            ]  # fmt: skip
        self.components = [*sliders, seed, preset, restored]
        other.click(
            None, outputs=seed, js=f"() => Math.floor(Math.random() * {MAX_SEED})",
            api_visibility="private",
        )  # fmt: skip

        @with_messages
        def choose(name: Any, config: SamplerConfig | None) -> list[float]:
            return _slider_values(self._base(name, config))

        preset.input(choose, [preset, restored], sliders, show_progress="hidden", **PRIVATE)

    def read(self, values: Sequence[Any]) -> Knobs:
        """Return the values of :attr:`components`.

        Raises:
            ValueError: if one of them is not in its range, or if there is no such preset.
        """
        guidance, iterations, gumbel, seed, name, restored = values
        return Knobs(guidance, iterations, gumbel, seed, self._base(name, restored))

    def restore(self, settings: PictureSettings) -> list[Any]:
        """Return the values of :attr:`components` for ``settings``."""
        sampler = from_dict(SamplerConfig, settings.sampler)
        menu = gr.Dropdown([*self.actions.presets, FILE_PRESET], value=FILE_PRESET)
        return [*_slider_values(sampler), settings.seed, menu, sampler]

    def _base(self, name: Any, restored: SamplerConfig | None) -> SamplerConfig:
        if name == FILE_PRESET and restored is not None:
            return restored
        if not isinstance(name, str) or name not in self.actions.presets:
            raise ValueError(f"Preset can be {', '.join(self.actions.presets)}.")
        return self.actions.presets[name]


def _slider_values(sampler: SamplerConfig) -> list[float]:
    return [sampler.guidance_scale, sampler.num_iterations, sampler.gumbel_temperature]


def visitor_of(request: gr.Request) -> Visitor:
    """Return the visitor who has sent ``request``; the gate has noted it there."""
    visitor: Visitor = request.state.visitor
    return visitor


def kept(request: gr.Request, picture: Image.Image) -> str:
    """Store an image among the files of the visitor, and return its path."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return str(visitor_of(request).store("shown.png", buffer.getvalue()))


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
