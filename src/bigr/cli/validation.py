"""Validation of a composed configuration, before anything is built.

The signature of each ``_target_`` is the schema of its node; the values at the top level are
declared by the class ``Settings`` of each entry point. No class is known here by name.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import pydoc
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bigr.cli.configuration import ConfigError, resolved
from bigr.cli.launching import check_trainer
from bigr.schema import check_arguments, convert, did_you_mean

MISSING = "???"
HYDRA_KEYS = {
    "_target_": str,
    "_partial_": bool,
    "_recursive_": bool,
    "_convert_": Literal["none", "partial", "object", "all"],
    "_args_": list,
}
"""What Hydra itself reads in a node, and the types."""


def validate(config: DictConfig, settings: type | None = None) -> None:
    """Validate every value whose place in a signature is known.

    Args:
        config: the composed configuration.
        settings: a dataclass whose annotations declare the values at the top level.

    Raises:
        ValueError: one sentence that names the key and the allowed values.
    """
    raw: Any = OmegaConf.to_container(config, resolve=False)
    names = [field.name for field in dataclasses.fields(settings)] if settings else []
    if settings is not None:
        _check_names(raw, names)
    _check_missing(raw)
    if "trainer" in config:
        check_trainer(resolved(config.trainer))
    # A wrong value is reported at the key where it was written, so literal values come first and
    # the values of interpolations second.
    for container in (raw, None):
        container = resolved(config) if container is None else container
        if settings is not None:
            known = {key: value for key, value in container.items() if key in names}
            check_arguments(settings, known, "", skip=_unchecked(known))
        for key, node in _nodes(container):
            _check_node(key, node)


def _check_names(container: dict[str, Any], names: Sequence[str]) -> None:
    """Raise ``ConfigError`` for a key at the top level that nothing reads.

    Hydra accepts every key of a file, so that ``trianer:`` in an experiment would have no effect.
    Keys are read if they are settings or groups, have a ``_target_``, are part of an interpolation,
    or were added with ``+`` on the command line.
    """
    hydra = HydraConfig.get()
    groups = re.findall(r"\w+", " ".join(map(str, hydra.runtime.choices)))
    added = [word.lstrip("+") for word in hydra.overrides.task if word.startswith("+")]
    known = [*names, *groups, *(re.split(r"[.=@]", word)[0] for word in added)]
    used = " ".join(str(value) for _, value in leaves(container) if "${" in str(value))
    for key, value in container.items():
        if key not in known and not any(_nodes(value)) and not re.search(rf"\b{key}\b", used):
            raise ConfigError(
                f"{key}: there is no such key in bigr.{hydra.job.config_name}."
                f"{did_you_mean(key, known)} Does the experiment belong to another command?"
            )


def _check_missing(container: dict[str, Any]) -> None:
    """Raise ``ConfigError`` for values that are ``???``, with what their files say about them."""
    missing = {key: hint(key) for key, value in leaves(container) if value == MISSING}
    if missing:
        what = " and ".join(f"{key} ({text})" if text else key for key, text in missing.items())
        example = " ".join(f"{key}=…" for key in missing)
        raise ConfigError(f"still needed: {what}. Add {example} to the command.")


def hint(key: str) -> str:
    """Return the comment after ``???`` in the file that defines ``key``, or an empty text."""
    settings = HydraConfig.get()
    *groups, name = key.split(".")
    # The chosen options of the groups in the key, then what they may inherit from, then the rest.
    choices = {str(group): str(option) for group, option in settings.runtime.choices.items()}
    chosen = [f"{g}/{option}" for g, option in choices.items() if g.split("/")[-1] in groups]
    patterns = [*chosen, *(f"{path.rsplit('/', 1)[0]}/*" for path in chosen)]
    patterns += [str(settings.job.config_name), *map("/".join, choices.items())]
    line = re.compile(rf"^ *{re.escape(name)}: *\?\?\? *# *(.+)$", flags=re.MULTILINE)
    for pattern in patterns:
        for folder in config_folders():
            for path in sorted(folder.glob(f"{pattern}.yaml")):
                found = line.search(path.read_text(encoding="utf-8"))
                if found:
                    return found[1].strip()
    return ""


def config_folders() -> Iterator[Path]:
    """Yield the folders of Hydra's search path, those of installed packages included."""
    for source in HydraConfig.get().runtime.config_sources:
        if source.schema == "pkg" and not source.path.startswith("hydra"):
            yield Path(str(importlib.resources.files(source.path)))
        elif Path(source.path).is_dir():
            yield Path(source.path)


def leaves(container: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of everything that is not a container."""
    if isinstance(container, dict):
        for name, value in container.items():
            yield from leaves(value, f"{key}.{name}".lstrip("."))
    elif isinstance(container, list):
        for index, value in enumerate(container):
            yield from leaves(value, f"{key}[{index}]")
    else:
        yield key, container


def _nodes(container: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every mapping with a ``_target_`` and its dotted key, outer ones first."""
    if isinstance(container, dict):
        if "_target_" in container:
            yield key, container
        for name, value in container.items():
            yield from _nodes(value, f"{key}.{name}".lstrip("."))
    elif isinstance(container, list):
        for index, value in enumerate(container):
            yield from _nodes(value, f"{key}[{index}]")


def _unchecked(arguments: dict[str, Any]) -> list[str]:
    """Return the names of values that are not known yet: interpolations, and objects to build."""
    return [
        name
        for name, value in arguments.items()
        if any("${" in str(leaf) for _, leaf in leaves(value)) or any(_nodes(value))
    ]


def _check_node(key: str, node: dict[str, Any]) -> None:
    """Import the target of a node and check the node against its signature."""
    arguments = {name: value for name, value in node.items() if name not in HYDRA_KEYS}
    for name, annotation in HYDRA_KEYS.items():
        if name in node and "${" not in str(node[name]):
            convert(node[name], annotation, f"{key}.{name}")
    target = _import(f"{key}._target_", node["_target_"])
    is_partial = bool(node.get("_partial_")) or "_args_" in node
    check_arguments(target, arguments, key, is_partial=is_partial, skip=_unchecked(arguments))


def _import(key: str, path: Any) -> Any:
    """Import a class or function by its dotted path.

    Raises:
        ConfigError: if it cannot be imported; the message is the reason.
    """
    try:
        target = pydoc.locate(str(path))
    except pydoc.ErrorDuringImport as error:
        if isinstance(error.value, KeyboardInterrupt):  # Ctrl-C while PyTorch is imported
            raise KeyboardInterrupt from error
        reason = str(error.value)
        if isinstance(error.value, ImportError):
            reason += install_advice(error.value)
        raise ConfigError(f"{key}={path} cannot be imported: {reason}.") from error
    if not callable(target):
        raise ConfigError(f"{key}={path}: there is no such class or function.")
    return target


def install_advice(error: ImportError) -> str:
    """Return " (pip install …)" for an import that failed because a package is missing."""
    import importlib.metadata

    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return ""
    package = error.name.split(".")[0]
    try:
        requirements = importlib.metadata.requires("bigr-lightning") or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    for requirement in requirements:
        extra = re.match(rf"{re.escape(package)}\b.*extra == ['\"](\w+)['\"]", requirement)
        if extra and extra[1] not in ("dev", "all"):
            return f" (pip install 'bigr-lightning[{extra[1]}]')"
    return f" (pip install {package})"
