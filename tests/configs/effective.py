"""The values that a composed configuration comes to, wherever they are defined.

A value is in YAML or the default of a parameter. :func:`compose_effective` adds to
every node whose target is ours the defaults of the signature of the target, so that both count the
same. Nothing here depends on how the package itself completes its configuration.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
from typing import Any

import hydra
from omegaconf import OmegaConf

from bigr.pipeline.options import SamplingOptions

Values = dict[str, Any]


HYDRA_KEYS = ("run", "sweep", "mode", "callbacks")
"""Hydra's own settings that our files change, besides those of sweepers."""


def compose_effective(command: str) -> tuple[Values, Values]:
    """Compose a command such as ``train model=xl``.

    Returns:
        The values that the configuration states, which can be overridden by their keys, and
        those that it leaves to Python defaults.

    Hydra has to be initialized with the folder of the configuration.
    """
    name, *overrides = command.split()
    overrides = [re.sub(r"^resolution=(\d+)$", r"resolution='\1'", word) for word in overrides]
    config = hydra.compose(name, [*overrides, "paths.output=out"], return_hydra_config=True)
    plain = OmegaConf.to_container(config.hydra, resolve=False)
    assert isinstance(plain, dict)
    hydra_values = {key: plain[key] for key in HYDRA_KEYS}
    if plain["mode"] is not None:
        hydra_values |= {"mode": plain["mode"].name, "params": plain["sweeper"]["params"]}
    OmegaConf.set_struct(config, False)
    config.pop("hydra")
    container = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    stated = dict(_leaves(container, ""))
    both = dict(_leaves(_completed(container), ""))
    left = {key: value for key, value in both.items() if key not in stated}
    return {**stated, **dict(_leaves(hydra_values, "hydra"))}, left


def _completed(node: Any) -> Any:
    if isinstance(node, dict):
        found = {str(key): _completed(value) for key, value in node.items()}
        target = found.get("_target_")
        if isinstance(target, str) and target.startswith("bigr."):
            found = {**defaults(target), **found}
        return found
    return [_completed(value) for value in node] if isinstance(node, list) else node


@functools.cache
def defaults(target: str) -> Values:
    """Return the defaults of the parameters of ``target``, as far as YAML can express them."""
    found: Values = {}
    value = _locate(target)
    owners = value.__mro__ if isinstance(value, type) else [value]
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if field.default is not dataclasses.MISSING:
                found[field.name] = field.default
            elif field.default_factory is not dataclasses.MISSING:
                found[field.name] = field.default_factory()
        owners = []
    for owner in owners:
        function = vars(owner).get("__init__") if isinstance(owner, type) else owner
        if function is None:
            continue
        parameters = inspect.signature(function).parameters.values()
        # The options of the pipeline's methods are written as settings of the sampler.
        options = SamplingOptions.__annotations__ if hasattr(function, "__signature__") else {}
        for parameter in parameters:
            if parameter.name in options:
                continue
            if parameter.default is not inspect.Parameter.empty:
                found.setdefault(parameter.name, parameter.default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return {name: _plain(default) for name, default in found.items() if _is_plain(default)}


def _locate(path: str) -> Any:
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            value = getattr(value, name)
        return value
    raise ImportError(path)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _leaves(node: Any, prefix: str) -> list[tuple[str, Any]]:
    """Return dotted keys and values; an empty mapping is a value, and so is a list."""
    if isinstance(node, dict) and node:
        return [
            leaf
            for key, value in node.items()
            for leaf in _leaves(value, f"{prefix}.{key}" if prefix else key)
        ]
    return [(prefix, node)]
