"""The layouts of the web app: three widths, in the light and in the dark theme.

In each of them, all tabs and states of the page are opened. axe looks for accessibility problems,
and nothing may be cut off. With ``BIGR_SCREENSHOTS=docs/images``, only the pictures of the
documentation are made, with the installed model of digits.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from tests.e2e.app_page import (
    OVERRIDES,
    App,
    app_of,
    choose,
    enter,
    eventually,
    painted_share,
    tiny_model,
)

pytestmark = [pytest.mark.slow, pytest.mark.flaky(reruns=2)]

WIDTHS = {390: 844, 1280: 900, 1920: 1080}
"""Width and height of a phone, of a laptop and of a large screen, in pixels."""
TABS = ("Generate", "Edit", "Interpolate", "Reproduce")
PICTURES = os.environ.get("BIGR_SCREENSHOTS")
MAX_HEIGHT = 2000
CUT_OFF = """() => {
    const box = document.documentElement, found = [];
    if (box.scrollWidth > box.clientWidth) found.push(`page: ${box.scrollWidth} px wide`);
    for (const node of document.querySelectorAll(".gradio-container *")) {
        const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
        if (!own && node.tagName !== "IMG") continue;
        if (!node.checkVisibility() || !node.clientWidth) continue;
        const {left, right, top, bottom} = node.getBoundingClientRect();
        const name = `${node.tagName}.${node.classList[0]} ${node.innerText || node.alt}`;
        const style = getComputedStyle(node);
        if (node.scrollWidth > node.clientWidth + 1 && style.overflowX !== "visible")
            found.push(`${name}: text`);
        for (let outer = node; outer; outer = outer.parentElement) {
            const edge = outer.getBoundingClientRect();
            const {overflowX, overflowY} = getComputedStyle(outer);
            if (overflowX !== "visible" && (left < edge.left - 1 || right > edge.right + 1) ||
                overflowY !== "visible" && (top < edge.top - 1 || bottom > edge.bottom + 1))
                found.push(`${name}: by ${outer.tagName}.${outer.className}`);
            if (style.position === "fixed") break;
        }
    }
    return found;
}"""
"""Texts and images that do not fit where they are, and the page if it has to be moved sideways."""
SETTLED = """async () => {
    const isShort = (one) => one.effect.getComputedTiming().endTime < 3000;
    const moving = document.getAnimations().filter(isShort);
    await Promise.all(moving.map((one) => one.finished.catch(() => 0)));
    const images = [...document.images].filter((one) => one.checkVisibility());
    await Promise.all(images.map((one) => one.decode().catch(() => 0)));
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""
"""Wait for the animations that end soon, and for the images."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("app")
    model, overrides = ("digits", ()) if PICTURES else (tiny_model(folder / "model"), OVERRIDES)
    with app_of(model, folder, *overrides, reduced_motion="reduce") as app:
        yield app


def problems(page: Any) -> list[str]:
    """What axe finds, if it is serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['target']} {node['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def lasting(find: Callable[[], list[str]]) -> list[str]:
    """What is found three times in two seconds: a message that fades in is too pale at first."""
    for seconds in (0, 1, 1):
        time.sleep(seconds)
        if not (found := find()):
            break
    return found


class Layout:
    """The page at one width, in one theme."""

    def __init__(self, app: App, width: int, theme: str) -> None:
        self.app, self.page, self.width, self.theme = app, app.page, width, theme
        self.page.emulate_media(color_scheme=theme)
        self.page.set_viewport_size({"width": width, "height": WIDTHS[width]})

    def check(self, state: str, *, is_still: bool = True) -> None:
        """Look for faults in a state of the page."""
        self.page.evaluate(SETTLED)
        if is_still:
            assert lasting(lambda: self.page.evaluate(CUT_OFF)) == [], state
        if self.width < 1920:
            assert lasting(lambda: problems(self.page)) == [], state

    def picture(self) -> None:
        """Take the picture of this layout for the documentation."""
        self.page.evaluate(SETTLED)
        self.page.evaluate("window.scrollTo(0, 0)")
        shot = Image.open(io.BytesIO(self.page.screenshot(full_page=True)))
        shot = shot.crop((0, 0, shot.width, min(shot.height, MAX_HEIGHT))).convert("RGB")
        target = Path(str(PICTURES)) / f"app_{self.width}_{self.theme}.png"
        shot.quantize(256).save(target, optimize=True)


@pytest.mark.skipif(PICTURES is not None, reason="only pictures are wanted")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_layout(app: App, width: int, theme: str) -> None:
    layout, page = Layout(app, width, theme), app.page
    # 1. All controls.
    app.open("Generate")
    layout.check("start")
    page.get_by_role("button", name="Sampler").click()
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        page.get_by_role("tabpanel").filter(visible=True).wait_for()
        for name in ("Paint a rectangle, in tokens", "How a picture is edited"):
            page.get_by_role("button", name=name).click() if tab == "Edit" else None
        layout.check(f"{tab}, with everything open")
    page.get_by_role("button", name="Sampler").click()
    # 2. A message.
    app.button("Run").click()
    app.toast.get_by_text("Add a file first").wait_for()
    layout.check("message")
    # 3. While pictures are made, and when this was stopped.
    panel = app.open("Generate")
    page.get_by_role("button", name="Sampler").click()
    enter(page.get_by_label("number input for Iterations"), "64")
    enter(panel.get_by_label("number input for Pictures of each class"), "16")
    page.get_by_role("button", name="Sampler").click()
    app.button("Run").click()
    page.locator(".frame img").wait_for()
    layout.check("running", is_still=False)
    app.button("Stop").click()
    page.get_by_role("status").get_by_text("stopped").wait_for()
    layout.check("stopped")
    # 4. Results, one of them enlarged.
    panel = app.open("Generate")
    choose(panel, "Classes", "8")
    app.run()
    layout.check("results")
    page.locator(".results button").nth(1).click()
    page.locator(".results .preview").wait_for()
    layout.check("enlarged")
    # 5. An animation.
    page.get_by_role("tab", name="Interpolate").click()
    app.run()
    layout.check("animation")
    # 6. A result is edited.
    edit(app)
    layout.check("edited")


def edit(app: App) -> None:
    """Repaint the middle of the first result."""
    app.button("Send picture 1 to Edit").click()
    panel = app.page.get_by_role("tabpanel").filter(has=app.page.locator(".canvas canvas"))
    panel.wait_for()
    panel.get_by_role("button", name="Paint a rectangle, in tokens").click()
    for label, tokens in (("Left", 1), ("Top", 1), ("Width", 2), ("Height", 2)):
        enter(panel.get_by_label(label, exact=True), str(tokens))
    panel.get_by_role("button", name="Paint the rectangle").click()
    canvas = panel.locator(".canvas canvas").first
    assert eventually(lambda: painted_share(canvas) > 0.02)
    app.run()
    app.page.locator(".comparison img").first.wait_for()


@pytest.mark.skipif(PICTURES is None, reason="no pictures are wanted: BIGR_SCREENSHOTS is not set")
def test_pictures(app: App) -> None:
    """Each layout once, in four states of the page."""
    panel = app.open("Generate")
    choose(panel, "Classes", "8")
    app.run()
    Layout(app, 390, "light").picture()
    Layout(app, 1280, "dark").picture()
    running = Layout(app, 1920, "dark")
    app.page.get_by_role("tab", name="Interpolate").click()
    app.button("Run").click()
    app.page.locator(".frame img").wait_for()
    running.picture()
    app.page.get_by_role("status").get_by_text("9 pictures in").wait_for()
    Layout(app, 1920, "light").picture()
    edited = Layout(app, 1280, "light")
    edit(app)
    edited.picture()
    Layout(app, 390, "dark").picture()


def test_what_is_wrong_is_found(app: App) -> None:
    """The checks find each of these changes, and nothing before them."""
    app.page.emulate_media(color_scheme="light")
    app.page.set_viewport_size({"width": 390, "height": 844})
    app.open("Generate")
    app.run()
    app.page.evaluate(SETTLED)
    assert problems(app.page) == []
    assert app.page.evaluate(CUT_OFF) == []
    seed = app.page.get_by_label("Seed", exact=True)
    seed.evaluate("node => node.removeAttribute('aria-label')")
    seed.evaluate("node => node.closest('label').after(node)")
    app.page.locator(".status [role=status]").evaluate("node => {node.style.color = '#aaa'}")
    found = problems(app.page)
    assert len(found) == 2, found
    assert {one.split(":")[0] for one in found} == {"label", "color-contrast"}
    caption = app.page.locator(".inside .caption-label").first
    caption.evaluate("node => node.style.setProperty('white-space', 'nowrap', 'important')")
    assert len(app.page.evaluate(CUT_OFF)) == 1
    app.page.locator(".results").evaluate("node => {node.style.maxHeight = '100px'}")
    assert len(app.page.evaluate(CUT_OFF)) > 3
    app.page.evaluate("document.body.style.width = '500px'")
    assert any(one.startswith("page: ") for one in app.page.evaluate(CUT_OFF))
