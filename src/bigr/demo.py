"""Serve the web app: ``python -m bigr.demo``. All settings are in ``conf/demo.yaml``."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le
from hydra.utils import instantiate
from omegaconf import DictConfig

from bigr.cli import entry as cli
from bigr.cli.configuration import ConfigError
from bigr.schema import ExistingPath, PositiveInt

if TYPE_CHECKING:
    from bigr.pipeline import BiGRPipeline

log = logging.getLogger(__name__)

TRAINED_HERE = "outputs/demo"
ADVICE = (
    f"`make demo` makes {TRAINED_HERE}; pretrained=haoosz/BiGR sampler=demo takes the released "
    "weights."
)


@dataclasses.dataclass(kw_only=True)
class DemoSettings:
    """The values at the top level of ``conf/demo.yaml``."""

    pretrained: str
    released: dict[str, Any]
    generator: ExistingPath | None
    autoencoder: ExistingPath | None
    device: cli.Device
    batch_size: PositiveInt
    host: str
    port: Annotated[int, Ge(1), Le(65535)]
    open_browser: bool
    limits: dict[str, PositiveInt]


def main() -> None:
    """Run the command from its arguments."""
    cli.run("demo", job, settings=DemoSettings)


def job(config: DictConfig) -> None:
    """Load the models, and serve the app until it is interrupted."""
    with cli.user_errors():
        if importlib.util.find_spec("gradio") is None:
            raise ConfigError("the web app needs Gradio: pip install 'bigr-lightning[app]'.")
        from bigr.app.actions import Actions, Limits

        limits = Limits(**config.limits)
        actions = Actions(_pipeline(config), instantiate(config.sampler), limits)
    # Before Gradio is imported, which would send statistics and look for updates.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio requests its own pages
    from bigr.app.page import serve

    if config.host not in ("127.0.0.1", "localhost", "::1"):
        log.warning("host=%s: anyone who can reach this machine can use the app.", config.host)
    with cli.user_errors():
        serve(actions, host=config.host, port=config.port, open_browser=config.open_browser)


def _pipeline(config: DictConfig) -> BiGRPipeline:
    from bigr.inference.devices import pick_device
    from bigr.pipeline import BiGRPipeline

    pick_device(config.device)
    common: dict[str, Any] = {
        "device": config.device,
        "batch_size": config.batch_size,
        "execution": instantiate(config.execution),
    }
    if (config.generator is None) != (config.autoencoder is None):
        raise ConfigError("generator and autoencoder go together: give both or neither.")
    if config.generator is not None:
        return BiGRPipeline.from_files(config.generator, config.autoencoder, **common)
    if config.pretrained == TRAINED_HERE and not Path(TRAINED_HERE).is_dir():
        raise ConfigError(f"there is no {TRAINED_HERE}. {ADVICE}")
    released = {**config.released, "resolution": int(config.released.resolution)}
    try:
        return BiGRPipeline.from_pretrained(config.pretrained, **released, **common)
    except ValueError as error:
        raise ConfigError(f"pretrained={config.pretrained}: {error} {ADVICE}") from error


if __name__ == "__main__":
    main()
