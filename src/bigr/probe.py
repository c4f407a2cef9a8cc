"""A linear probe of a generator's features: ``python -m bigr.probe``.

All settings are in ``conf/probe.yaml``.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from bigr.cli import entry as cli
from bigr.cli import reports
from bigr.cli.configuration import ConfigError, resolved
from bigr.schema import ExistingPath, NonNegativeInt


@dataclasses.dataclass(kw_only=True)
class Settings(cli.ProcessSettings):
    """The values at the top level of the configuration ``conf/probe.yaml``."""

    generator: ExistingPath
    autoencoder: ExistingPath | None
    optimized_metric: str | None
    seed: NonNegativeInt


def main() -> None:
    """Command line."""
    cli.run("probe", job, settings=Settings)


def job(config: DictConfig) -> float | None:
    """Write ``metrics.json`` and plots, print the table of layers.

    Returns:
        The figure ``config.optimized_metric``, for sweepers that optimise.
    """
    with cli.user_errors():
        settings = resolved(config)
        processes = cli.processes(config)
        output = Path(processes.broadcast(str(config.paths.output)))
        generator, autoencoder, data = _load(config, processes.device)
        probe = instantiate(config.probe)
        probe.chosen_layers(generator.config.num_layers)
    if processes.is_first:
        output.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(settings, output / "config.yaml")
    from bigr.inference.progress import progress

    total = sum(data.num_images(split) for split in ("train", "val"))
    shared: dict[str, Any] = {"folder": output, "processes": processes}
    with cli.user_errors():
        if processes.is_first:
            with progress(total, "images") as advance:
                result = probe(generator, autoencoder, data, advance, **shared)
        else:
            result = probe(generator, autoencoder, data, **shared)
    processes.barrier()
    if result is None:
        return None
    metrics = reports.write(result, output)
    reports.log_to(config, settings, result, output)
    with cli.user_errors():
        return reports.figure(config.optimized_metric, metrics)


def _load(config: DictConfig, device: str | None) -> tuple[Any, Any, Any]:
    from bigr.checkpoints.load import check_pair, load_autoencoder, load_generator
    from bigr.inference.devices import pick_device

    target = pick_device(device or config.device)
    generator = load_generator(config.generator).to(target).eval()
    autoencoder = None
    if config.autoencoder is not None:
        autoencoder = load_autoencoder(config.autoencoder).to(target).eval()
        check_pair(generator, autoencoder)
    elif "image_size" in config.data:
        raise ConfigError(
            "still needed: autoencoder (the B-AE that makes codes of these images). Add "
            "autoencoder=… to the command, or probe codes (data=codes)."
        )
    if autoencoder is not None and "image_size" in config.data:
        theirs = autoencoder.config.image_size
        if config.data.image_size != theirs:
            raise ConfigError(
                f"autoencoder={config.autoencoder} is for {theirs} pixels, and data.image_size is "
                f"{config.data.image_size}: choose another resolution=…."
            )
    data = instantiate(config.data)
    data.prepare_data()
    data.setup("validate")
    return generator, autoencoder, data


if __name__ == "__main__":
    main()
