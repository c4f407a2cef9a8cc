"""The web app: ``python -m bigr.demo``. All settings are in ``conf/demo.yaml``.

``actions`` is what the buttons do, without a browser; ``page`` is what is seen, in Gradio.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from bigr.cli import entry as cli
from bigr.cli.configuration import ConfigError

if TYPE_CHECKING:
    from bigr.pipeline import BiGRPipeline

log = logging.getLogger(__name__)

PORTS = 65535
TRAINED_HERE = "outputs/demo"
ADVICE = (
    f"`make demo` makes {TRAINED_HERE}; pretrained=haoosz/BiGR sampler=demo takes the released "
    "weights."
)


def main() -> None:
    """Command line."""
    cli.run("demo", job)


def job(config: DictConfig) -> None:
    """Load the models and serve the app until it is interrupted."""
    with cli.user_errors():
        if importlib.util.find_spec("gradio") is None:
            raise ConfigError("the web app needs Gradio: pip install 'bigr-lightning[app]'.")
        if not isinstance(config.port, int) or not 0 < config.port <= PORTS:
            raise ConfigError(f"port={config.port}: it must be a number in 1..{PORTS}.")
        from bigr.app.actions import Actions, Limits

        limits = Limits(**OmegaConf.to_container(config.limits))  # type: ignore[arg-type]
        actions = Actions(_pipeline(config), instantiate(config.sampler), limits)
    # Before Gradio is imported: it would call its makers and look for updates.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio asks itself whether it is there
    from bigr.app.page import serve

    if config.host not in ("127.0.0.1", "localhost", "::1"):
        log.warning("host=%s: whoever reaches this machine can use the app.", config.host)
    with cli.user_errors():
        serve(actions, host=config.host, port=config.port, open_browser=config.open_browser)


def _pipeline(config: DictConfig) -> BiGRPipeline:
    from bigr.inference.devices import load_models, pick_device
    from bigr.pipeline import BiGRPipeline

    pick_device(config.device)
    execution = instantiate(config.execution)
    if (config.generator is None) != (config.autoencoder is None):
        raise ConfigError("generator and autoencoder go together: give both or neither.")
    if config.generator is not None:
        models = load_models(config.generator, config.autoencoder, config.device)
        return BiGRPipeline(
            *models,
            device=config.device,
            batch_size=config.batch_size,
            execution=execution,
        )
    if config.pretrained == TRAINED_HERE and not Path(TRAINED_HERE).is_dir():
        raise ConfigError(f"there is no {TRAINED_HERE}. {ADVICE}")
    try:
        return BiGRPipeline.from_pretrained(
            config.pretrained,
            model=str(config.released.model),
            code=str(config.released.code),
            resolution=int(config.released.resolution),
            device=config.device,
            batch_size=config.batch_size,
            execution=execution,
        )
    except ValueError as error:
        raise ConfigError(f"pretrained={config.pretrained}: {error} {ADVICE}") from error


if __name__ == "__main__":
    main()
