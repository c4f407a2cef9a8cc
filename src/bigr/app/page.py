"""The page of the web app, in Gradio; :mod:`bigr.app.actions` does the work."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from bigr.app.actions import Actions
from bigr.app.job_panel import JobPanel, earlier_results
from bigr.app.steps import Results
from bigr.app.tasks import (
    EditTask,
    GenerateTask,
    InterpolateTask,
    Job,
    ReproduceTask,
    Task,
    save_examples,
    uploaded,
)
from bigr.app.widgets import PRIVATE, KnobSliders, with_messages
from bigr.data.user_pictures import read_picture
from bigr.pipeline.picture_settings import PictureSettings

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
    button_cancel_background_fill="#b91c1c",
    button_cancel_background_fill_hover="#991b1b",
    button_cancel_text_color="white",
    checkbox_border_color="*neutral_400",
    checkbox_border_color_dark="*neutral_400",
)
"""Installed fonts, because the page loads nothing from other servers, and readable contrasts."""
STYLE = Path(__file__).with_name("page.css")
HEAD = Path(__file__).with_name("head.html")
"""A script that completes what Gradio's markup lacks for screen readers and voice control."""
SHOW_TABS = "() => document.querySelector('[role=tablist]').scrollIntoView({block: 'nearest'})"
"""On a phone, the tabs are far above the button that sends a picture there."""
TITLE = "BiGR"
HEADER = """<h1>BiGR</h1>
<p>Generate and edit pictures with one model over binary latent codes
(<a href="https://arxiv.org/abs/2410.14672">paper</a>).<br>{}</p>"""


def build(actions: Actions, folder: Path) -> gr.Blocks:
    """Build the page, which has the tabs and sliders on the left, and the job on the right.

    Args:
        actions: does the work.
        folder: keeps the example images while the app runs.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.HTML(HEADER.format(html.escape(actions.description)), elem_classes="header")
        chosen = gr.Textbox("generate", label="Task", visible=False)
        with gr.Row():
            with gr.Column(scale=2, min_width=340):
                with gr.Tabs(overflow_behavior="wrap") as tabs:
                    tasks = _tabs(actions, chosen, folder)
                knobs = KnobSliders(actions)
            with gr.Column(scale=3, min_width=340, elem_classes="panel"):
                panel = JobPanel()
        _connect(tasks, chosen, tabs, knobs, panel)
    return page


def _tabs(actions: Actions, chosen: gr.Textbox, folder: Path) -> list[Task]:
    """Return the tabs; ``chosen`` becomes the name of the one that is open."""
    tasks: list[Task] = []
    examples = save_examples(actions, folder)
    for kind in (GenerateTask, EditTask, InterpolateTask, ReproduceTask):
        with gr.Tab(kind.name.capitalize(), id=kind.name, elem_id=kind.name) as tab:
            tasks.append(EditTask(actions, examples) if kind is EditTask else kind(actions))  # type: ignore[call-arg]
        tab.select(
            None, outputs=chosen, js=f"() => {kind.name!r}", show_progress="hidden",
            api_visibility="private",
        )  # fmt: skip
    return tasks


def _connect(
    tasks: list[Task], chosen: gr.Textbox, tabs: gr.Tabs, knobs: KnobSliders, panel: JobPanel
) -> None:
    """Connect the tabs, the sliders and the job."""
    controls = [one for task in tasks for one in task.components]

    def start(name: Any, *values: Any) -> Job:
        given = iter(values)
        parts = {task.name: _take(given, len(task.components)) for task in tasks}
        found = [task for task in tasks if task.name == name]
        if not found:
            raise ValueError(f"there is no tab {str(name)[:20]!r}.")
        return found[0].start(parts[found[0].name], knobs.read([*given]))

    def restored(request: gr.Request, settings: PictureSettings, *, opens: bool) -> list[Any]:
        """Return the values of ``widgets`` for the settings of pictures."""
        found = {task.name: task.restore(request, settings) for task in tasks}
        place = next((name for name, values in found.items() if values is not None), None)
        shown: list[Any] = [place, gr.Tabs(selected=place)] if opens else [gr.skip(), gr.skip()]
        for task in tasks:
            shown += found[task.name] or [gr.skip()] * len(task.components)
        return [*shown, *knobs.restore(settings)]

    widgets = [chosen, tabs, *controls, *knobs.components]
    panel.fill(start, [chosen, *controls, *knobs.components])
    # 1. A file is dropped.
    reproduce = next(task for task in tasks if isinstance(task, ReproduceTask))

    @with_messages
    def dropped(request: gr.Request, file: Any) -> list[Any]:
        return restored(request, reproduce.actions.settings(uploaded(file)), opens=False)

    reproduce.file.upload(dropped, reproduce.file, widgets, show_progress="hidden", **PRIVATE)
    # 2. An entry of the history is chosen.

    @with_messages
    def returned(request: gr.Request, history: list[Results], event: gr.SelectData) -> list[Any]:
        results = earlier_results(history, event.index)
        shown = panel.show(results)
        if results.settings is None:
            return [*shown, *[gr.skip()] * len(widgets)]
        settings = PictureSettings.load(results.settings)
        return [*shown, *restored(request, settings, opens=True)]

    panel.earlier.select(
        returned, panel.history, [*panel.view, *widgets], show_progress="hidden", **PRIVATE
    )
    # 3. A result is edited further.
    edit = next(task for task in tasks if isinstance(task, EditTask))

    @with_messages
    def sent(request: gr.Request, current: tuple[Results, int] | None) -> list[Any]:
        if current is None:
            raise ValueError("there is no picture to edit.")
        results, index = current
        picture = read_picture(results.pictures[index], "The picture")
        return ["edit", gr.Tabs(selected="edit"), *edit.take(request, picture)]

    panel.send.click(
        sent, panel.current, [chosen, tabs, edit.path, edit.editor], show_progress="hidden",
        **PRIVATE,
    ).success(None, js=SHOW_TABS, api_visibility="private")  # fmt: skip


def _take(values: Iterator[Any], count: int) -> list[Any]:
    return [next(values) for _ in range(count)]
