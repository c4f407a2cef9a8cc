"""Seeds that belong together without being alike."""

from __future__ import annotations

import hashlib


def mixed_seed(*words: int | str) -> int:
    """A seed in 0..2^63-1 from several numbers and words, the same in every process and version.

    (Python's ``hash`` isn't that: it gives -1 and -2 the same value.)
    """
    digest = hashlib.sha256(repr(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
