"""Search for settings of the sampler: good scores for little arithmetic, with Optuna.

Each trial samples with other settings and scores a few images. Trials that cost too much, or are
clearly worse than a cheaper one, end early. The best settings within each budget are then scored
with more images and other seeds, and become presets (``sampler=FILE`` of every command).

Every finished trial is a file, so that a search can be interrupted and continued, and that several
processes can share it. Optuna proposes the settings of a trial from all files that exist then.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from annotated_types import Ge, Le

from bigr.checkpoints.identity import weights_sha256
from bigr.data.files import write_atomically
from bigr.data.sealed_json import read_sealed, seal
from bigr.evaluation import plots
from bigr.evaluation.evaluator import EvaluationContext, OnBatch
from bigr.evaluation.report import Report
from bigr.evaluation.search_space import Trial, check_space, plain_settings, propose, with_settings
from bigr.evaluation.sweep_table import is_better
from bigr.inference.processes import ALONE
from bigr.sampling.sampler import Sampler
from bigr.sampling.sampler_config import SamplerConfig
from bigr.schema import NonNegativeInt, PositiveInt, check_fields

log = logging.getLogger(__name__)

COST_IMAGES = 16
"""Number of images that are sampled to measure the arithmetic of one image."""
QUICK_SHARE = 4
"""A trial is first scored with one in this many of its images."""
MARGIN = 1.2
"""A trial ends early if a cheaper one was better than it by this factor after the first images."""


@dataclasses.dataclass(kw_only=True)
class SamplerSearch:
    """Search for settings of the sampler, and write presets.

    Args:
        quality: an evaluation with the fields ``count`` and ``seed``, which scores the images.
        metric: the figure of ``quality`` to optimise, such as ``fid`` or ``digits_frechet``.
        space: for each setting of :class:`bigr.SamplerConfig` either ``{low: …, high: …}``, whole
            numbers or not, or a list of values.
        trials: number of trials of all processes. The first has the settings of the command.
        budgets: for each preset, the most arithmetic of an image, as a share of that of the paper's
            settings (``sampler=paper_l``). Trials above the largest one end early.
        candidates: number of settings within each budget that are scored again.
        confirm_count: images for that, each time.
        confirm_repeats: how often, with other seeds than the trials.
        seed: seed of the proposals.
    """

    is_shared = True
    quality: Any
    metric: str
    space: Mapping[str, Any]
    budgets: Mapping[str, float]
    trials: Annotated[int, Ge(1), Le(100_000)] = 60
    candidates: PositiveInt = 2
    confirm_count: PositiveInt = 1000
    confirm_repeats: PositiveInt = 3
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_fields(self)
        check_space(self.space)

    def check(self, context: EvaluationContext) -> None:
        """Raise ``ValueError`` if Optuna is missing, or the images cannot be scored."""
        logging.getLogger("alembic").setLevel(logging.WARNING)  # lists its plugins on import
        try:
            import optuna  # noqa: F401
        except ImportError as error:
            raise ValueError(
                "evaluation=search needs Optuna: pip install 'bigr-lightning[sweep]'."
            ) from error
        self.quality.check(context)

    def num_images(self, context: EvaluationContext) -> int:  # noqa: ARG002
        """Return the most images that are scored, for the progress bar."""
        again = len(self.budgets) * self.candidates * self.confirm_repeats * self.confirm_count
        return self.trials * int(self.quality.count) + again

    def __call__(
        self, context: EvaluationContext, on_batch: OnBatch = lambda _: None
    ) -> Report | None:
        """Run the trials that no process has finished, and confirm the best ones.

        Raises:
            ValueError: if the folder holds another search, or no trial is within any budget.
        """
        processes = context.processes
        folder = context.output / "trials"
        identity = self._identity(context)
        paper = self._cost(context, SamplerConfig())
        # 1. The trials of this process. Nothing is computed twice after an interruption.
        for number in range(processes.rank, self.trials, processes.count):
            path = folder / f"{number:05}.json"
            if not path.exists():
                trial = self._run(
                    context, number, self._finished(folder, identity), paper, on_batch
                )
                folder.mkdir(parents=True, exist_ok=True)
                write_atomically(path, seal({"search": identity, **trial._asdict()}))
        processes.barrier()
        if not processes.is_first:
            return None
        # 2. The best ones within each budget, with more images and other seeds.
        found = self._finished(folder, identity)
        confirmed, missing = {}, list[str]()
        for name, share in self.budgets.items():
            within = [t for t in found if t.score is not None and t.cost <= share * paper]
            if not within:
                missing.append(
                    f"evaluation.budgets.{name}={share}: none of the {len(found)} trials takes so "
                    "little arithmetic: give larger budgets, or a space with cheaper settings."
                )
                log.warning("%s", missing[-1])
                continue
            best = sorted(within, key=lambda trial: trial.score or 0.0)[: self.candidates]
            scored = [(trial, self._confirm(context, trial, on_batch)) for trial in best]
            confirmed[name] = min(scored, key=lambda pair: self._mean(pair[1]))
        if not confirmed:
            raise ValueError(missing[-1])
        return self._report(context, found, confirmed, paper)

    def _identity(self, context: EvaluationContext) -> str:
        """Return a checksum of everything that the trials depend on."""
        parts = {
            "generator": weights_sha256(context.models.generator),
            "sampler": context.sampler.to_dict(),
            "quality": dataclasses.asdict(self.quality),
            "search": [self.metric, dict(self.space), dict(self.budgets), self.seed],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def _finished(self, folder: Path, identity: str) -> list[Trial]:
        """Return all finished trials, by number."""
        trials = []
        for path in sorted(folder.glob("*.json")):
            content = read_sealed(path)
            if content["search"] != identity:
                raise ValueError(
                    f"{folder} holds another search: give another hydra.run.dir=…, or delete it."
                )
            trials.append(Trial(**{name: content[name] for name in Trial._fields}))
        return trials

    def _run(
        self,
        context: EvaluationContext,
        number: int,
        finished: Sequence[Trial],
        paper: float,
        on_batch: OnBatch,
    ) -> Trial:
        """Run one trial; it ends early if it costs too much, or is clearly worse than another."""
        settings = {} if number == 0 else propose(self.space, finished, self.seed + number)
        sampler = with_settings(context.sampler, settings)
        cost = self._cost(context, sampler)
        trial = Trial(number, settings, cost, None, None)
        if number > 0 and cost > max(self.budgets.values()) * paper:
            log.info("trial %d: too much arithmetic (%.3g GFLOPs per image)", number, cost)
            return trial
        quick = self._score(context, sampler, max(2, self.quality.count // QUICK_SHARE), number)
        trial = trial._replace(quick=quick)
        for other in finished:
            is_worse = other.quick is not None and quick > MARGIN * other.quick
            if number > 0 and other.score is not None and other.cost <= cost and is_worse:
                log.info("trial %d: clearly worse than trial %d", number, other.number)
                return trial
        score = self._score(context, sampler, self.quality.count, number)
        on_batch(int(self.quality.count))
        log.info("trial %d: %s %.4g, %.3g GFLOPs per image", number, self.metric, score, cost)
        return trial._replace(score=score)

    def _cost(self, context: EvaluationContext, sampler: SamplerConfig) -> float:
        """Return the arithmetic of sampling one image, in 10^9 operations."""
        runner = Sampler(sampler, context.execution)
        model = context.models.generator
        classes = torch.arange(COST_IMAGES) % model.config.num_classes
        runner.sample(model, classes, seeds=range(COST_IMAGES))
        return runner.flops / COST_IMAGES / 1e9

    def _score(
        self, context: EvaluationContext, sampler: SamplerConfig, count: int, number: int
    ) -> float:
        """Return the score of ``count`` images, as a number that is to become small."""
        quality = dataclasses.replace(self.quality, count=count)
        return self._figures(context, sampler, quality, f"images/{number:05}_{count}")[0]

    def _figures(
        self, context: EvaluationContext, sampler: SamplerConfig, quality: Any, place: str
    ) -> tuple[float, dict[str, float]]:
        """Return the score, and all figures of an evaluation."""
        own = dataclasses.replace(
            context, sampler=sampler, output=context.output / place, processes=ALONE
        )
        own.output.mkdir(parents=True, exist_ok=True)
        report = quality(own, lambda _: None)
        if self.metric not in report.figures:
            raise ValueError(
                f"evaluation.metric={self.metric}: there is no such score; it can be "
                f"{', '.join(report.figures)}."
            )
        for clean in report.cleanup:
            clean()
        return -is_better(self.metric) * report.figures[self.metric], report.figures

    def _confirm(
        self, context: EvaluationContext, trial: Trial, on_batch: OnBatch
    ) -> list[dict[str, float]]:
        """Return the figures of a trial's settings with more images, one for each repetition."""
        sampler, found = with_settings(context.sampler, trial.settings), []
        for repeat in range(1, self.confirm_repeats + 1):
            seed = self.quality.seed + repeat * max(self.confirm_count, self.quality.count)
            quality = dataclasses.replace(self.quality, count=self.confirm_count, seed=seed)
            place = f"images/{trial.number:05}_confirmed_{repeat}"
            found.append(self._figures(context, sampler, quality, place)[1])
            on_batch(self.confirm_count)
        return found

    def _mean(self, repeats: Sequence[Mapping[str, float]]) -> float:
        """Return the mean score of repetitions; lower is better."""
        return -is_better(self.metric) * statistics.fmean(one[self.metric] for one in repeats)

    def _report(
        self,
        context: EvaluationContext,
        found: Sequence[Trial],
        confirmed: Mapping[str, tuple[Trial, list[dict[str, float]]]],
        paper: float,
    ) -> Report:
        """Return the table of the presets, their files, and the plot of all trials."""
        report = Report(metrics={"trials": len(found), "paper_gflops": paper, "presets": {}})
        names = list(next(iter(confirmed.values()))[1][0])
        report.columns = ("GFLOPs per image", *names)
        for name, (trial, repeats) in confirmed.items():
            settings = with_settings(context.sampler, trial.settings).to_dict()
            means = {key: statistics.fmean(one[key] for one in repeats) for key in names}
            spreads = {
                key: statistics.stdev(one[key] for one in repeats) if len(repeats) > 1 else 0.0
                for key in names
            }
            cells = [f"{means[key]:.4g} ± {spreads[key]:.2g}" for key in names]
            report.rows.append((name, f"{trial.cost:.3g} ({trial.cost / paper:.0%})", *cells))
            report.figures |= {f"{name}_{self.metric}": means[self.metric]}
            report.metrics["presets"][name] = {
                "settings": settings, "gflops": trial.cost, "mean": means, "spread": spreads,
            }  # fmt: skip
            score = cells[names.index(self.metric)]
            note = f"# Found by {len(found)} trials for {context.title}: {self.metric} {score}.\n"
            text = note + yaml.safe_dump(plain_settings(settings), sort_keys=False)
            report.files[f"{name}.yaml"] = _writer(text)
            report.captions[f"{name}.yaml"] = f"the preset {name}, for sampler=FILE"
        points = [(t.cost, -t.score, str(t.number)) for t in found if t.score is not None]
        report.files["front.png"] = lambda path: plots.front(
            path, points, x="GFLOPs per image", y=f"{self.metric}, larger is better"
        )
        report.captions["front.png"] = "all finished trials, and those that none beats in both"
        return report


def _writer(text: str) -> Any:
    return lambda path: write_atomically(path, text.encode())
