"""Figures of a generator or a B-AE: ``python -m bigr.evaluate``.

All settings are in ``conf/evaluate.yaml``.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from bigr.cli import entry as cli
from bigr.cli import reports, sweeps
from bigr.cli.configuration import ConfigError, resolved

if TYPE_CHECKING:
    from bigr.evaluation.report import Evaluation
    from bigr.inference.processes import Processes

log = logging.getLogger(__name__)

WITHOUT_INFLUENCE = (
    "paths",
    "hydra",
    "logger",
    "optimized_metric",
    "device",
    "devices",
    "num_nodes",
    "confirm",
)
FIDELITY = "bigr.evaluation.fidelity.FidelityEvaluation"
EDITS = "bigr.evaluation.edits.EditEvaluation"


def main() -> None:
    """Command line."""
    cli.run("evaluate", job, after_sweep=sweeps.finish)


def job(config: DictConfig) -> float | None:
    """Write ``metrics.json`` and pictures, print the summary table.

    Returns:
        The figure ``config.optimized_metric``, for sweepers that optimise.
    """
    with cli.user_errors():
        settings = resolved(config)
        if config.generator is not None and OmegaConf.is_missing(config, "evaluation"):
            raise ConfigError("still needed: evaluation (imagenet or digits).")
        is_shared = config.evaluation._target_ == FIDELITY
        processes = cli.processes(config, is_shared=is_shared)
    return _run(config, settings, processes)


def _run(config: DictConfig, settings: dict[str, Any], processes: Processes) -> float | None:
    output = Path(processes.broadcast(str(config.paths.output)))
    with cli.user_errors():
        identity = _identity(config, settings)
        done = processes.broadcast(_done(output, identity))
        if done is not None:
            log.info(
                "%s is there already, from the same settings and weights", output / reports.METRICS
            )
            return reports.figure(config.optimized_metric, done)
        evaluate: Callable[[], Evaluation | None]
        if config.generator is not None:
            evaluate = _of_generator(config, output, processes)
        else:
            evaluate = _of_autoencoder(config)
    if processes.is_first:
        output.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(settings, output / "config.yaml")
    with cli.user_errors():  # a reference that doesn't fit is found here
        result = evaluate()
    processes.barrier()
    if result is None:
        return None
    metrics = reports.write(result, output, settings_sha256=identity)
    reports.log_to(config, settings, result, output)
    with cli.user_errors():
        return reports.figure(config.optimized_metric, metrics)


def _identity(config: DictConfig, settings: dict[str, Any]) -> str:
    """Of settings and weights: the same ones give the same figures."""
    from bigr.evaluation.shared_models import file_state

    kept = {name: value for name, value in settings.items() if name not in WITHOUT_INFLUENCE}
    keys = ("generator", "autoencoder")
    files = [file_state(config[key]) for key in keys if config.get(key) is not None]
    text = json.dumps([kept, files], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _done(output: Path, identity: str) -> dict[str, Any] | None:
    """The figures of an earlier run of the same evaluation in this folder."""
    path = output / reports.METRICS
    if not path.is_file():
        return None
    try:
        metrics = json.loads(path.read_text())
    except ValueError:
        return None
    if not isinstance(metrics, dict) or metrics.get("settings_sha256") != identity:
        return None
    return metrics


def _of_generator(
    config: DictConfig, output: Path, processes: Processes
) -> Callable[[], Evaluation | None]:
    """Everything checked and loaded; calling it does the work."""
    from bigr.evaluation.shared_models import cached_models
    from bigr.inference.devices import check_sampler
    from bigr.inference.progress import progress

    device = processes.device or config.device
    models = cached_models(config.generator, config.autoencoder, device)
    evaluation = instantiate(config.evaluation)
    evaluation.check(models)
    sampler = instantiate(config.sampler)
    execution = instantiate(config.execution)
    check_sampler(models, sampler, execution)
    shared: dict[str, Any] = {"execution": execution}
    if config.evaluation._target_ == FIDELITY:
        shared |= {"folder": output, "processes": processes}
    if config.evaluation._target_ == EDITS:
        shared |= {"images": _held_out(config, models.autoencoder.config.image_size)}

    def evaluate() -> Evaluation | None:
        if not processes.is_first:
            return evaluation(models, sampler, **shared)
        with progress(config.evaluation.count, "images") as advance:
            return evaluation(models, sampler, advance, **shared)

    return evaluate


def _held_out(config: DictConfig, image_size: int) -> Any:
    """Images of the validation split."""
    if config.data.image_size != image_size:
        raise ConfigError(
            f"autoencoder={config.autoencoder} is for {image_size} pixels, and data.image_size is "
            f"{config.data.image_size}: choose another resolution=…."
        )
    data = instantiate(config.data)
    data.setup("validate")
    return data.val_set


def _of_autoencoder(config: DictConfig) -> Callable[[], Evaluation]:
    """The same for a B-AE and the validation split."""
    from bigr.checkpoints.load import load_autoencoder
    from bigr.inference.devices import pick_device
    from bigr.inference.progress import progress

    autoencoder = load_autoencoder(config.autoencoder)
    images = _held_out(config, autoencoder.config.image_size)
    autoencoder = autoencoder.to(pick_device(config.device))
    evaluation = instantiate(config.evaluation)
    for reason in evaluation.missing:
        log.info("left out: %s", reason)

    def evaluate() -> Evaluation:
        count = len(images)
        total = count if config.evaluation.count is None else min(count, config.evaluation.count)
        with progress(total, "images") as advance:
            return evaluation(autoencoder, images, advance)

    return evaluate


if __name__ == "__main__":
    main()
