"""The web app in a real browser: what people click, and what they upload.

With ``BIGR_SCREENSHOTS=docs/images BIGR_DEMO=outputs/demo`` the pictures of the documentation are
made on the way.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bigr import BiGRPipeline, SamplerConfig
from bigr.data.digits import load_digits
from bigr.data.image_arrays import to_pil
from tests.browser import browser, serving
from tests.models import tiny_autoencoder, tiny_generator

pytestmark = pytest.mark.slow

SAMPLER = SamplerConfig(
    guidance_scale=1.5, num_iterations=5, num_denoise_steps=4, mask_schedule="linear",
    gumbel_temperature=0.3,
)  # fmt: skip
OVERRIDES = (
    "sampler.num_iterations=5",
    "sampler.num_denoise_steps=4",
    "sampler.guidance_scale=1.5",
    "sampler.order=confidence",
)
TIMEOUT = 20_000


class App:
    """The page, and what happened on it."""

    def __init__(self, page: Any, address: str, folder: Path) -> None:
        self.page = page
        self.address = address
        self.folder = folder
        self.requests: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.set_default_timeout(TIMEOUT)

    def open(self, tab: str) -> Any:
        """A fresh page at ``tab``; gives the tab's panel."""
        self.page.goto(self.address)
        self.page.get_by_role("tab", name=tab).click()
        panel = self.page.get_by_role("tabpanel").filter(visible=True)
        panel.wait_for()
        return panel

    def run(self, panel: Any, button: str) -> list[str]:
        """Press ``button`` and wait for the end: all messages that were to be read meanwhile."""
        self.page.evaluate(
            """() => {
                window.messages = [];
                const note = () => document.querySelectorAll('.status').forEach((node) => {
                    const text = node.innerText.trim();
                    if (text && window.messages.at(-1) !== text) window.messages.push(text);
                });
                new MutationObserver(note).observe(
                    document.body, {subtree: true, childList: true, characterData: true});
            }"""
        )
        panel.get_by_role("button", name=button, exact=True).click()
        panel.get_by_text(re.compile(r"pictures? in")).wait_for()
        messages: list[str] = self.page.evaluate("window.messages")
        return messages

    def results(self, panel: Any) -> tuple[dict[str, Image.Image], dict[str, Any]]:
        """What "Download all" gives: pictures by name, and the settings."""
        with self.page.expect_download() as download:
            panel.get_by_text("Download all").click()
        with zipfile.ZipFile(download.value.path()) as file:
            pictures = {
                name: Image.open(io.BytesIO(file.read(name)))
                for name in file.namelist()
                if not name.endswith(".json")
            }
            return pictures, json.loads(file.read("settings.json"))

    def picture(self, name: str) -> None:
        """A screenshot, where they are wanted."""
        if "BIGR_SCREENSHOTS" in os.environ:
            self.page.wait_for_timeout(1500)
            target = Path(os.environ["BIGR_SCREENSHOTS"]) / f"{name}.png"
            shot = Image.open(io.BytesIO(self.page.screenshot()))
            shot.convert("RGB").quantize(128).save(target, optimize=True)

    @property
    def toast(self) -> Any:
        """The error message on the page."""
        return self.page.get_by_test_id("toast-body").last


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of ten classes in the size of the digits; or the demo's, for pictures."""
    if "BIGR_DEMO" in os.environ:
        return Path(os.environ["BIGR_DEMO"]).absolute()
    folder = tmp_path_factory.mktemp("pretrained")
    pipeline = BiGRPipeline(
        tiny_generator(num_classes=10),
        tiny_autoencoder(image_size=16, channel_multipliers=(1, 1, 1)),
        device="cpu",
    )
    return pipeline.save_pretrained(folder)


@pytest.fixture(scope="module")
def app(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("app")
    overrides = () if "BIGR_DEMO" in os.environ else OVERRIDES
    with browser() as chromium, serving(folder, f"pretrained={pretrained}", *overrides) as served:
        context = chromium.new_context(viewport={"width": 1300, "height": 1000})
        yield App(context.new_page(), served[0], folder)


def choose(panel: Any, label: str, text: str) -> None:
    """Type into a menu's search and take what is found."""
    box = panel.get_by_label(label, exact=True)
    box.click()
    box.fill(text)
    box.press("Enter")


def digit(label: int) -> Image.Image:
    """The held-out digit that the app has as an example."""
    digits = load_digits("test", 16)
    return to_pil(digits.images[(digits.labels == label).nonzero()[0, 0]])


def brush(app: App, panel: Any, start: float = 0.25, strokes: int = 1) -> None:
    """Paint a stroke from top to bottom at ``start`` of the canvas's width, or several."""
    canvas = panel.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    mouse = app.page.mouse
    top, bottom = box["y"] + 0.1 * box["height"], box["y"] + 0.9 * box["height"]
    mouse.move(box["x"] + start * box["width"], top)
    mouse.down()
    for share in (start, start + 0.1, start + 0.2)[:strokes]:
        mouse.move(box["x"] + share * box["width"], top, steps=8)
        mouse.move(box["x"] + share * box["width"], bottom, steps=12)
    mouse.up()


def test_generate(app: App, pretrained: Path) -> None:
    panel = app.open("Generate")
    choose(panel, "Classes", "8")
    messages = app.run(panel, "Generate")
    app.picture("app_generate")
    pictures, settings = app.results(panel)
    iterations = [text for text in messages if text.startswith("iteration")]
    total = settings["sampler"]["num_iterations"]
    # A frame per iteration; a fast one may follow before the browser has shown the last.
    assert f"iteration {total} of {total}" in iterations
    assert len(iterations) > total // 2
    assert settings["classes"] == [0, 8]
    assert len([name for name in pictures if name.startswith("generate")]) == 8
    assert total // 2 < pictures["unmasking.gif"].n_frames <= total  # equal ones are joined
    sampler = SamplerConfig(**settings["sampler"])
    pipeline = BiGRPipeline.from_pretrained(pretrained, device="cpu")
    expected = pipeline.generate([0, 8], num_per_class=4, seed=0, sampler=sampler)
    for index, picture in enumerate(expected):
        shown = pictures[f"generate_{index:02d}.png"]
        assert np.array_equal(np.array(shown), np.array(picture)), index


def test_paint_and_inpaint(app: App) -> None:
    panel = app.open("Edit")
    panel.locator(".examples button").first.click()
    panel.get_by_label("Brush", exact=True).wait_for()
    app.page.wait_for_timeout(1000)
    brush(app, panel)
    app.run(panel, "Repaint")
    pictures, settings = app.results(panel)
    assert settings["application"] == "inpaint"
    before = np.array(digit(3))
    for index in range(4):
        after = np.array(pictures[f"inpaint_{index:02d}.png"])
        is_changed = (after != before).any(axis=-1)
        assert not is_changed[:, 8:].any()  # painted on the left only
        assert is_changed[:, :8].sum() > 10


def test_edit_into_a_class(app: App) -> None:
    panel = app.open("Edit")
    panel.locator(".examples button").first.click()
    app.page.wait_for_timeout(1000)
    app.page.set_viewport_size({"width": 1300, "height": 1200})
    brush(app, panel, start=0.2, strokes=3 if "BIGR_SCREENSHOTS" in os.environ else 1)
    choose(panel, "Class to paint", "8")
    app.run(panel, "Repaint")
    app.page.evaluate("window.scrollTo(0, 0)")
    app.picture("app_edit")
    _, settings = app.results(panel)
    assert settings["application"] == "edit"
    assert settings["class"] == 8


def test_outpaint_keeps_what_was_painted(app: App) -> None:
    panel = app.open("Edit")
    panel.locator(".examples button").first.click()
    app.page.wait_for_timeout(1000)
    brush(app, panel)
    panel.get_by_text("keep it").click()
    app.run(panel, "Repaint")
    pictures, _ = app.results(panel)
    is_changed = (np.array(pictures["outpaint_00.png"]) != np.array(digit(3))).any(axis=-1)
    assert is_changed[:, 8:].mean() > 0.3
    assert not is_changed[6:10, 3].any()


def test_interpolate_and_enrich(app: App) -> None:
    panel = app.open("Interpolate")
    app.run(panel, "Interpolate")
    app.picture("app_interpolate")
    pictures, settings = app.results(panel)
    assert pictures["interpolation.gif"].n_frames == 16  # type: ignore[attr-defined]
    assert (settings["first"], settings["second"]) == (0, 9)
    panel = app.open("Enrich")
    panel.locator(".examples button").nth(1).click()
    app.page.wait_for_timeout(1000)
    app.run(panel, "Enrich")
    pictures, _ = app.results(panel)
    assert pictures["enrich_00.png"].size == (16, 16)


def test_what_is_missing(app: App) -> None:
    panel = app.open("Edit")
    panel.get_by_role("button", name="Repaint", exact=True).click()
    app.toast.get_by_text("Give a picture first").wait_for()
    panel.locator(".examples button").first.click()
    app.page.wait_for_timeout(1000)
    panel.get_by_role("button", name="Repaint", exact=True).click()
    app.toast.get_by_text("Paint over the part to repaint").wait_for()


def bad_uploads() -> dict[str, tuple[bytes, str]]:
    """Files that nobody should send, and what is said of them."""

    def encoded(picture: Image.Image, kind: str, **more: Any) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, kind, **more)
        return buffer.getvalue()

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    jpeg, png = encoded(noise, "JPEG"), encoded(noise, "PNG")
    header = (60_000).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    chunk = b"IHDR" + header
    bomb = png[:8] + len(header).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    bomb += png[33:]
    broken = bytearray(png)
    broken[60] ^= 0xFF
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><script/></svg>'
    frames = [noise, noise.rotate(90)]
    return {
        "text.png": (b"no picture at all\n" * 100, "not a complete picture"),
        "empty.png": (b"", "not a complete picture"),
        "large.png": (encoded(Image.new("L", (10_000, 10_000)), "PNG"), "100 megapixels"),
        "bomb.png": (bomb, "3600 megapixels"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "not a complete picture"),
        "drawing.svg": (svg, "not a complete picture"),
        "animated.gif": (
            encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
            "animated",
        ),
        "broken.png": (bytes(broken), "not a complete picture"),
        "narrow.png": (encoded(Image.new("RGB", (4000, 1)), "PNG"), "too narrow"),
        "paper.pdf": (
            b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n",
            "not a complete picture",
        ),
        "heavy.bmp": (
            encoded(Image.new("RGB", (2800, 2600)), "BMP"),
            "exceed the maximum allowed size",
        ),
    }


def test_bad_uploads(app: App) -> None:
    """Each gets a message, what was there stays, and the next good one is taken."""
    panel = app.open("Reconstruct")
    for name, (content, message) in bad_uploads().items():
        path = app.folder / name
        path.write_bytes(content)
        app.page.reload()
        panel = app.open("Reconstruct")
        panel.locator("input[type=file]").first.set_input_files(path)
        app.page.get_by_text(re.compile(message)).first.wait_for()
        app.picture("app_refused") if name == "large.png" else None
    good = app.folder / "good.png"
    digit(3).save(good)
    panel = app.open("Reconstruct")
    panel.locator("input[type=file]").first.set_input_files(good)
    panel.locator("img[src*='/file=']").nth(6).wait_for()  # five examples, the square, its image
    log = (app.folder / "demo.log").read_text()
    assert "bigr/demo" not in log  # no traceback through what is ours


def test_nothing_is_asked_of_other_machines(app: App) -> None:
    """After everything above: fonts, scripts, counters."""
    app.open("Generate")
    others = [url for url in app.requests if not url.startswith((app.address, "data:", "blob:"))]
    assert app.requests
    assert others == []
