"""Mistakes of the user, explained in one sentence: the key, the problem, and the fix."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.errors import InstantiationException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bigr.cli.configuration import config_dir
from bigr.cli.validation import install_advice
from bigr.schema import did_you_mean

RENAMED = {
    "code": "autoencoder",
    "resolution=digits": "resolution=16",
    "data=imagenet": "data=images",
    "data=imagenet_codes": "data=codes",
    "sampler=default": "sampler=paper_l",
    "sampler.precision": "execution.precision",
    "sampler.execution": "execution.mode",
    "evaluate task=autoencoder": "evaluation=reconstruction",
    "evaluate task=generator": "evaluation=imagenet",
    "evaluate application=inpaint": "evaluation=edits",
}
"""The new names of groups, options and keys, which are only used in messages."""


class UserError(Exception):
    """Ends a command with its message instead of a traceback."""


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors into :class:`UserError`; to be used around everything before the real work."""
    try:
        yield
    except InstantiationException as error:
        cause = error.__cause__
        if not isinstance(cause, ValueError | TypeError | OSError | ImportError):
            raise
        advice = install_advice(cause) if isinstance(cause, ImportError) else ""
        key = re.search(r"full_key: (\S+)", str(error))
        prefix = f"{key[1]}: " if key and not str(cause).startswith(key[1]) else ""
        raise UserError(f"{prefix}{cause}{advice}") from error
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        problem = str(error).splitlines()[0]
        raise UserError(f"{key or 'the configuration'}: {problem}.") from error
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error


def explain(error: Exception, name: str, overrides: Sequence[str]) -> str:
    """Return one sentence that names the key and the fix.

    Args:
        error: what Hydra, OmegaConf or this package raised.
        name: the entry point.
        overrides: the words of the command line.
    """
    text = str(error)
    if isinstance(error, OverrideParseException):
        return (
            f"cannot read {error.override!r}: overrides are key=value. Close all brackets, and put "
            "values with accented letters or other special characters into quotes of their own, as "
            "in 'key=\"Blüte\"' or 'key=[\"Blüte\",roof]'."
        )
    if text.startswith("Config group override must be"):
        return _no_option_name(overrides)
    option = re.search(r"Could not find '([\w@/]+)/([^'/]+)'", text)
    if option:
        known = getattr(error, "options", None)
        return _no_such_option(option[1].split("@")[0], option[2], known)
    key = re.search(r"Could not override '([^']+)'", text)
    if key:
        return _no_such_key(error.__cause__, key[1].split("@")[0], name, overrides)
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _no_option_name(overrides: Sequence[str]) -> str:
    """Return the sentence about a group that is given null, a mapping or a fraction."""
    groups = {path.name for path in config_dir().iterdir() if path.is_dir()}
    pairs = [word.partition("=") for word in overrides]
    values = {group: value for group, _, value in pairs if group in groups}
    is_name = re.compile(r"(?!null$)[\w'/]+|\[.*\]")
    group = next((g for g, value in values.items() if not is_name.fullmatch(value)), "a group")
    options = ", ".join(sorted(file.stem for file in (config_dir() / group).glob("*.yaml")))
    return f"{group}={values.get(group)}: {group} can be {options}, or [] for none."


def _no_such_option(group: str, option: str, known: Sequence[str] | None) -> str:
    new = RENAMED.get(f"{group}={option}")
    if new:
        return f"{group}={option} has been renamed: use {new}."
    folder = config_dir() / group
    options = sorted(known or (file.stem for file in folder.glob("*.yaml")))
    return (
        f"{group}={option}: there is no such option.{did_you_mean(option, options)} "
        f"{group} can be {', '.join(options)}."
    )


def _no_such_key(cause: BaseException | None, key: str, name: str, overrides: Sequence[str]) -> str:
    # 1. An old name, alone or with its value.
    words = [word.lstrip("+~") for word in overrides if word.lstrip("+~").startswith(key)]
    for old in (*(f"{name} {word}" for word in words), *words, key):
        if old in RENAMED:
            return f"{old.split()[-1]} has been renamed: use {RENAMED[old]}."
    for old, new in RENAMED.items():
        if key.startswith(f"{old}."):
            return f"{old} has been renamed: use {new}{key.removeprefix(old)}."
    if (name, key) == ("train", "pretrained"):
        return (
            "pretrained: there is no such key. To start from a trained model, set task.init_from=… "
            "and task.autoencoder=…, for example both to digits."
        )
    # 2. A key or group that resembles it.
    known: list[str] = []
    if isinstance(cause, OmegaConfBaseException) and isinstance(cause.parent_node, DictConfig):
        parent = OmegaConf.to_container(cause.parent_node, resolve=False)
        place = str(cause.full_key).rpartition(".")[0]
        known += _keys(parent, place and f"{place}.")
    if "." not in key:
        known += [path.name for path in config_dir().iterdir() if path.is_dir()]
    known = [w for w in dict.fromkeys(known) if w != key and not w.startswith("hydra.")]
    new = f" Add a new key with +{key}=…." if "." in key else ""
    return (
        f"{key}: there is no such key.{did_you_mean(key, known)} "
        f"All keys: python -m bigr.{name} --cfg job.{new}"
    )


def _keys(container: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of every value and mapping."""
    if isinstance(container, dict):
        for name, value in container.items():
            yield f"{prefix}{name}"
            yield from _keys(value, f"{prefix}{name}.")
