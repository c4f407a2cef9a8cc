"""Values of the sliders, and mistakes as messages on the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bigr.app.limits import Knobs
from bigr.pipeline.picture_settings import PictureSettings
from tests.web_app import SAMPLER, tiny_actions

gr = pytest.importorskip("gradio")


def test_knobs() -> None:
    """The preset has what the sliders don't: one of the app's, or that of a file."""
    from bigr.app.widgets import FILE_PRESET, KnobSliders

    actions = tiny_actions()
    with gr.Blocks(analytics_enabled=False):
        knobs = KnobSliders(actions)
    assert knobs.read((2, 3, 0.5, 7, "model", None)) == Knobs(2.0, 3, 0.5, 7, SAMPLER)
    digits = actions.presets["digits"]
    assert knobs.read((2, 3, 0.5, 7, "digits", SAMPLER)).base == digits
    for name in ("nothing", FILE_PRESET, None, ["model"]):
        with pytest.raises(ValueError, match="Preset can be model, best, fast, draft, demo, "):
            knobs.read((2, 3, 0.5, 7, name, None))
    settings = PictureSettings(
        application="generate", arguments={}, seed=9, sampler=digits.to_dict(), execution={},
        models={},
    )  # fmt: skip
    guidance, iterations, gumbel, seed, menu, restored = knobs.restore(settings)
    assert knobs.read((guidance, iterations, gumbel, seed, menu.value, restored)) == Knobs(
        1.5, 16, 0.3, 9, digits
    )


def test_mistakes_become_messages() -> None:
    """Of functions and of generators, which keep what they gave before; other errors stay."""
    from bigr.app.widgets import with_messages

    def call(value: int) -> int:
        if value < 0:
            raise ValueError("Knobs.value is too small.")
        return 10 // value

    def steps(value: int) -> Iterator[int]:
        yield 1
        yield call(value)

    assert with_messages(call)(5) == 2
    with pytest.raises(gr.Error, match=r"^.?Value is too small\."):
        with_messages(call)(-1)
    with pytest.raises(ZeroDivisionError):
        with_messages(call)(0)
    assert list(with_messages(steps)(5)) == [1, 2]
    given = with_messages(steps)(-1)
    assert next(given) == 1
    with pytest.raises(gr.Error, match=r"^.?Value is too small\."):
        next(given)
