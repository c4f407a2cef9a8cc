"""Run the evaluation of a configuration: compose, build a context, check, run, report."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from bigr.cli import entry as cli
from bigr.cli import reports
from bigr.cli.configuration import resolved
from bigr.schema import ExistingPath, NonNegativeInt, PositiveInt

if TYPE_CHECKING:
    from bigr.evaluation.evaluator import EvaluationContext
    from bigr.inference.processes import Processes

log = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class EvaluationSettings(cli.ProcessSettings):
    """The values at the top level of ``conf/evaluate.yaml`` and ``conf/probe.yaml``."""

    generator: ExistingPath | None
    autoencoder: ExistingPath | None
    optimized_metric: str | None
    confirm: PositiveInt | None
    seed: NonNegativeInt = 0


def evaluate(config: DictConfig) -> float | None:
    """Write ``metrics.json`` and pictures, and print the table of figures.

    The node ``evaluation`` names an :class:`bigr.evaluation.evaluator.Evaluator`.
    An evaluation that was finished before, with the same settings and weights, is not repeated.

    Returns:
        The figure ``config.optimized_metric``, for sweepers that optimise it.
    """
    with cli.user_errors():
        # 1. What is to be done, where, and whether it was done before.
        settings = resolved(config)
        evaluator_class = get_object(config.evaluation._target_)
        processes = cli.processes(config, is_shared=getattr(evaluator_class, "is_shared", False))
        output = Path(processes.broadcast(str(config.paths.output)))
        identity = _identity(config, settings)
        done = processes.broadcast(reports.finished(output, identity))
        if done is not None:
            log.info("%s exists, from the same settings and weights", output / reports.METRICS)
            return reports.figure(config.optimized_metric, done)
        # 2. Models and data are loaded, and everything is checked before work begins.
        context = _context(config, output, processes)
        evaluator = instantiate(config.evaluation, _convert_="all")
        evaluator.check(context)
        total = evaluator.num_images(context)
        if processes.is_first:
            output.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(settings, output / "config.yaml")
        # 3. The evaluation itself, with a progress bar in the first process.
        from bigr.inference.progress import progress

        with contextlib.ExitStack() as stack:
            advance: Any = lambda _: None  # noqa: E731
            if processes.is_first:
                advance = stack.enter_context(progress(total, "images"))
            report = evaluator(context, advance)
    processes.barrier()
    if report is None:
        return None
    metrics = reports.write(report, output, settings_sha256=identity)
    reports.log_to(config, settings, report, output)
    with cli.user_errors():
        return reports.figure(config.optimized_metric, metrics)


def _identity(config: DictConfig, settings: dict[str, Any]) -> str:
    from bigr.evaluation.evaluator import file_state

    files = [config.get(key) for key in ("generator", "autoencoder")]
    return reports.identity(settings, [file_state(file) for file in files if file is not None])


def _context(config: DictConfig, output: Path, processes: Processes) -> EvaluationContext:
    """Load the models, and set up the data if the configuration has a node for it."""
    from bigr.evaluation.evaluator import load_context

    context = load_context(
        config.generator,
        config.autoencoder,
        processes.device or config.device,
        sampler=instantiate(config.sampler),
        execution=instantiate(config.execution),
        data=instantiate(config.data) if "data" in config else None,
        output=output,
        processes=processes,
    )
    if context.data is not None:
        context.check_image_size()
        context.data.prepare_data()
        context.data.setup("validate")
    return context
