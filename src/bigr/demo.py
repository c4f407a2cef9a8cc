"""Serve the web app: ``python -m bigr.demo``. All settings are in ``conf/demo.yaml``."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le, MinLen
from hydra.utils import instantiate
from omegaconf import DictConfig

from bigr.cli import entry as cli
from bigr.cli.configuration import ConfigError
from bigr.schema import Check, ExistingPath, PositiveInt

if TYPE_CHECKING:
    from bigr.pipeline import BiGRPipeline

log = logging.getLogger(__name__)


def _is_site(value: str) -> str:
    if not re.fullmatch(r"https://[A-Za-z0-9.*:-]+", value):
        raise ValueError("it must be an address such as https://huggingface.co")
    return value


Site = Annotated[str, Check(_is_site)]
"""Another site, as in ``frame-ancestors`` of a Content-Security-Policy."""


@dataclasses.dataclass(kw_only=True)
class DemoSettings:
    """The values at the top level of ``conf/demo.yaml``."""

    pretrained: str | None
    released: dict[str, Any]
    generator: ExistingPath | None
    autoencoder: ExistingPath | None
    device: cli.Device
    batch_size: PositiveInt
    host: Annotated[str, MinLen(1)]
    port: Annotated[int, Ge(1), Le(65535)]
    allowed_hosts: list[str]
    embedded_in: list[Site]
    auth: str | None
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
        from bigr.app.actions import Actions
        from bigr.app.addresses import Address, credentials
        from bigr.app.limits import Limits
        from bigr.app.visitors import private_folder

        address = Address(
            config.host, config.port, tuple(config.allowed_hosts), tuple(config.embedded_in)
        )
        auth = None if config.auth is None else credentials(config.auth)
        limits = Limits(**config.limits)
        name = config.pretrained or config.generator
        sampler = instantiate(config.sampler)
        actions = Actions(_pipeline(config), sampler, limits, Path(name).name)
    # Before Gradio is imported, which would send statistics and look for updates.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio requests its own pages
    if not address.is_local and auth is None:
        log.warning(
            "host=%s without auth: everyone who can reach this machine can use the app. Add "
            "auth=FILE with a line user:password.",
            config.host,
        )
    with cli.user_errors(), private_folder() as folder:
        # Gradio writes into the temporary folder as soon as it is imported.
        from bigr.app.server import serve

        serve(actions, address, folder, auth=auth, open_browser=config.open_browser)


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
    return BiGRPipeline.from_files(config.generator, config.autoencoder, **common)


if __name__ == "__main__":
    main()
