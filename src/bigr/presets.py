"""Named settings from the same YAML files that the commands read, without Hydra.

A preset is an option of a configuration group that describes one object: ``sampler/paper_xl``,
``model/l``, ``autoencoder/d24``. :func:`load_preset` returns its values, and the ``preset`` methods
of the configuration classes build the object. This module imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml

from bigr.schema import did_you_mean, from_dict

T = TypeVar("T")
PRESET_GROUPS = ("sampler", "model", "autoencoder")


def config_dir() -> Path:
    """Return the folder of the YAML files: in the package, or next to ``src/`` in a checkout.

    Raises:
        ValueError: if there is none.
    """
    package = Path(__file__).parent
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ValueError(f"{package} lacks its conf/ folder: reinstall bigr-lightning.")


def preset_names(group: str) -> list[str]:
    """Return the options of a group such as ``sampler``, sorted."""
    return sorted(file.stem for file in (config_dir() / group).glob("*.yaml"))


def load_preset(group: str, name: str) -> dict[str, Any]:
    """Return the values of an option of a configuration group, with those that it inherits.

    Values that follow from other parts of a configuration (``${…}``), that everyone has to give
    (``???``) or that the model tells (``null``) are left out, and so is the target.

    Args:
        group: ``sampler``, ``model`` or ``autoencoder``.
        name: the name of a file in the group, for example ``paper_xl``.

    Raises:
        ValueError: if there is no such option.
    """
    names = preset_names(group) if group in PRESET_GROUPS else []
    if not names:
        raise ValueError(
            f"{group!r} is no group of presets; the groups are {', '.join(PRESET_GROUPS)}."
        )
    if name not in names:
        raise ValueError(
            f"{group} has no preset {name!r}.{did_you_mean(str(name), names)} "
            f"It can be {', '.join(names)}."
        )
    values = _read(config_dir() / group / f"{name}.yaml")
    return {key: value for key, value in values.items() if key != "_target_" and _is_given(value)}


def from_preset(cls: type[T], group: str, name: str, changes: dict[str, Any]) -> T:
    """Build a configuration class from an option of a group and ``changes``, which take precedence.

    Raises:
        ValueError: if a name or key is unknown, a key is missing, or a value does not fit.
    """
    found: T = from_dict(cls, {**load_preset(group, name), **changes})
    return found


def _read(file: Path) -> dict[str, Any]:
    """Return the values of a file over those of the files in its defaults list."""
    own = yaml.safe_load(file.read_text(encoding="utf-8"))
    values: dict[str, Any] = {}
    for parent in own.pop("defaults", []):
        # "paper_l" is in the same group; "/variant/l_512@_here_" is in another one.
        path = str(parent).split("@")[0]
        folder = config_dir() if path.startswith("/") else file.parent
        values |= _read(folder / f"{path.lstrip('/')}.yaml")
    return values | own


def _is_given(value: Any) -> bool:
    return value is not None and not (isinstance(value, str) and ("${" in value or value == "???"))
