"""What happens after Run: results, history, further editing, and requests that wait."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.web_app import PageClient

gr = pytest.importorskip("gradio")


def outputs(page: PageClient, listener: dict[str, Any], message: dict[str, Any]) -> dict[Any, Any]:
    """What a call has returned, by the label of the component."""
    assert message["success"], message
    labels = [page.labels[one] for one in listener["outputs"]]
    return dict(zip(labels, message["output"]["data"], strict=True))


def run(page: PageClient, **changes: Any) -> dict[Any, Any]:
    """Press Run, and return what is shown at the end."""
    listener = page.listener("Run")
    return outputs(page, listener, page.call(listener, page.values(listener, **changes)))


def paths(gallery: dict[str, Any]) -> list[str]:
    return [one["image"]["path"] for one in gallery["value"]]


def test_history_and_further_editing(page: PageClient) -> None:
    first = run(page, Classes=[2], Pictures_of_each_class=2, Iterations=2, Preset="paper_l")
    run(page, Task="interpolate", To=1, Pictures=3)
    # 1. The first entry of the history brings back its pictures and all its settings.
    listener = page.listener("History", "select")
    message = page.call(listener, page.values(listener), event_data={"index": 0})
    shown = outputs(page, listener, message)
    assert paths(shown["Results"]) == paths(first["Results"])
    assert shown["Task"] == "generate"
    assert (shown["Classes"], shown["Pictures of each class"], shown["Seed"]) == ([2], 2, 0)
    assert (shown["Iterations"], shown["Preset"]["value"]) == (2, "as in the file")
    # 2. They make the same pictures again, also with what no slider shows.
    again = run(page, Classes=[2], Pictures_of_each_class=2, Iterations=2, Preset="as in the file")
    for one, other in zip(paths(first["Results"]), paths(again["Results"]), strict=True):
        assert np.array_equal(np.array(Image.open(one)), np.array(Image.open(other)))
    # 3. The second picture is chosen, and sent to the editor in its own size.
    listener = page.listener("Results", "select")
    assert page.call(listener, page.values(listener), event_data={"index": 1})["success"]
    assert not page.call(listener, page.values(listener), event_data={"index": 2})["success"]
    listener = page.listener("Send to Edit")
    sent = outputs(page, listener, page.call(listener, page.values(listener)))
    assert sent["Task"] == "edit"
    assert Image.open(sent["Paint here"]["background"]["path"]).size == (640, 640)
    edited = run(page, Task="edit", What_to_do="outpaint", Variants=1)
    before = edited["Before and after"]["value"][0]["path"]
    assert np.array_equal(
        np.array(Image.open(before)), np.array(Image.open(paths(again["Results"])[1]))
    )


def test_an_empty_history(page: PageClient) -> None:
    for label, event in (("History", "select"), ("Send to Edit", "click")):
        listener = page.listener(label, event)
        message = page.call(listener, page.values(listener), event_data={"index": 0})
        assert not message["success"]
        assert re.match("There is no picture|The history has no entry", message["output"]["error"])


def test_requests_that_wait_are_stopped(client: Any, page: PageClient) -> None:
    """The second one at once, before it began; the first one keeps its last frame."""
    second, folder = PageClient(client), Path(client.app.visitors.folder)
    before = len(list(folder.rglob("run_*")))

    def wait_for_runs(count: int) -> None:
        deadline = time.monotonic() + 60
        while len(list(folder.rglob("run_*"))) < before + count:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    listener = page.listener("Run")
    long = page.values(listener, Iterations=64, Pictures_of_each_class=6)
    for number, one in enumerate((page, second), 1):
        one.join(listener, long).raise_for_status()
        wait_for_runs(number)
    for one, expected in (
        (second, "stopped before it started"),
        (page, "stopped after iteration "),
    ):
        one.join(one.listener("Stop"), []).raise_for_status()
        shown = str([message.get("output") for message in one.messages()])
        assert expected in shown
