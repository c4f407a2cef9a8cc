"""The space of a search for sampler settings, and the proposals of Optuna in it."""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bigr.sampling.sampler_config import SamplerConfig
from bigr.schema import from_dict

Settings = dict[str, Any]
Space = Mapping[str, Any]
"""For each setting ``{low: …, high: …}``, or a list of values."""


class Trial(NamedTuple):
    """A finished trial of a search."""

    number: int
    settings: Settings
    """What was changed in the sampler of the command."""
    cost: float
    """Floating-point operations of one image, in units of 10^9."""
    quick: float | None
    """Score of the first images, lower is better; None if they would have cost too much."""
    score: float | None
    """Score of all images, lower is better; None if the trial ended early."""


def check_space(space: Space) -> None:
    """Raise ``ValueError`` for a name that is no setting of the sampler, or for other values."""
    for name, values in space.items():
        is_range = isinstance(values, Mapping) and {*values} == {"low", "high"}
        is_known = name in SamplerConfig.__dataclass_fields__
        if not is_known or not (is_range or isinstance(values, list | tuple)):
            raise ValueError(
                f"evaluation.space.{name}={values}: give a setting of the sampler either a list of "
                "values or {low: …, high: …}."
            )


def propose(space: Space, finished: Sequence[Trial], seed: int) -> Settings:
    """Return the settings that Optuna proposes next.

    Args:
        space: see :data:`Space`.
        finished: all trials so far. Those that ended early count with the score of their first
            images, or with the worst of these scores.
        seed: seed of the proposal.
    """
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed)
        study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
        blank = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
        _suggest(space, blank)
        worst = max(
            (trial.quick for trial in finished if trial.quick is not None), default=math.inf
        )
        for trial in finished:
            known = [value for value in (trial.score, trial.quick, worst) if value is not None]
            if trial.settings and known[0] < math.inf:
                study.add_trial(
                    optuna.trial.create_trial(
                        params=_indices(space, trial.settings),
                        distributions=blank.distributions,
                        values=[known[0], trial.cost],
                    )
                )
        return _suggest(space, study.ask())


def _suggest(space: Space, trial: Any) -> Settings:
    """Return a value for each setting of the space; a list is searched by its indices."""
    settings: Settings = {}
    for name, values in space.items():
        if not isinstance(values, Mapping):
            settings[name] = values[trial.suggest_categorical(name, list(range(len(values))))]
        elif all(isinstance(values[end], int) for end in ("low", "high")):
            settings[name] = trial.suggest_int(name, values["low"], values["high"])
        else:
            settings[name] = trial.suggest_float(name, values["low"], values["high"])
    return settings


def _indices(space: Space, settings: Settings) -> Settings:
    """Return the settings of a trial as the parameters of Optuna."""
    found = {}
    for name, value in settings.items():
        values = space[name]
        found[name] = value if isinstance(values, Mapping) else list(values).index(value)
    return found


def with_settings(sampler: SamplerConfig, settings: Settings) -> SamplerConfig:
    """Return a sampler's settings with others, checked like those of a file."""
    return from_dict(SamplerConfig, {**sampler.to_dict(), **settings})


def plain_settings(settings: Settings) -> Settings:
    """Return the content of a preset file: only lists, numbers and text."""
    plain = json.loads(json.dumps(settings))
    return {name: value for name, value in plain.items() if value is not None}
