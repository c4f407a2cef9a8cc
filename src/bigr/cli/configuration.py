"""The functions that configuration files can use, and the conversion to plain values."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from bigr.cli.signature_source import register_signatures
from bigr.presets import config_dir as config_dir

if TYPE_CHECKING:
    from bigr.models.config import BiGRConfig, BinaryAutoencoderConfig

RELEASED_SIZE = 256
"""Side in pixels of the images of most released models."""
TRAINED_HERE = "outputs/demo"
"""Folder of the models that ``make demo`` trains."""


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the key and the fix."""


def register_resolvers() -> None:
    """Define the functions ``${bigr.…}`` of the configuration; may be called repeatedly.

    Also lets Hydra read our YAML files through :mod:`bigr.cli.signature_source`.
    """
    register_signatures()
    resolvers: dict[str, Callable[..., Any]] = {
        "bigr.channel_multipliers": _channel_multipliers,
        "bigr.grid_size": grid_size,
        "bigr.of_codes": _of_codes,
        "bigr.of_generator": _of_generator,
        "bigr.num_classes": _num_classes,
        "bigr.native_precision": _native_precision,
        "bigr.own_model": _own_model,
        "bigr.product": lambda a, b: float(a) * float(b),
        "bigr.run_id": lambda folder: hashlib.sha256(str(folder).encode()).hexdigest()[:12],
        "bigr.warmup_steps": _warmup_steps,
        "bigr.wandb_offline": lambda: os.environ.get("WANDB_MODE") != "online",
    }
    for name, function in resolvers.items():
        OmegaConf.register_new_resolver(name, function, replace=True)


def _native_precision() -> str:
    """Return ``bf16-mixed`` where products of bfloat16 are fast, and ``32-true`` elsewhere.

    Processors without such products emulate them, several times slower than float32.
    """
    import torch

    from bigr.sampling.networks import multiplies_bfloat16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "bf16-mixed" if multiplies_bfloat16(device) else "32-true"


def _own_model(generator: str | None) -> str | None:
    """Return the model of ``make demo`` or else the installed one, unless a generator is given."""
    if generator is not None:
        return None
    from bigr.checkpoints.hub import packaged_models

    is_there = Path(TRAINED_HERE).is_dir() or "digits" not in packaged_models()
    return TRAINED_HERE if is_there else "digits"


def _channel_multipliers(image_size: Any) -> list[int]:
    """Return the stages of a B-AE for this image size; an invalid size is reported later."""
    from bigr.models.config import stages_for

    return list(stages_for(image_size if isinstance(image_size, int) else RELEASED_SIZE))


def _warmup_steps(steps: int, max_steps: Any) -> int:
    """Return the length of a warm-up: ``steps``, but at most a quarter of the run."""
    return min(steps, max_steps // 4) if isinstance(max_steps, int) and max_steps > 0 else steps


def grid_size(autoencoder: DictConfig) -> int:
    """Return the tokens per side of an autoencoder's codes."""
    return int(autoencoder.image_size) // 2 ** (len(autoencoder.channel_multipliers) - 1)


def _of_codes(name: str, root: Any, autoencoder: Any, default: Any) -> Any:
    """Return ``code_dim`` or ``grid_size`` of the codes that a generator learns, or ``image_size``.

    Args:
        name: name of the value.
        root: folder of the data; a store of codes contains the value.
        autoencoder: path of the B-AE that encodes images during training.
        default: returned if there is neither of them, or if it can't be read, which is reported
            later.
    """
    found = _manifest(root).get(name)
    if found is None and isinstance(autoencoder, str):
        path = Path(autoencoder).expanduser()
        with contextlib.suppress(OSError, ValueError):
            found = getattr(autoencoder_sizes(path), name)
    return default if found is None else found


def _of_generator(name: str, model: Any) -> Any:
    """Return a field of the configuration of the generator that training starts from.

    Without such a generator, the value is that of BiGR-L. If the generator can't be read, this is
    reported later.
    """
    from bigr.models.config import BiGRConfig

    config = BiGRConfig.preset("l", code_dim=24, grid_size=16, num_classes=1000)
    with contextlib.suppress(OSError, ValueError):
        if isinstance(model, str):
            config = _generator_config(model)
    return getattr(config, name)


@functools.lru_cache(maxsize=4)
def _generator_config(name: str) -> BiGRConfig:
    from bigr.checkpoints.hub import find_model
    from bigr.checkpoints.load import generator_config
    from bigr.checkpoints.read import read_checkpoint

    # The checksums are compared when the weights are loaded.
    found = read_checkpoint(find_model(name, "generator"), "generator", verify=False)
    return generator_config(found)


def autoencoder_sizes(path: str | Path) -> BinaryAutoencoderConfig:
    """Return the configuration of a B-AE. Its checksums are compared when the weights are loaded.

    Raises:
        ValueError: if the file cannot be used.
    """
    path = Path(path).expanduser()
    return _autoencoder_config(path, path.stat().st_mtime_ns if path.exists() else 0)


@functools.lru_cache(maxsize=4)
def _autoencoder_config(path: Path, _changed: int) -> BinaryAutoencoderConfig:
    from bigr.checkpoints.load import autoencoder_config
    from bigr.checkpoints.read import read_checkpoint

    return autoencoder_config(read_checkpoint(path, "autoencoder", verify=False))


def _num_classes(root: str | None, default: int) -> int:
    """Return the classes of a store of codes or of images, or else ``default``."""
    if root is None:
        return default
    found = _manifest(root).get("num_classes")
    if found is not None:
        return int(found)
    from bigr.data.sources.find import count_classes

    return count_classes(Path(str(root)).expanduser()) or default


def _manifest(root: Any) -> dict[str, Any]:
    """Return the settings in the manifest of a store of codes; nothing if it can't be read."""
    if root is None:
        return {}
    from bigr.data.codes_format import read_manifest

    with contextlib.suppress(ValueError, TypeError):
        settings = read_manifest(Path(str(root)).expanduser())["settings"]
        names = ("code_dim", "grid_size", "num_classes", "feature_dim")
        return {name: int(settings[name]) for name in names if name in settings}
    return {}


def resolved(config: DictConfig) -> dict[str, Any]:
    """Return ``config`` as plain containers without interpolations, as it is saved with a run."""
    container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    return dict(container)  # type: ignore[arg-type]
