"""What the entry points write about their results: files, a table, loggers, the speed."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from bigr.cli.configuration import ConfigError

if TYPE_CHECKING:
    import torch

    from bigr.evaluation.report import Report

log = logging.getLogger(__name__)

METRICS = "metrics.json"
WITHOUT_INFLUENCE = (
    *("paths", "hydra", "logger", "optimized_metric", "device", "devices", "num_nodes", "confirm"),
)
"""Keys of a configuration that do not change the figures."""
TERA = 1e12


def identity(settings: dict[str, Any], files: Iterable[Any]) -> str:
    """Return a checksum of the settings and the weights: equal ones give equal figures."""
    kept = {name: value for name, value in settings.items() if name not in WITHOUT_INFLUENCE}
    text = json.dumps([kept, list(files)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def finished(output: Path, settings_sha256: str) -> dict[str, Any] | None:
    """Return the metrics that an earlier run of the same evaluation left in ``output``, if any."""
    try:
        metrics = json.loads((output / METRICS).read_text())
    except (OSError, ValueError):
        return None
    is_same = isinstance(metrics, dict) and metrics.get("settings_sha256") == settings_sha256
    return metrics if is_same else None


def write(report: Report, output: Path, **more: Any) -> dict[str, Any]:
    """Write the pictures, plots and other files, then ``metrics.json``, and print the table.

    Args:
        report: the result of an evaluation.
        output: folder to write to.
        more: further entries of ``metrics.json``.

    Returns:
        The content of ``metrics.json``.
    """
    from rich.console import Console

    from bigr.data.files import write_atomically
    from bigr.data.image_arrays import save_grid
    from bigr.evaluation import plots

    for name, (images, columns) in report.pictures.items():
        log.info("%s", save_grid(images, output / name, columns))
    for name, write in report.files.items():
        write(output / name)
        log.info("%s", output / name)
    for name, curve in report.curves.items():
        line = {"": {float(key): value for key, value in curve.points.items()}}
        if plots.lines(output / name, line, x=curve.x, y=curve.y, log_x=curve.is_log):
            log.info("%s", output / name)
    metrics = {**report.metrics, "figures": report.figures, **more}
    write_atomically(output / METRICS, (json.dumps(metrics, indent=2) + "\n").encode())
    for clean in report.cleanup:
        clean()
    log.info("%s", output / METRICS)
    # Without a terminal (in a log file) the table gets the width that its words need.
    width = max(100, shutil.get_terminal_size().columns)
    Console(width=width).print(_table(report))
    return metrics


def log_to(config: DictConfig, settings: dict[str, Any], report: Report, output: Path) -> None:
    """Send the figures, settings and pictures to the loggers of ``config``, if there are any."""
    nodes = [node for node in (config.get("logger") or {}).values() if node]
    if not nodes:
        return
    from lightning.pytorch.loggers import WandbLogger

    for node in nodes:
        logger = instantiate(node)
        logger.log_hyperparams(settings)
        logger.log_metrics(report.figures)
        if isinstance(logger, WandbLogger):
            for name in report.pictures:
                logger.log_image(Path(name).stem, [str(output / name)])
            logger.experiment.finish()  # otherwise the next job of a sweep would continue this run
        else:
            logger.save()


def figure(name: str | None, metrics: dict[str, Any]) -> float | None:
    """Return a figure by name, or by dotted ``name`` within ``metrics``; None without a name.

    Raises:
        ConfigError: if there is no such figure.
    """
    if name is None:
        return None
    value: Any = metrics["figures"].get(name, metrics)
    for part in name.split(".") if value is metrics else ():
        if not isinstance(value, dict) or part not in value:
            raise ConfigError(
                f"optimized_metric={name}: there is no such figure; there are "
                f"{', '.join(metrics['figures'])}."
            )
        value = value[part]
    return float(value)


def log_speed(
    output: Path, device: torch.device, count: int, took: float, flops: float, num_processes: int
) -> None:
    """Log how fast ``count`` images were generated, and add a line to ``speed.jsonl``.

    Args:
        output: folder of ``speed.jsonl``.
        device: of this process.
        count: number of images of all processes.
        took: seconds.
        flops: floating-point operations of all processes.
        num_processes: number of processes, each with a device of its own.
    """
    import torch
    from lightning.fabric.utilities.throughput import get_available_flops

    from bigr.inference.devices import device_name

    figures: dict[str, Any] = {
        "images": count,
        "seconds": took,
        "images_per_second": count / took,
        "tflop_per_second": flops / took / TERA,
        "device": device_name(device),
        "processes": num_processes,
        "torch": torch.__version__,
    }
    share = ""
    peak = get_available_flops(device, torch.bfloat16) if device.type == "cuda" else None
    if peak:
        figures["share_of_peak"] = flops / took / peak / num_processes
        share = f" ({figures['share_of_peak']:.0%} of the GPU's bfloat16 peak)"
    log.info(
        "%d images in %.1f s: %.3g images/s, %.3g TFLOP/s%s",
        *(count, took, count / took, flops / took / TERA, share),
    )
    with (output / "speed.jsonl").open("a") as file:
        file.write(json.dumps(figures) + "\n")


def _table(report: Report) -> Any:
    from rich.table import Table

    table = Table("figure")
    for name in report.columns:
        table.add_column(name, justify="right")
    for row in report.rows:
        table.add_row(*row)
    return table
