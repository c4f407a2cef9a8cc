"""The part of the page that runs a job and shows its pictures, the same for all tabs."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from bigr.app.line import Line
from bigr.app.steps import Results, Step
from bigr.app.tasks import Job
from bigr.app.visitors import KEPT_RUNS
from bigr.app.widgets import PRIVATE, visitor_of, with_messages

MOST_WAITING = 16
"""Number of requests of all visitors that wait in the line; others wait in Gradio's queue."""
WAIT_SECONDS = 0.5
OPEN_TAB = """(history, task, ...values) => {
    const tab = document.querySelector('[role=tab][aria-selected=true]');
    return [history, tab ? tab.id.replace(/-button$/, '') : task, ...values];
}"""
"""Finds the tab that is open at the moment of the click; its widget may not have the value yet."""
HINT = "Choose what to do, and press Run. The pictures appear here."


class JobPanel:
    """The buttons Run and Stop, the progress, the pictures, and the history of the page."""

    def __init__(self) -> None:
        self.current = gr.State(None)
        """The results that are shown, and the index of the one that was chosen."""
        self.history = gr.State([])
        with gr.Row():
            self.run = gr.Button("Run", variant="primary", scale=3, elem_id="run")
            self.stop = gr.Button("Stop", variant="stop", min_width=80)
        self.status = gr.HTML(_status(HINT), elem_classes="status", padding=False)
        # On wide screens, the second column is beside the first one.
        with gr.Row():
            with gr.Column(scale=3, min_width=440):
                self.frame = gr.Image(
                    label="In progress", interactive=False, format="png", visible=False,
                    elem_classes=["picture", "frame"], buttons=["fullscreen"],
                )  # fmt: skip
                self.pictures = gr.Gallery(
                    label="Results", columns=4, format="png", visible=False,
                    elem_classes=["gallery", "results"], interactive=False,
                    buttons=["download", "fullscreen"],
                )  # fmt: skip
                self.comparison = gr.ImageSlider(
                    label="Before and after", interactive=False, format="png", visible=False,
                    elem_classes=["picture", "comparison"], buttons=["fullscreen"],
                )  # fmt: skip
                with gr.Row(equal_height=True):
                    self.archive = gr.DownloadButton("Download all", visible=False)
                    self.send = gr.Button("Send to Edit", visible=False)
            with gr.Column(scale=2, min_width=300, elem_classes="side"):
                self.inside = gr.Gallery(
                    label="Inside the first picture", columns=2, format="png", visible=False,
                    elem_classes=["gallery", "inside"], interactive=False,
                    buttons=["download", "fullscreen"],
                )  # fmt: skip
                self.earlier = gr.Gallery(
                    label="History", columns=KEPT_RUNS, format="png", visible=False,
                    allow_preview=False, interactive=False, buttons=[], fit_columns=False,
                    elem_classes=["gallery", "history"],
                )  # fmt: skip
        self.view = [
            self.status, self.frame, self.pictures, self.comparison, self.archive, self.send,
            self.inside, self.current,
        ]  # fmt: skip
        """What :meth:`show` fills."""
        self.pictures.select(
            _choose, self.current, [self.comparison, self.send, self.current],
            show_progress="hidden",
            **PRIVATE,
        )  # fmt: skip

    def fill(self, start: Callable[..., Job], inputs: list[Any]) -> None:
        """Show the steps of a job when Run is pressed, until Stop is pressed.

        Args:
            start: returns the job for the values of ``inputs``.
            inputs: components, of which the first one has the name of the open tab.
        """
        line = Line()

        @with_messages
        def steps(request: gr.Request, earlier: list[Results], *values: Any) -> Iterator[list[Any]]:
            job, session = start(*values), request.session_hash or ""
            with visitor_of(request).run(session) as run, line.join() as place:
                while ahead := place.ahead(WAIT_SECONDS):
                    if run.stop.is_set():
                        yield self._progress("stopped before it started")
                        return
                    yield self._progress(
                        f"waiting for {ahead} other request{'' if ahead == 1 else 's'}"
                    )
                try:
                    for step in job.steps(*run):
                        if step.results is None:
                            yield self._progress(_message(step), step)
                        else:
                            earlier = [*earlier, step.results][-KEPT_RUNS:]
                            yield [*self.show(step.results), *self._history(earlier)]
                except Exception:
                    yield self._progress(HINT)
                    raise

        def interrupt(request: gr.Request) -> None:
            visitor_of(request).stop(request.session_hash or "")

        self.run.click(
            steps, [self.history, *inputs], [*self.view, self.earlier, self.history],
            concurrency_id="model", concurrency_limit=MOST_WAITING,
            show_progress="hidden", trigger_mode="once", js=OPEN_TAB, **PRIVATE,
        )  # fmt: skip
        # The job itself ends with a last step. If the page cancelled it instead, a frame that is on
        # its way could follow the message that says so, or be shown as an error.
        self.stop.click(interrupt, None, None, show_progress="hidden", **PRIVATE)

    def show(self, results: Results) -> list[Any]:
        """Return the values of :attr:`view` that show finished pictures."""
        pairs = zip(map(str, results.shown), results.captions, strict=True)
        animation = results.animation
        return [
            _status(results.message),
            gr.Image(None if animation is None else str(animation), visible=animation is not None,
                     label="Animation"),
            gr.Gallery([*pairs], visible=True, selected_index=None),
            _comparison(results, 0),
            gr.DownloadButton(value=None if results.archive is None else str(results.archive),
                              visible=results.archive is not None),
            _send_button(0),
            gr.Gallery([(str(path), text) for path, text in results.inside],
                       visible=bool(results.inside)),
            (results, 0),
        ]  # fmt: skip

    def _progress(self, message: str, step: Step | None = None) -> list[Any]:
        """Return the values of all outputs while a job runs or waits."""
        is_running = step is not None and step.seconds_left is not None
        values = [gr.skip()] * (len(self.view) + 2)
        values[0] = _status(message, step.share if step is not None and is_running else None)
        if step is not None and step.frame is not None:
            values[1] = gr.Image(str(step.frame), visible=True, label="In progress")
            hidden = (gr.Gallery, gr.ImageSlider, gr.DownloadButton, gr.Button, gr.Gallery)
            values[2 : 2 + len(hidden)] = [kind(visible=False) for kind in hidden]
        return values

    def _history(self, earlier: list[Results]) -> list[Any]:
        """Return the values of the history's gallery and state."""
        thumbnails = [(str(one.shown[0]), one.captions[0]) for one in earlier]
        return [gr.Gallery(thumbnails, visible=bool(earlier)), earlier]


def earlier_results(history: list[Results], index: int) -> Results:
    """Return an entry of the history.

    Raises:
        ValueError: if there is none, or if its files were deleted.
    """
    if index not in range(len(history)):
        raise ValueError(f"the history has no entry {index}.")
    if not history[index].shown[0].exists():
        raise ValueError("these pictures were deleted because you have made many others since.")
    return history[index]


@with_messages
def _choose(current: tuple[Results, int] | None, event: gr.SelectData) -> tuple[Any, ...]:
    """Compare the chosen one of the results with the picture that it was made from."""
    if current is None or event.index not in range(len(current[0].shown)):
        raise ValueError(f"there is no picture {event.index}.")
    results, index = current[0], event.index
    return _comparison(results, index), _send_button(index), (results, index)


def _send_button(index: int) -> gr.Button:
    return gr.Button(f"Send picture {index + 1} to Edit", visible=True)


def _comparison(results: Results, index: int) -> gr.ImageSlider:
    if results.before is None:
        return gr.ImageSlider(None, visible=False)
    return gr.ImageSlider((str(results.before), str(results.shown[index])), visible=True)


def _message(step: Step) -> str:
    if step.seconds_left is None:
        return step.message
    seconds = round(step.seconds_left)
    left = f"{seconds} s" if seconds < 100 else f"{round(seconds / 60)} min"
    return f"{step.message}, about {left} left"


def _status(message: str, share: float | None = None) -> str:
    """Return the message, and a bar for the share of the work that is done."""
    text = f'<div role="status">{html.escape(message)}</div>'
    if share is None:
        return text
    return text + f'<progress max="1" value="{share:.3f}" aria-label="Progress"></progress>'
