"""Pictures of the web app, made again by ``python -m bigr.sample settings=FILE``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bigr.cli.configuration import ConfigError, resolved

if TYPE_CHECKING:
    from bigr.pipeline.picture_settings import PictureSettings


def as_in_web_app(config: DictConfig) -> tuple[PictureSettings, DictConfig]:
    """Return the content of ``config.settings``, and ``config`` with the values in it.

    The images of the settings are copied into the folder ``settings`` of the run, where the
    configuration names them.

    Raises:
        ConfigError: if the command line also sets one of these values.
        ValueError: if the file has no settings of the web app.
    """
    from bigr.pipeline.picture_settings import PictureSettings

    words = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    for word in words:
        if re.match(r"[+~]*(application|sampler|execution|seed)\b", word):
            raise ConfigError(f"settings=… already contains this value: leave out {word}.")
    given = PictureSettings.load(Path(config.settings).expanduser())
    copies = Path(str(config.paths.output)) / "settings"
    if given.images():
        copies.mkdir(parents=True, exist_ok=True)
        given.save(copies)
    images = {name: str(copies / f"{name}.png") for name in given.images()}
    method = "stream" if given.application == "generate" else given.application
    values = {
        "seed": given.seed,
        "application": {
            "_target_": f"bigr.BiGRPipeline.{method}",
            "_partial_": True,
            "_recursive_": False,  # nothing within the arguments is built, whatever it is
            **given.arguments,
            **images,
        },
        "sampler": {"_target_": "bigr.SamplerConfig", **given.sampler},
        "execution": {"_target_": "bigr.ExecutionConfig", **given.execution},
    }
    return given, OmegaConf.create({**resolved(config), **values})
