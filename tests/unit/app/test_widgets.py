"""Values of the sliders, and mistakes as messages on the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bigr.app.actions import Knobs

gr = pytest.importorskip("gradio")


def test_knobs() -> None:
    from bigr.app.widgets import KnobSliders

    assert KnobSliders.read((2, 3, 0.5, 7)) == Knobs(2.0, 3, 0.5, 7)


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
