"""The words of a command line, quoted so that a shell and Hydra read them as they are meant."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

import yaml

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


def with_preset_files(words: Iterable[str]) -> list[str]:
    """Replace ``sampler=FILE.yaml`` by the settings in that file.

    Raises:
        ValueError: if there is no such file, or it contains no settings.
    """
    found: list[str] = []
    for word in words:
        key, _, value = word.partition("=")
        if key != "sampler" or not value.endswith(".yaml"):
            found.append(word)
            continue
        try:
            settings = yaml.safe_load(Path(value).expanduser().read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ValueError(f"sampler={value} cannot be read: {error}") from error
        if not isinstance(settings, dict):
            raise ValueError(f"sampler={value} contains no settings: give a preset of a search.")
        found.append("sampler=model")
        found += [f"sampler.{name}={json.dumps(setting)}" for name, setting in settings.items()]
    return found


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
