"""The line in which requests wait for the model."""

from __future__ import annotations

import threading

from bigr.app.line import Line


def test_first_come_first_served() -> None:
    line = Line()
    with line.join() as first:
        with line.join() as second, line.join() as third:
            assert [one.ahead() for one in (first, second, third)] == [0, 1, 2]
        with line.join() as fourth:
            assert fourth.ahead(0.01) == 1


def test_who_waits_is_told_at_once() -> None:
    """When the one before leaves, long before the time is over."""
    line, is_here = Line(), threading.Event()
    ahead: list[int] = []

    def wait() -> None:
        with line.join() as place:
            is_here.set()
            ahead.append(place.ahead(60))

    waiting = threading.Thread(target=wait)
    with line.join():
        waiting.start()
        assert is_here.wait(60)
    waiting.join(30)
    assert ahead == [0]


def test_those_who_fail_leave_the_line() -> None:
    line = Line()
    try:
        with line.join():
            raise KeyError
    except KeyError:
        pass
    with line.join() as place:
        assert place.ahead() == 0
