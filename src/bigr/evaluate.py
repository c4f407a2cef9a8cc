"""Figures of a generator: ``python -m bigr.evaluate``, all settings in ``conf/evaluate.yaml``."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from bigr import cli
from bigr.config import ConfigError, resolved

log = logging.getLogger(__name__)


def main() -> None:
    """Command line."""
    cli.run("evaluate", job)


def job(config: DictConfig) -> float | None:
    """Write ``metrics.json`` and pictures, print the summary table.

    Returns:
        The figure ``config.optimized_metric``, for sweepers that optimise.
    """
    with cli.user_errors():
        settings = resolved(config)

    from rich.console import Console

    from bigr.data.images import save_grid
    from bigr.evaluation.devices import check_sampler, load_models
    from bigr.evaluation.progress import progress

    with cli.user_errors():
        models = load_models(config.generator, config.autoencoder, config.device)
        evaluation = instantiate(config.evaluation)
        evaluation.check(models)
        sampler = instantiate(config.sampler)
        check_sampler(models, sampler)

    output = Path(config.paths.output)
    output.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(settings, output / "config.yaml")
    with progress(config.evaluation.count, "images") as advance:
        result = evaluation(models, sampler, advance)
    for name, (images, columns) in result.pictures.items():
        log.info("%s", save_grid(images, output / name, columns))
    report = output / "metrics.json"
    report.write_text(json.dumps(result.metrics, indent=2) + "\n")
    log.info("%s", report)
    Console().print(_table(result.rows))
    with cli.user_errors():
        return _figure(config.optimized_metric, result.metrics)


def _table(rows: list[tuple[str, str, str, str]]) -> Any:
    from rich.table import Table

    table = Table()
    table.add_column("figure")
    for name in ("generated", "training split", "wanted"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _figure(name: str | None, metrics: dict[str, Any]) -> float | None:
    """The dotted ``name`` in nested ``metrics``."""
    if name is None:
        return None
    value: Any = metrics
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise ConfigError(f"optimized_metric={name}: there is no such figure in metrics.json.")
        value = value[part]
    return float(value)


if __name__ == "__main__":
    main()
