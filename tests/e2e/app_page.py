"""The page of the web app in a real browser, and what people do on it."""

from __future__ import annotations

import contextlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bigr import BiGRPipeline
from tests.browser import browser, serving
from tests.models import tiny_autoencoder, tiny_generator

OVERRIDES = (
    "sampler.num_iterations=5",
    "sampler.num_denoise_steps=4",
    "sampler.guidance_scale=1.5",
    "sampler.order=confidence",
)
TIMEOUT = 180_000
BRUSH = np.array((255, 61, 113))


class RefusedError(Exception):
    """The app has answered with an error message."""


class App:
    """The page, and what happened on it."""

    def __init__(self, page: Any, address: str, folder: Path) -> None:
        self.page = page
        self.address = address
        self.folder = folder
        self.requests: list[str] = []
        self.refused: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("response", self._note)
        page.set_default_timeout(TIMEOUT)

    def _note(self, response: Any) -> None:
        if response.status >= 400:
            self.refused.append(f"{response.status} {response.request.method} {response.url}")

    def open(self, tab: str) -> Any:
        """A fresh page at ``tab``; gives the tab's panel."""
        self.page.goto(self.address)
        self.page.get_by_role("tab", name=tab).click()
        panel = self.page.get_by_role("tabpanel").filter(visible=True)
        panel.wait_for()
        return panel

    def run(self) -> list[str]:
        """Press Run and wait for the end: all messages that were to be read meanwhile.

        Raises:
            RefusedError: with the error message of the app.
        """
        self.page.evaluate(
            """() => {
                const read = () => [...document.querySelectorAll('[role=status]')]
                    .map((node) => node.innerText.trim()).join('');
                const before = read();
                window.messages = [];
                const note = () => {
                    const text = read();
                    if (text && text !== (window.messages.at(-1) ?? before))
                        window.messages.push(text);
                };
                window.observer?.disconnect();
                window.observer = new MutationObserver(note);
                window.observer.observe(
                    document.body, {subtree: true, childList: true, characterData: true});
            }"""
        )
        self.button("Run").click()
        is_finished = "() => /pictures? in|decoded/.test(window.messages.at(-1))"
        before = len(self.refused)
        assert eventually(
            lambda: (
                self.page.evaluate(is_finished)
                or self.toast.is_visible()
                or len(self.refused) > before
            )
        ), self.page.evaluate("window.messages")
        assert self.refused[before:] == []
        if self.toast.is_visible():
            text = self.toast.inner_text()
            self.page.get_by_test_id("toast-close").last.click()
            self.toast.wait_for(state="hidden")
            raise RefusedError(text)
        messages: list[str] = self.page.evaluate("window.messages")
        return messages

    def button(self, name: str) -> Any:
        """One of the buttons of the page, of which there is only one with this name."""
        return self.page.get_by_role("button", name=name, exact=True)

    def results(self) -> tuple[dict[str, Image.Image], dict[str, Any]]:
        """What "Download all" gives: pictures by name, and the settings."""
        with self.page.expect_download() as download:
            self.page.get_by_text("Download all").click()
        with zipfile.ZipFile(download.value.path()) as file:
            pictures = {
                name: Image.open(io.BytesIO(file.read(name)))
                for name in file.namelist()
                if not name.endswith(".json")
            }
            return pictures, json.loads(file.read("settings.json"))

    @property
    def toast(self) -> Any:
        """The error message on the page."""
        return self.page.get_by_test_id("toast-body").last


def tiny_model(folder: Path) -> Path:
    """Save a tiny model of ten classes, in the size of the digits, in ``folder``."""
    pipeline = BiGRPipeline(
        tiny_generator(num_classes=10),
        tiny_autoencoder(image_size=16, channel_multipliers=(1, 1, 1)),
        device="cpu",
    )
    return pipeline.save_pretrained(folder)


@contextlib.contextmanager
def app_of(model: str | Path, folder: Path, *overrides: str, **context: Any) -> Iterator[App]:
    """The app with a model, in a fresh browser.

    Args:
        model: value of ``pretrained``.
        folder: for its log and for downloads.
        overrides: further settings of the app.
        context: options of the browser's context, such as ``color_scheme``.
    """
    options = {"viewport": {"width": 1300, "height": 1000}, **context}
    with browser() as chromium, serving(folder, f"pretrained={model}", *overrides) as served:
        yield App(chromium.new_context(**options).new_page(), served.address, folder)


def choose(panel: Any, label: str, text: str) -> None:
    """Type into a menu's search and take what is found."""
    box = panel.get_by_label(label, exact=True)
    box.click()
    box.fill(text)
    options = panel.get_by_role("option").filter(visible=True)
    options.first.wait_for()
    box.press("Enter")
    box.blur()  # closes a list that has room for more, and would cover Run on a phone
    options.first.wait_for(state="hidden")


def enter(box: Any, text: str) -> None:
    """Type into a field; one that has just appeared may take its first value once more."""

    def has_text() -> bool:
        box.fill(text)
        box.press("Tab")
        return bool(box.input_value() == text)

    assert eventually(has_text)


def take_example(app: App, panel: Any) -> Any:
    """Put the first example, a bright digit on black, on the canvas; gives the canvas."""
    canvas = panel.locator(".canvas canvas").first
    canvas.scroll_into_view_if_needed()
    panel.locator(".examples button").first.click()
    canvas.scroll_into_view_if_needed()
    # The canvas is empty, and white, until the picture has been downloaded and drawn.
    assert eventually(lambda: (screenshot(canvas).max(axis=-1) < 50).mean() > 0.2)
    return canvas


def screenshot(locator: Any) -> np.ndarray:
    """The pixels of an element, (H, W, 3)."""
    return np.array(Image.open(io.BytesIO(locator.screenshot())).convert("RGB")).astype(int)


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` becomes true; it may look at screenshots."""
    deadline = time.monotonic() + TIMEOUT / 1000
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return holds


def painted_share(canvas: Any) -> float:
    """How much of the canvas has the colour of the brush."""
    return float((abs(screenshot(canvas) - BRUSH).max(axis=-1) < 10).mean())
