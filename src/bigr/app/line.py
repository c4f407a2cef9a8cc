"""The line in which the requests wait for the model, first come, first served.

Gradio has a queue of its own, but a request that waits there does not learn its place, and the
server cannot stop it. Here, each waiting request is a generator that checks its place from time to
time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Line:
    """Requests in the order in which they arrived. The first one uses the model."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._has_moved = threading.Condition()

    @contextlib.contextmanager
    def join(self) -> Iterator[Place]:
        """Yield the last place of the line, and leave it afterwards."""
        place = Place(self._places, self._has_moved)
        with self._has_moved:
            self._places.append(place)
        try:
            yield place
        finally:
            with self._has_moved:
                self._places.remove(place)
                self._has_moved.notify_all()


class Place:
    """A place in a line."""

    def __init__(self, places: list[Place], has_moved: threading.Condition) -> None:
        self._places = places
        self._has_moved = has_moved

    def ahead(self, seconds: float = 0.0) -> int:
        """Return the number of requests ahead of this one.

        Args:
            seconds: longest time to wait until there is none.
        """
        with self._has_moved:
            self._has_moved.wait_for(lambda: self._places[0] is self, seconds)
            return self._places.index(self)
