"""Damage to files, and processes that die: what the tests of this folder are made of."""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

from hypothesis import strategies as st

BLOCK = 64
"""Bytes of a block that is zeroed, swapped or inserted, at most."""


class Mutation(NamedTuple):
    """A way to damage bytes, and where: the same one does the same again."""

    kind: str
    position: float
    """Share of the length, in [0, 1)."""
    seed: int

    def __call__(self, data: bytes) -> bytes:
        """Return damaged ``data``; sometimes it is the same, as when equal blocks are swapped."""
        return KINDS[self.kind](data, int(self.position * len(data)), random.Random(self.seed))


def _flip(data: bytes, place: int, chance: random.Random) -> bytes:
    if not data:
        return data
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def _flip_several(data: bytes, place: int, chance: random.Random) -> bytes:
    for _ in range(chance.randrange(2, 65)):
        data = _flip(data, chance.randrange(len(data)), chance)
    return data


def _truncate(data: bytes, place: int, chance: random.Random) -> bytes:
    return data[:place]


def _insert(data: bytes, place: int, chance: random.Random) -> bytes:
    return data[:place] + chance.randbytes(chance.randrange(1, BLOCK)) + data[place:]


def _remove(data: bytes, place: int, chance: random.Random) -> bytes:
    return data[:place] + data[place + chance.randrange(1, BLOCK) :]


def _zero(data: bytes, place: int, chance: random.Random) -> bytes:
    end = min(place + chance.randrange(1, BLOCK), len(data))
    return data[:place] + bytes(end - place) + data[end:]


def _overwrite(data: bytes, place: int, chance: random.Random) -> bytes:
    end = min(place + chance.randrange(1, BLOCK), len(data))
    return data[:place] + chance.randbytes(end - place) + data[end:]


def _swap(data: bytes, place: int, chance: random.Random) -> bytes:
    size = chance.randrange(1, BLOCK)
    other = chance.randrange(max(len(data) - size, 1))
    first, second = sorted((min(place, max(len(data) - size, 0)), other))
    if second - first < size:
        return data
    parts = data[:first], data[first : first + size], data[first + size : second]
    return (
        b"".join((parts[0], data[second : second + size], parts[2], parts[1]))
        + (data[second + size :])
    )


def _append(data: bytes, place: int, chance: random.Random) -> bytes:
    return data + chance.randbytes(chance.randrange(1, BLOCK))


def _twice(data: bytes, place: int, chance: random.Random) -> bytes:
    return data + data


def _repeat_block(data: bytes, place: int, chance: random.Random) -> bytes:
    return data[:place] + data[place : place + BLOCK] + data[place:]


KINDS: dict[str, Callable[[bytes, int, random.Random], bytes]] = {
    "flip": _flip,
    "flip_several": _flip_several,
    "truncate": _truncate,
    "insert": _insert,
    "remove": _remove,
    "zero": _zero,
    "overwrite": _overwrite,
    "swap": _swap,
    "append": _append,
    "twice": _twice,
    "repeat_block": _repeat_block,
}


PLACES = (
    st.floats(0, 1, exclude_max=True) | st.floats(0, 0.05) | st.floats(0.95, 1, exclude_max=True)
)
MUTATIONS = st.builds(Mutation, st.sampled_from(sorted(KINDS)), PLACES, st.integers(0, 2**32 - 1))
"""Damage of every kind anywhere, more often near the ends, where headers are."""


WRITING = frozenset(
    (
        *("open", "write", "writelines", "writestr", "flush", "close", "truncate", "fsync"),
        *("replace", "rename", "unlink", "remove", "mkdir", "rmdir", "utime", "chmod", "link"),
        *("symlink", "write_record", "write_end_of_file", "serialize_file", "sendfile"),
        *("copy_file_range", "flock", "lockf"),
    )
)
"""Names of the C functions after or before which a file system may look different."""


def killed_at(moment: int, function: Callable[[], object], *, limit: float = 60.0) -> bool:
    """Run ``function`` in a forked child that dies just before its n-th operation on a file.

    The child dies as by SIGKILL: no ``finally``, no buffer that is written out.

    Args:
        moment: number of the operation, from 0.
        function: what the child runs; what it does to this process's memory is lost.
        limit: seconds after which the child is taken for hanging.

    Returns:
        Whether the child was killed; ``False`` if it had fewer operations and returned.

    Raises:
        AssertionError: if ``function`` raised an exception or hung.
    """
    return _dies(function, lambda: _kill_before(moment), limit)


def killed_at_size(size: int, function: Callable[[], object], *, limit: float = 60.0) -> bool:
    """Run ``function`` in a forked child that dies when a file is about to exceed ``size`` bytes.

    The first ``size`` bytes are on the disk then, in the middle of whatever was written. Otherwise
    as :func:`killed_at`.
    """

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return _dies(function, prepare, limit)


def _dies(function: Callable[[], object], prepare: Callable[[], None], limit: float) -> bool:
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, limit)
            prepare()
            function()
            status = 0
        except BaseException:
            sys.setprofile(None)
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code != -signal.SIGALRM, f"still running after {limit} s"
    assert code in (0, -signal.SIGKILL, -signal.SIGXFSZ), f"it failed with {code}: see its output"
    return code != 0


def operations(function: Callable[[], object]) -> int:
    """Return how many operations on files ``function`` has; it runs in a forked child."""
    reader, writer = os.pipe()

    def counted() -> None:
        number = 0

        def count() -> None:
            nonlocal number
            number += 1

        _before_each_operation(count)
        function()
        sys.setprofile(None)
        os.write(writer, str(number).encode())

    assert not _dies(counted, lambda: None, 60.0)
    os.close(writer)
    with os.fdopen(reader) as file:
        return int(file.read())


def spread(count: int, total: int) -> list[int]:
    """Return at most ``count`` numbers below ``total``, evenly spread."""
    return sorted({index * total // count for index in range(count)})


def _kill_before(moment: int) -> None:
    left = moment

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    _before_each_operation(count)


def _before_each_operation(call: Callable[[], None]) -> None:
    def profile(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and getattr(function, "__name__", "") in WRITING:
            call()

    threading.setprofile(profile)
    sys.setprofile(profile)
