"""The words of a command line, quoted so that a shell and Hydra read them as they are meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

PLAIN = re.compile(r"[A-Za-z0-9_./-]+( [A-Za-z0-9_./-]+)*")
"""Values that Hydra reads as they are; it does not know accented letters, for example."""
MODULE = ["python", "-m"]


def command_line(*words: str) -> str:
    """Return a command of this package as it can be pasted into a shell."""
    return " ".join([*MODULE, *map(_shell_word, words)])


def override(key: str, value: str | Path) -> str:
    """Return an override whose value Hydra reads as it is."""
    text = str(value)
    if PLAIN.fullmatch(text):
        return f"{key}={text}"
    escaped = text.replace("'", "\\'")
    return f"{key}='{escaped}'"


def quote_paths(words: Iterable[str]) -> list[str]:
    """Quote the values that are existing paths which Hydra could not read.

    Folders may have names such as ``Käfer (1)`` or begin with ``~``. Hydra would ask for a second
    pair of quotes around them, besides those of the shell.
    """
    quoted = []
    for word in words:
        key, _, value = word.partition("=")
        is_path = value and not PLAIN.fullmatch(value) and _exists(value)
        quoted.append(override(key, value) if is_path else word)
    return quoted


def _exists(path: str) -> bool:
    """Return whether a path exists; text that cannot be a path does not."""
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError):  # too long, or the home of an unknown user
        return False


def _shell_word(word: str) -> str:
    """Return ``word`` for a shell, in double quotes if it contains single ones."""
    if "'" in word and not set(word) & set('"$`\\!'):
        return f'"{word}"'
    return shlex.quote(word)
