"""Seeds that are derived from several numbers and words."""

from __future__ import annotations

import hashlib


def mixed_seed(*words: int | str) -> int:
    """Derive a seed between 0 and 2^63 - 1, the same in every process and version of Python.

    Python's ``hash`` is not suitable: it depends on the process, and -1 and -2 have the same hash.
    """
    digest = hashlib.sha256(repr(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
