"""Values of the sliders, and mistakes as messages on the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bigr.app.actions import Knobs

gr = pytest.importorskip("gradio")


def test_knobs() -> None:
    from bigr.app.widgets import MAX_SEED, KnobSliders

    assert KnobSliders.read((2, 3.0, 0.5, 7.0)) == Knobs(2.0, 3, 0.5, 7)
    for seed in (None, -1, MAX_SEED + 1):
        with pytest.raises(ValueError, match=r"The seed is a number in 0\.\."):
            KnobSliders.read((2, 3, 0.5, seed))


def test_mistakes_become_messages() -> None:
    """Of functions and of generators, which keep what they gave before; other errors stay."""
    from bigr.app.widgets import with_messages

    def call(value: int) -> int:
        if value < 0:
            raise ValueError("too small.")
        return 10 // value

    def steps(value: int) -> Iterator[int]:
        yield 1
        yield call(value)

    assert with_messages(call)(5) == 2
    with pytest.raises(gr.Error, match=r"Too small\."):
        with_messages(call)(-1)
    with pytest.raises(ZeroDivisionError):
        with_messages(call)(0)
    assert list(with_messages(steps)(5)) == [1, 2]
    given = with_messages(steps)(-1)
    assert next(given) == 1
    with pytest.raises(gr.Error, match=r"Too small\."):
        next(given)
