"""The whole app: its page, its queue and its gate, without a browser."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
import signal
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio")

from starlette.testclient import TestClient

from bigr.app.addresses import Address
from bigr.app.server import listening, serve
from bigr.app.visitors import MOST_RUNNING, private_folder
from tests.web_app import SAMPLER, PageClient, photo, tiny_actions


def test_generate(client: TestClient, page: PageClient) -> None:
    """A frame per iteration, the pipeline's pictures, and files that only their visitor gets."""
    listener = page.listener("Run")
    page.join(listener, page.values(listener, Classes=[2, 0], Pictures_of_each_class=2))
    messages = page.messages()
    frames = [one for one in messages if one["msg"] == "process_generating"]
    assert len(frames) >= 7  # the start, and three iterations of two batches
    assert [one["success"] for one in messages if one["msg"] == "process_completed"] == [True]
    archive = next(Path(client.app.visitors.folder).rglob("bigr_generate.zip"))  # type: ignore[attr-defined]
    response = client.get(f"/gradio_api/file={archive}")
    with zipfile.ZipFile(io.BytesIO(response.content)) as file:
        settings = json.loads(file.read("settings.json"))
        shown = [Image.open(io.BytesIO(file.read(f"generate_{i:02d}.png"))) for i in range(4)]
    assert settings["models"]["name"] == "tiny"
    expected = tiny_actions().pipeline.generate([2, 0], num_per_class=2, seed=0, sampler=SAMPLER)
    for one, other in zip(shown, expected, strict=True):
        assert np.array_equal(np.array(one), np.array(other))
    assert archive.parent.stat().st_mode & 0o777 == 0o700
    client.cookies.clear()
    PageClient(client)
    assert client.get(f"/gradio_api/file={archive}").status_code == 404


def test_upload_paint_and_repaint(page: PageClient) -> None:
    file = page.upload(photo())
    opened = page.call(page.listener("Picture, up to 20 MB", "upload"), [file, True])
    assert opened["success"], opened
    layer = io.BytesIO()
    strokes = Image.new("RGBA", (640, 384))
    strokes.paste((255, 0, 0, 255), (256, 128, 384, 256))
    strokes.save(layer, "PNG")
    painted = {"background": file, "layers": [page.upload(layer.getvalue())], "composite": None}
    listener = page.listener("Run")
    result = page.call(
        listener, page.values(listener, Task="edit", Paint_here=painted, Variants=1, Iterations=3)
    )
    assert result["success"], result


HOSTILE = [None, True, -1, 1.5, 1e300, float("nan"), "x", [], {}, [[]], {"path": "/etc/passwd"},
           {"id": "../x"}, {"layers": 3}, [1e9], ["x"], [None], "9" * 400, 10**30]  # fmt: skip


TASKS = ("generate", "edit", "interpolate", "reproduce")


def test_hostile_values(
    page: PageClient, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """In every place of every function: a sentence or a result, and never a traceback."""
    refused, answers, draw = 0, [], random.Random(0)

    def collect() -> None:
        answers.extend(one for one in page.messages() if one["msg"] == "process_completed")

    waiting = 0
    for listener in filter(lambda one: one["backend_fn"], page.listeners):
        good = page.values(listener, Iterations=1, Variants=1, Pictures=2, Pictures_of_each_class=1)
        for place, value in [(n, v) for n in range(len(good)) for v in draw.sample(HOSTILE, 6)]:
            data = [*good[:place], value, *good[place + 1 :]]
            labels = [page.labels[one] for one in listener["inputs"]]
            if "Task" in labels and labels[place] != "Task":
                data[labels.index("Task")] = draw.choice(TASKS)
            response = page.join(listener, data, event_data={"index": value})
            refused += response.status_code != 200
            assert response.status_code in (200, 422)
            waiting += response.status_code == 200
            if waiting == MOST_RUNNING:
                collect()
                waiting = 0
    collect()
    assert refused > 10
    assert len(answers) > 60
    errors = [one["output"]["error"] for one in answers if not one["success"]]
    assert len(errors) > 30
    assert all(text and "\n" not in text for text in errors)
    assert "Traceback" not in "".join(capfd.readouterr())
    # The test's own client logs its requests where an earlier test has set the level to INFO.
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Seed": -1}, "Seed must be an integer between 0 and 2147483647, got -1."),
        ({"Seed": None}, "Seed must be an integer between 0 and 2147483647, got null."),
        ({"Guidance": 1e300}, "Guidance_scale must be a number between 0 and 10.0, got 1e+300."),
        ({"Iterations": 65}, "The number of iterations can be 1 to 64."),
        ({"Classes": [4]}, "Class 4: this generator has the classes 0..2"),
        ({"Classes": []}, "Choose at least one class."),
        ({"Classes": "all"}, "Classes must be a list in which each value is an integer"),
        ({"Pictures_of_each_class": 7}, "7 pictures cannot be made at a time, only 1 to 6."),
    ],
)
def test_mistakes_are_told_on_the_page(
    page: PageClient, capfd: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    listener = page.listener("Run")
    result = page.call(listener, page.values(listener, **change))
    assert not result["success"]
    assert result["output"]["error"].startswith(message)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_cancelled_request(page: PageClient, capfd: pytest.CaptureFixture[str]) -> None:
    """Its work ends, the page is told, and the next one is served."""
    listener = page.listener("Run")
    event = page.join(listener, page.values(listener, Iterations=64)).json()["event_id"]
    call = {"fn_index": listener["id"], "session_hash": page.session, "event_id": event}
    assert page.client.post("/gradio_api/cancel", json=call).status_code == 200
    # Gradio's page then sends this, without a session.
    assert page.client.post("/gradio_api/reset", json={"event_id": event}).status_code == 200
    for body in ({}, {"event_id": 1}, [], "x"):
        assert page.client.post("/gradio_api/reset", json=body).status_code == 400
    assert page.call(listener, page.values(listener))["success"]
    assert "Traceback" not in "".join(capfd.readouterr())


def test_every_function_is_queued(page: PageClient) -> None:
    for listener in page.listeners:
        assert listener["queue"] or not listener["backend_fn"]
        assert listener["api_visibility"] == "private"


def wait_for_server(address: Address) -> None:
    """Return when the page is served, and so the server handles signals; fail after a minute."""
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(address.url, timeout=60).raise_for_status()
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_remains_after_a_signal(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl+C and SIGTERM, while a page is open and has uploaded a picture."""
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_MAX_EVENTS"):
        monkeypatch.setenv(name, "")  # restored afterwards
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with listening(Address("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    address = Address("127.0.0.1", port)
    seen: list[Path] = []
    modes: set[int] = set()

    def visit() -> None:
        try:
            wait_for_server(address)
            # The server hangs up.
            with (
                contextlib.suppress(httpx.HTTPError),
                httpx.Client(base_url=address.url, timeout=60) as client,
            ):
                page = PageClient(client)
                with client.stream("GET", f"/gradio_api/heartbeat/{page.session}"):
                    page.upload(photo())
                    seen.extend(tmp_path.rglob("*"))
                    modes.update(path.stat().st_mode & 0o777 for path in seen)
                    os.kill(os.getpid(), number)
                    time.sleep(1)
        finally:
            if not seen:
                os.kill(os.getpid(), number)

    actions, visitor = tiny_actions(), threading.Thread(target=visit)
    visitor.start()
    # SIGTERM ends the process; after Ctrl+C it is done with serving.
    expected = pytest.raises(SystemExit) if number == signal.SIGTERM else contextlib.nullcontext()
    with expected, private_folder() as folder:
        serve(actions, address, folder, auth=None, open_browser=False)
    visitor.join()
    assert [path for path in seen if path.name.endswith("photo.png")]
    assert modes == {0o700, 0o600}
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with listening(Address("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port={port} can't be used"):
            serve(
                tiny_actions(), Address("127.0.0.1", port), tmp_path, auth=None, open_browser=False
            )


def test_an_address_that_is_not_ours() -> None:
    with (
        pytest.raises(OSError, match=r"host=192\.0\.2\.1 port=7860 can't be used"),
        listening(Address("192.0.2.1", 7860)),
    ):
        pass
