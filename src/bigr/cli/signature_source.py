"""Hydra reads our YAML files through this module, which adds the Python defaults to each node.

A value is defined once: in YAML if it depends on other values or belongs to a preset, and as the
default of the constructor's parameter otherwise. :class:`SignatureSource` completes each node that
has a ``_target_`` with the parameters of the target that have literal defaults, so that
``callbacks.checkpoint.keep_last=3`` works without ``+`` and ``--cfg job`` shows every value.

The signatures are read from the source files with :mod:`ast`. Importing the targets would import
torch, and a misspelled key should be reported in less than a second.

Only definitions are completed. Files of the groups in :data:`OVERLAYS` change nodes that other
files define; completing them would replace the values of the definition by Python defaults. For
the same reason, a file that inherits from another option of its group does not repeat ``_target_``.

Keys of a primary configuration are never mistaken for groups: ``bigr.sample`` takes the checkpoint
``autoencoder=…``, while ``autoencoder`` is a group of ``bigr.train``.

Targets of our package are completed, and those of the package that contains the folder. A user's
package can also have its YAML files read in this way:
``hydra.searchpath=[signatures:///home/me/my_lab/conf]``; with ``pkg://my_lab.conf``, Hydra reads
them as they are.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from bigr.cli.signatures import literal_defaults
from bigr.presets import config_dir

OVERLAYS = ("alignment", "experiment", "sweep", "debug")
"""Groups whose files change nodes that are defined elsewhere."""
MAIN = "main"
"""What Hydra calls the entry of the search path that holds the primary configuration."""


class SignatureSource(ConfigSource):
    """A folder of YAML files whose nodes are completed with the defaults of their targets."""

    primary_keys: ClassVar[Collection[str]] = ()
    """Keys of the primary configuration. Hydra loads it first, and then asks which overrides name
    groups, but may make new sources in between: the class remembers them."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme that selects this source in ``hydra.searchpath``."""
        return "signatures"

    def load_config(self, config_path: str) -> ConfigResult:
        """Read ``config_path``, for example ``data/images``, and complete its nodes.

        Raises:
            ConfigLoadError: if there is no such file.
        """
        file = self._file(config_path)
        if not file.is_file():
            raise ConfigLoadError(f"{file}: there is no such file.")
        text = file.read_text(encoding="utf-8")
        is_overlay = config_path.split("/")[0] in OVERLAYS
        plain = _parsed(text, frozenset() if is_overlay else self._packages())
        if "/" not in config_path:
            SignatureSource.primary_keys = self._keys(plain)
        return ConfigResult(
            config=OmegaConf.create(plain),
            path=self.full_path(),
            provider=self.provider,
            header=self._get_header_dict(text[:512]),
        )

    def _keys(self, primary: dict[str, Any]) -> set[str]:
        """Return the keys of a primary configuration, and of those that it inherits from."""
        keys = set(primary)
        for item in primary.get("defaults", []):
            if isinstance(item, dict):
                keys -= item.keys()
            elif self.is_config(item):
                keys |= self._keys(yaml.safe_load(self._file(item).read_text(encoding="utf-8")))
        return keys

    def is_group(self, config_path: str) -> bool:
        """Return whether ``config_path`` is a folder, and no key of the primary configuration."""
        return config_path not in self.primary_keys and Path(self.path, config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        """Return whether ``config_path`` is a YAML file."""
        return self._file(config_path).is_file()

    def available(self) -> bool:
        """Return whether the folder exists."""
        return self.is_group("")

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the names of the groups and files in the group ``config_path``, sorted."""
        found: list[str] = []
        for name in os.listdir(Path(self.path, config_path)):
            self._list_add_result(found, f"{config_path}/{name}".lstrip("/"), name, results_filter)
        return sorted(set(found))

    def _packages(self) -> frozenset[str]:
        """Return the packages whose targets are completed."""
        parents = [
            folder for folder in Path(self.path).parents if (folder / "__init__.py").exists()
        ]
        return frozenset(["bigr", *(folder.name for folder in parents[-1:])])

    def _file(self, config_path: str) -> Path:
        return Path(self.path, self._normalize_file_name(config_path))


class SignatureSearchPath(SearchPathPlugin):
    """Lets :class:`SignatureSource` read the folder of our YAML files."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Change the search path of our commands, but not that of other Hydra programs."""
        for entry in search_path.get_path():
            if (entry.provider, entry.path) == (MAIN, str(config_dir())):
                entry.path = f"{SignatureSource.scheme()}://{entry.path}"


def register_signatures() -> None:
    """Register both plugins with Hydra; may be called more than once."""
    for plugin in (SignatureSource, SignatureSearchPath):
        Plugins.instance().register(plugin)


@functools.cache
def _parsed(text: str, packages: frozenset[str]) -> dict[str, Any]:
    """Return the completed values of a file; Hydra composes each configuration several times."""
    config = OmegaConf.create(text) if text.strip() else OmegaConf.create()
    values: dict[str, Any] = completed(OmegaConf.to_container(config), packages)
    return values


def completed(node: Any, packages: Collection[str]) -> Any:
    """Return a copy of ``node`` in which nodes with a target have its literal defaults.

    Args:
        node: plain data.
        packages: the first parts of the targets to complete.
    """
    if isinstance(node, list):
        return [completed(item, packages) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: completed(value, packages) for key, value in node.items()}
    target = str(found.get("_target_"))
    defaults = literal_defaults(target) if target.split(".")[0] in packages else {}
    return {**found, **{key: defaults[key] for key in defaults if key not in found}}
