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
from bigr.cli.configuration import ConfigError, resolved
from bigr.cli.next_steps import after_evaluation, chosen_option
from bigr.schema import ExistingPath, NonNegativeInt, PositiveInt

if TYPE_CHECKING:
    from bigr.evaluation.evaluator import EvaluationContext
    from bigr.inference.processes import Processes

log = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class EvaluationSettings(cli.ProcessSettings):
    """The values at the top level of ``conf/evaluate.yaml`` and ``conf/probe.yaml``."""

    pretrained: str | None
    released: dict[str, Any]
    generator: ExistingPath | None
    autoencoder: ExistingPath | None
    samples: str | None = None
    against: str | None = None
    reference: str | None = None
    optimized_metric: str | None
    confirm: PositiveInt | None
    seed: NonNegativeInt = 0


def evaluate(config: DictConfig) -> float | None:
    """Write ``metrics.json`` and pictures, and print the table of figures.

    The node ``evaluation`` names an :class:`bigr.evaluation.evaluator.Evaluator`.
    An evaluation that has already been finished with the same settings and weights is not repeated.

    Returns:
        The figure ``config.optimized_metric``, for sweepers that optimise it.
    """
    with cli.run_folder(config):
        return _evaluate(config)


def _evaluate(config: DictConfig) -> float | None:
    with cli.user_errors():
        # 1. What to evaluate, where, and whether that has been done before.
        settings = resolved(config)
        _check_used(config, "samples", "against", "reference")
        evaluator_class = get_object(config.evaluation._target_)
        processes = cli.processes(config, is_shared=getattr(evaluator_class, "is_shared", False))
        output = Path(processes.broadcast(str(config.paths.output)))
        identity = _identity(config, settings)
        done = processes.broadcast(reports.finished(output, identity))
        if done is not None:
            log.info(
                "%s already exists for the same settings and weights", output / reports.METRICS
            )
            if processes.is_first:
                reports.show(done)
            return reports.figure(config.optimized_metric, done)
        # 2. Models and data are loaded, and everything is checked before work begins.
        context = _context(config, output, processes)
        evaluator = instantiate(config.evaluation, _convert_="all")
        evaluator.check(context)
        total = evaluator.num_images(context)
        if processes.is_first:
            output.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(settings, output / "config.yaml")
            option = chosen_option("evaluation")
            name = f"evaluation={option}" if option else type(evaluator).__name__
            what = context.title
            log.info(
                "evaluating %s with %s images (%s); results: %s",
                *(what, f"{total:,}", name, output),
            )
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
    with cli.user_errors():
        metrics = reports.write(
            report,
            output,
            title=context.title,
            settings_sha256=identity,
            weights_sha256=context.checksums(),
        )
        reports.log_to(config, settings, report, output)
        command = after_evaluation(config)
        if command is not None:
            log.info("next, a sweep: %s", command)
        return reports.figure(config.optimized_metric, metrics)


def _check_used(config: DictConfig, *keys: str) -> None:
    """Raise ``ConfigError`` for images that the chosen evaluation would ignore."""
    for key in keys:
        nodes = (config.evaluation, config.evaluation.get("quality") or {})
        if config.get(key) is not None and not any(key in node for node in nodes):
            raise ConfigError(
                f"{key}={config[key]} has no effect on this evaluation: leave out evaluation=…, "
                f"or {key}=…."
            )


def _identity(config: DictConfig, settings: dict[str, Any]) -> str:
    from bigr.evaluation.evaluator import file_state
    from bigr.evaluation.stored_images import files_below

    models = [config.get(key) for key in ("generator", "autoencoder")]
    states: list[Any] = [file_state(path) for path in models if path is not None]
    for key in ("samples", "against", "reference", "sampler.guide"):
        path = Path(str(OmegaConf.select(config, key))).expanduser()
        if path.exists():
            states.append(list(files_below(path)) if path.is_dir() else file_state(str(path)))
    return reports.identity(settings, states)


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
        title=_title(config),
    )
    if context.data is not None:
        context.check_image_size()
        context.data.prepare_data()
        context.data.setup("validate")
    return context


def _title(config: DictConfig) -> str:
    """Return the name that the user gave to what is evaluated."""
    given = [config.get(key) for key in ("pretrained", "samples", "generator", "autoencoder")]
    return next((str(name) for name in given if name), config.evaluation._target_)
