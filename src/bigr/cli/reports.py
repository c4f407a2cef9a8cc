"""What the entry points write about their results: files, a table, loggers, the speed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from bigr.cli.configuration import ConfigError
from bigr.cli.next_steps import after_autoencoder, after_generator
from bigr.cli.tables import print_tables

if TYPE_CHECKING:
    import torch

    from bigr.evaluation.report import Report

log = logging.getLogger(__name__)

METRICS = "metrics.json"
REPORT = "report.md"
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
    """Return the metrics that an earlier run of the same evaluation left in ``output``, if any.

    Metrics that were changed since, or that an older version wrote without a checksum, are ignored.
    """
    from bigr.data.sealed_json import DamagedFileError, read_sealed

    try:
        metrics = read_sealed(output / METRICS)
    except DamagedFileError as error:
        log.warning("%s; the evaluation is repeated", error)
        return None
    except OSError:
        return None
    is_same = metrics.get("settings_sha256") == settings_sha256
    return metrics if is_same else None


def write(report: Report, output: Path, *, title: str | None = None, **more: Any) -> dict[str, Any]:
    """Write everything that belongs to a report, at the end ``metrics.json``, and print the table.

    Args:
        report: the result of an evaluation.
        output: folder to write to.
        title: what was evaluated; None takes the name of the folder.
        more: further entries of ``metrics.json``.

    Returns:
        The content of ``metrics.json``.
    """
    from bigr.data.files import write_atomically
    from bigr.data.image_arrays import save_grid
    from bigr.data.sealed_json import seal
    from bigr.evaluation import plots, report_text

    # 1. Pictures, plots, other files, and the report that shows them.
    written = []
    for name, (images, columns) in report.pictures.items():
        written.append(save_grid(images, output / name, columns).name)
    for name, write in report.files.items():
        write(output / name)
        written += [name] if (output / name).exists() else []
    for name, curve in report.curves.items():
        line = {"": {float(key): value for key, value in curve.points.items()}}
        if plots.lines(output / name, line, x=curve.x, y=curve.y, log_x=curve.is_log):
            written.append(name)
    title = output.name if title is None else title
    text = report_text.report_markdown(report, title, written)
    write_atomically(output / REPORT, text.encode())
    # 2. The same as data. The evaluation is finished when this file exists.
    headings, rows = report_text.used_columns(report.columns, report.rows)
    metrics = {
        **report.metrics,
        "figures": report.figures,
        "title": title,
        "table": {"headings": headings, "rows": rows},
        "summary": report_text.summary(report),
        "conditions": report.conditions,
        "errors": {name: error._asdict() for name, error in report.errors.items()},
        **({"notes": report.notes} if report.notes else {}),
        **more,
    }
    _keep_earlier(output, metrics)
    write_atomically(output / METRICS, seal(metrics))
    for clean in report.cleanup:
        clean()
    log.info("%s: %s", output, ", ".join([REPORT, METRICS, *written]))
    show(metrics)
    return metrics


def _keep_earlier(output: Path, metrics: dict[str, Any]) -> None:
    """Rename the ``metrics.json`` of an earlier evaluation with other settings or weights."""
    from bigr.data.sealed_json import DamagedFileError, read_sealed

    path = output / METRICS
    try:
        before = str(read_sealed(path)["settings_sha256"])
    except (DamagedFileError, OSError, KeyError):
        return
    if before != metrics.get("settings_sha256"):
        kept = path.replace(output / f"{path.stem}_{before[:8]}{path.suffix}")
        log.info("the scores of an earlier evaluation with other settings or weights: %s", kept)


def show(metrics: dict[str, Any]) -> None:
    """Print the table and the notes of an evaluation from its ``metrics.json``."""
    found = metrics.get("table", {"headings": ["metric"], "rows": []})
    print_tables([(found["headings"], found["rows"])], metrics.get("notes", ()))


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


def training_summary(
    trainer: Any, output: Path, settings: dict[str, Any], experiment: str | None = None
) -> list[str]:
    """Return what a finished run reports: its last scores, its files and the next commands.

    Args:
        trainer: after ``fit``.
        output: the folder of the run.
        settings: the configuration of the run.
        experiment: the name of its experiment, if it has one.
    """
    lines = [f"finished at step {trainer.global_step:,}"]
    # 1. The last validation. Learning rates and times are in the logged metrics.
    scores = {
        name.removeprefix("val/"): f"{float(value):.4g}"
        for name, value in sorted(trainer.callback_metrics.items())
        if name.startswith("val/")
    }
    if scores:
        lines.append("validation: " + ", ".join(" ".join(pair) for pair in scores.items()))
    # 2. The files.
    weights = sorted([*output.glob("*.safetensors"), *output.glob("adapter/*.safetensors")])
    lines += [f"weights: {path}" for path in weights]
    others = sorted(path.name for path in output.glob("[!.]*/"))
    if others:
        lines.append(f"in {output}: {', '.join(others)}")
    # 3. What to do with them.
    names, data, task = [path.stem for path in weights], settings["data"], settings["task"]
    commands = []
    if "autoencoder" in names:
        commands.append(after_autoencoder(output, experiment, data))
    elif weights:
        num_classes = (task.get("model") or {}).get("num_classes", 1)
        commands += after_generator(output, task.get("autoencoder"), num_classes, data)
    return [*lines, *(f"next: {command}" for command in commands)]


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
        device: device of this process.
        count: number of images of all processes.
        took: seconds.
        flops: floating-point operations of all processes.
        num_processes: number of processes, each with a device of its own.
    """
    import torch

    from bigr.inference.devices import device_name
    from bigr.inference.units import amount, duration, speed

    figures: dict[str, Any] = {
        "images": count,
        "seconds": took,
        "images_per_second": count / took,
        "tflop_per_second": flops / took / TERA,
        "device": device_name(device),
        "processes": num_processes,
        "torch": torch.__version__,
    }
    share, peak = "", None
    if device.type == "cuda":
        from lightning.fabric.utilities.throughput import get_available_flops  # takes seconds

        peak = get_available_flops(device, torch.bfloat16)
    if peak:
        figures["share_of_peak"] = flops / took / peak / num_processes
        share = f" ({figures['share_of_peak']:.0%} of the GPU's bfloat16 peak)"
    images = "1 image" if count == 1 else f"{count:,} images"
    rates = f"{speed(count / took, 'images')}, {amount(flops / took, 'FLOP/s')}{share}"
    log.info("%s in %s: %s", images, duration(took), rates)
    with (output / "speed.jsonl").open("a") as file:
        file.write(json.dumps(figures) + "\n")
