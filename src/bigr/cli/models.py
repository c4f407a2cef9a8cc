"""The models of a command, and the settings that the command takes from them.

``pretrained=NAME`` stands for a generator and its B-AE. With ``sampler=model`` and
``resolution=model``, which are the defaults, values that are ``null`` are those of the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bigr.cli.configuration import TRAINED_HERE, ConfigError, autoencoder_sizes
from bigr.schema import ExistingPath, convert

ADVICE = (
    "pretrained=digits is a small model that is installed with the package, `make demo` trains one "
    f"in {TRAINED_HERE}, and pretrained=haoosz/BiGR downloads the released weights from that "
    "repository of the Hugging Face hub."
)
PLACEHOLDER = 256
"""Image size with which a configuration is validated before the B-AE is known."""
HERE = "."
"""Existing path that stands for the files of ``pretrained`` in the validation."""


def provisional(config: DictConfig) -> DictConfig:
    """Return a configuration that can be validated before the models are read or downloaded.

    Raises:
        ValueError: if there are no files of models.
    """
    config = _with_installed(config.copy())
    OmegaConf.set_struct(config, False)  # values may be deleted
    keys = _files(config)
    missing = [key for key in keys if OmegaConf.is_missing(config, key)]
    if config.get("pretrained") is not None:
        for key in missing:
            config[key] = HERE
    elif "generator" in missing:
        given = " and ".join(f"{key}=…" for key in missing)
        raise ConfigError(f"a model is needed: add pretrained=… or {given}. {ADVICE}")
    for key in keys:
        path = None if OmegaConf.is_missing(config, key) else config[key]
        if isinstance(path, str):
            try:
                convert(path, ExistingPath, key)
            except ValueError as error:
                raise ConfigError(f"{error} {ADVICE}") from error
    if "sampler" in config:
        for key in _unset(config.sampler):
            del config.sampler[key]
    if "resolution" in config and config.resolution.image_size is None:
        config.resolution.image_size = PLACEHOLDER
    return config


def with_models(config: DictConfig) -> DictConfig:
    """Return a configuration with the paths of the models and the values that follow from them.

    Raises:
        ValueError: if ``pretrained`` cannot be found, or a file cannot be used.
    """
    config = _with_pretrained(_with_installed(config.copy()))
    if "sampler" in config and _unset(config.sampler):
        found = _sampler(config)
        for key in _unset(config.sampler):
            config.sampler[key] = found[key]
    if "resolution" in config and config.resolution.image_size is None:
        config.resolution.image_size = _image_size(config.get("autoencoder"))
    return config


def _with_pretrained(config: DictConfig) -> DictConfig:
    """Replace ``pretrained`` by the paths of the generator and the B-AE."""
    name = config.get("pretrained")
    if name is None:
        return config
    keys = _files(config)
    given = [key for key in keys if not OmegaConf.is_missing(config, key) and config[key]]
    if given:
        raise ConfigError(
            f"pretrained={name} already stands for both models: leave out {' and '.join(given)}."
        )
    if name == TRAINED_HERE and not Path(name).is_dir():
        raise ConfigError(f"there is no {name}. {ADVICE}")
    from bigr.checkpoints.hub import find_pair

    released = dict(config.get("released") or {})
    released["resolution"] = int(released.get("resolution", PLACEHOLDER))
    try:
        pair = find_pair(name, **released)
    except ValueError as error:
        raise ConfigError(f"pretrained={name}: {error}") from error
    for key in keys:
        config[key] = str(getattr(pair, key))
    return config


def _with_installed(config: DictConfig) -> DictConfig:
    """Replace names of installed models, such as ``autoencoder=digits``, by the paths of files."""
    for key in _files(config):
        name = None if OmegaConf.is_missing(config, key) else config[key]
        if not isinstance(name, str) or Path(name).expanduser().exists():
            continue
        from bigr.checkpoints.hub import PACKAGED, packaged_models

        if name in packaged_models():
            config[key] = str(PACKAGED / name / f"{key}.safetensors")
    return config


def _files(config: DictConfig) -> list[str]:
    """Return the keys of a command whose values are files of models rather than settings."""
    keys = [key for key in ("generator", "autoencoder") if key in config.keys()]  # noqa: SIM118
    return [key for key in keys if not OmegaConf.is_dict(config._get_node(key))]


def _unset(sampler: Any) -> list[str]:
    """Return the keys of the sampler whose values follow from the model."""
    names = [str(key) for key in sampler if sampler._get_node(key)._is_none()]
    return [name for name in names if name != "_target_"]


def _sampler(config: DictConfig) -> dict[str, Any]:
    """Return the settings of the generator that a command samples; in training, that to start from.

    They are those of BiGR-L if a generator is trained from scratch, or nothing is sampled.
    """
    if "model" not in config:
        return _saved_sampler(config.get("generator"))
    is_generator = OmegaConf.select(config, "task.model") is not None
    name = OmegaConf.select(config, "task.init_from") if is_generator else None
    if name is None:
        return _saved_sampler(None)
    from bigr.checkpoints.hub import find_model

    try:
        return _saved_sampler(str(find_model(name, "generator")))
    except ValueError as error:
        raise ConfigError(f"task.init_from={name}: {error}") from error


def _saved_sampler(generator: str | None) -> dict[str, Any]:
    """Return the settings in the file of a generator, or those of BiGR-L without a file."""
    from bigr.sampling.sampler_config import SamplerConfig

    if generator is None:
        return SamplerConfig().to_dict()
    from bigr.checkpoints.load import generator_config
    from bigr.checkpoints.read import read_checkpoint
    from bigr.inference.model_defaults import default_sampler

    # The checksums are compared when the weights are loaded.
    found = read_checkpoint(generator, "generator", verify=False)
    return default_sampler(generator_config(found), found.settings).to_dict()


def _image_size(autoencoder: str | None) -> int:
    if autoencoder is None:
        return PLACEHOLDER
    return autoencoder_sizes(autoencoder).image_size
