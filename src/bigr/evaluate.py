"""Figures of a generator or a B-AE: ``python -m bigr.evaluate``.

All settings are in ``conf/evaluate.yaml``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from bigr import cli
from bigr.config import ConfigError, resolved

if TYPE_CHECKING:
    from bigr.evaluation.result import Evaluation

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

    with cli.user_errors():
        evaluate = _of_autoencoder(config) if config.generator is None else _of_generator(config)
    output = Path(config.paths.output)
    output.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(settings, output / "config.yaml")
    result = evaluate()
    for name, (images, columns) in result.pictures.items():
        log.info("%s", save_grid(images, output / name, columns))
    report = output / "metrics.json"
    report.write_text(json.dumps(result.metrics, indent=2) + "\n")
    log.info("%s", report)
    Console().print(_table(result))
    with cli.user_errors():
        return _figure(config.optimized_metric, result.metrics)


def _of_generator(config: DictConfig) -> Callable[[], Evaluation]:
    """Everything checked and loaded; calling it does the work."""
    from bigr.evaluation.devices import check_sampler, load_models
    from bigr.evaluation.progress import progress

    models = load_models(config.generator, config.autoencoder, config.device)
    evaluation = instantiate(config.evaluation)
    evaluation.check(models)
    sampler = instantiate(config.sampler)
    check_sampler(models, sampler)

    def evaluate() -> Evaluation:
        with progress(config.evaluation.count, "images") as advance:
            return evaluation(models, sampler, advance)

    return evaluate


def _of_autoencoder(config: DictConfig) -> Callable[[], Evaluation]:
    """The same for a B-AE and the validation split."""
    from bigr.checkpoints.load import load_autoencoder
    from bigr.evaluation.devices import pick_device
    from bigr.evaluation.progress import progress

    autoencoder = load_autoencoder(config.autoencoder)
    if config.data.image_size != autoencoder.config.image_size:
        raise ConfigError(
            f"autoencoder={config.autoencoder} is for {autoencoder.config.image_size} pixels, and "
            f"data.image_size is {config.data.image_size}: choose another resolution=…."
        )
    autoencoder = autoencoder.to(pick_device(config.device))
    evaluation = instantiate(config.evaluation)
    for reason in evaluation.missing:
        log.info("left out: %s", reason)
    data = instantiate(config.data)
    data.setup("validate")

    def evaluate() -> Evaluation:
        count = len(data.val_set)
        total = count if config.evaluation.count is None else min(count, config.evaluation.count)
        with progress(total, "images") as advance:
            return evaluation(autoencoder, data.val_set, advance)

    return evaluate


def _table(result: Evaluation) -> Any:
    from rich.table import Table

    table = Table()
    table.add_column("figure")
    for name in result.columns:
        table.add_column(name, justify="right")
    for row in result.rows:
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
