"""Sampling recipes against a constant guidance scale, on the installed models.

    python bench/recipes.py run       # each recipe alone, all at equal arithmetic
    python bench/recipes.py presets   # the presets best, fast and draft
    python bench/recipes.py table     # the tables of docs/recipes.md, from the results so far

Every result is a small JSON file in ``docs/recipes``. After an interruption, the same command
continues, and finished results are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bigr import BiGRPipeline, ExecutionConfig, Sampler, SamplerConfig  # noqa: E402
from bigr.data.files import write_atomically  # noqa: E402
from bigr.data.image_arrays import to_uint8  # noqa: E402
from bigr.evaluation.own_classifier import own_network  # noqa: E402
from bigr.evaluation.references import cached_reference  # noqa: E402
from bigr.evaluation.report_text import markdown_table  # noqa: E402
from bigr.inference.generate import Models, class_labels, generate_batches  # noqa: E402
from bigr.inference.processes import ALONE  # noqa: E402
from bigr.metrics.feature_networks import load_network  # noqa: E402
from bigr.metrics.features import FeatureNetwork  # noqa: E402
from bigr.metrics.statistics import FeatureStatistics, Reference, compare  # noqa: E402
from bigr.presets import load_preset  # noqa: E402

RESULTS = ROOT / "docs" / "recipes"
PAGE = ROOT / "docs" / "recipes.md"
COUNTS = {"digits": 1000, "fashion": 250}
"""Images of one result."""
FASHION = "/usr/share/datasets/fashion-mnist"
EXECUTION = ExecutionConfig()
BATCH_SIZE = 125
COST_IMAGES = 16
NUM_CLASSES = 10
FIGURES = ("accuracy", "frechet", "precision", "recall")
COSTS = ("seconds", "gflop")
HEADINGS = (
    *("", "seeds", "accuracy", "Fréchet distance", "precision", "recall"),
    *("CPU seconds per image", "GFLOP per image"),
)
CONSTANT, OWN = "constant", "own"
DEFAULTS: dict[str, dict[str, Any]] = {
    "digits": {"guidance_scale": 1.15, "guidance_interval": (0.0, 1.0), "temperature": 1.0},
    "fashion": {
        "guidance_scale": 3.0,
        "guidance_schedule": "constant",
        "guidance_power": 1.0,
        "temperature": 1.0,
    },
}
"""Changes of the models' settings that give the constant scale of earlier versions."""
PAPER = SamplerConfig()
"""Budgets are shares of the arithmetic of these settings."""
SHORT: dict[str, Any] = {"num_iterations": 8, "num_denoise_steps": 20}
"""Recipes alone are compared with fewer iterations and steps, where they have more to improve."""
EARLY: dict[str, Any] = {"guidance_interval": (0.0, 0.1)}
"""Guidance of the first of eight iterations; the scale is then not adapted."""
CORRECTOR = {"corrector_share": 0.1, "corrector_interval": (0.5, 1.0)}
RECIPES: dict[str, dict[str, Any]] = {
    CONSTANT: {},
    "guidance rises linearly": {"guidance_schedule": "linear"},
    "guidance rises along a cosine": {"guidance_schedule": "cosine"},
    "power-cosine guidance, p = 3": {"guidance_schedule": "cosine", "guidance_power": 3.0},
    "guidance of the first iteration only, with a scale of 3": {**EARLY, "guidance_scale": 3.0},
    "guidance at low noise levels, t/T in [0, 0.5]": {"guidance_levels": (0.0, 0.5)},
    "order: confidence": {"order": "confidence"},
    "order: random": {"order": "random"},
    "order: Halton": {"order": "halton"},
    "order: raster": {"order": "raster"},
    "fewer tokens at first (mask_power = 1.5)": {"mask_power": 1.5},
    "more tokens at first (mask_power = 0.7)": {"mask_power": 0.7},
    "Gumbel noise falls": {"gumbel_schedule": "down"},
    "temperature 1.1": {"temperature": 1.1},
    "temperature falls from 1.1 to 0.9": {"temperature_schedule": (1.1, 0.9)},
    "corrector, 10% of the tokens in the second half": CORRECTOR,
}
"""Changes of the model's own settings, in addition to :data:`SHORT`."""
PRESETS = ("best", "fast", "draft")
BUDGETS = {"fast": 0.25, "draft": 0.05}
"""Most arithmetic of a preset, as a share of that of the paper's settings."""
PRESET_SEED = 200_000
"""First seed of the scores of presets; nothing was chosen by these images."""


class Task(NamedTuple):
    """A model with the network that scores its images."""

    models: Models
    sampler: SamplerConfig
    network: FeatureNetwork
    reference: Reference


@functools.cache
def scoring_network(dataset: str, image_size: int) -> FeatureNetwork:
    """Return the network whose features and classes score images of a data set.

    The classifier of clothes is trained once and kept in the cache.
    """
    if dataset == "digits":
        return load_network("digits", None, None)
    return own_network(
        FASHION,
        image_size,
        split="val",
        processes=ALONE,
        training=FASHION,
        name=dataset,
        max_steps=6000,
    )


@functools.cache
def load(dataset: str) -> Task:
    """Return an installed model with the network and reference of its evaluation in the library."""
    pipeline = BiGRPipeline.from_pretrained(dataset, device="cpu")
    size, where = pipeline.image_size, "digits" if dataset == "digits" else FASHION
    network = scoring_network(dataset, size)
    reference = cached_reference(
        where, network, size, split="val", processes=ALONE, device=torch.device("cpu")
    )
    return Task(pipeline.models, pipeline.sampler_config, network, reference)


@functools.cache
def cost(dataset: str, sampler: SamplerConfig) -> float:
    """Return the arithmetic of an image, in 10^9 operations."""
    model, runner = load(dataset).models.generator, Sampler(sampler, EXECUTION)
    runner.sample(model, torch.arange(COST_IMAGES) % NUM_CLASSES, seeds=range(COST_IMAGES))
    return runner.flops / COST_IMAGES / 1e9


def score(dataset: str, sampler: SamplerConfig, count: int, seed: int) -> dict[str, float]:
    """Return the figures of images of an installed model, see :func:`score_task`."""
    return score_task(load(dataset), sampler, count, seed)


def score_task(task: Task, sampler: SamplerConfig, count: int, seed: int) -> dict[str, float]:
    """Return the figures of ``count`` images, as evenly distributed over the classes as possible.

    ``seconds`` are those of one image, in CPU time, and ``gflop`` is its arithmetic.
    """
    runner = Sampler(sampler, EXECUTION)
    labels = class_labels(count, NUM_CLASSES, "balanced", seed)
    began = time.process_time()
    batches = generate_batches(task.models, runner, labels, seed=seed, batch_size=BATCH_SIZE)
    images = torch.cat([batch.images for batch in batches])
    seconds = time.process_time() - began
    features = task.network(to_uint8(images))
    found = FeatureStatistics(device="cpu")
    found.update(features)
    values = compare(found, task.reference)
    assert features.logits is not None
    values["accuracy"] = float((features.logits.argmax(dim=1) == labels).double().mean())
    values["frechet"] = values["fid"]
    figures = {name: values[name] for name in FIGURES}
    return {**figures, "seconds": seconds / count, "gflop": runner.flops / count / 1e9}


def recipe(dataset: str, changes: dict[str, Any]) -> SamplerConfig:
    """Return the model's settings with a recipe, at equal arithmetic.

    A guidance schedule gets a scale with which the mean of s - 1 over the iterations is that of the
    constant scale. The number of denoising steps becomes the one with which the arithmetic is
    closest to that of the constant scale.
    """
    base = dataclasses.replace(load(dataset).sampler, **DEFAULTS[dataset], **SHORT)
    changed = dataclasses.replace(base, **changes)
    if changed == base:
        return base
    if "guidance_schedule" in changes:
        schedule, n = Sampler(changed).guidance_schedule, base.num_iterations
        weights = [schedule.scale(i, n, 2.0) - 1.0 for i in range(1, n + 1)]
        scale = 1.0 + (base.guidance_scale - 1.0) / statistics.fmean(weights)
        changed = dataclasses.replace(changed, guidance_scale=round(scale, 2))
    few, many = base.num_denoise_steps // 2, base.num_denoise_steps
    least, most = (
        cost(dataset, dataclasses.replace(changed, num_denoise_steps=steps))
        for steps in (few, many)
    )
    steps = few + (cost(dataset, base) - least) * (many - few) / (most - least)
    most_steps = load(dataset).models.generator.config.num_diffusion_steps
    steps = min(max(round(steps), 2), most_steps)
    return dataclasses.replace(changed, num_denoise_steps=steps)


def run(datasets: list[str], seeds: list[int]) -> None:
    """Score each recipe alone with each seed."""
    for seed, dataset, name in itertools.product(seeds, datasets, RECIPES):
        path = RESULTS / dataset / f"{slug(name)}-{seed}.json"
        if path.exists():
            continue
        sampler = recipe(dataset, RECIPES[name])
        if RECIPES[name] and sampler == recipe(dataset, {}):
            continue  # the order of the model's own settings
        count = COUNTS[dataset]
        figures = score(dataset, sampler, count, seed * 10_000)
        save(path, {"recipe": name, "seed": seed * 10_000, "count": count}, sampler, figures)


def presets(datasets: list[str], seeds: list[int]) -> None:
    """Score the presets, the models' own settings and the constant scale with each seed."""
    for seed, dataset, name in itertools.product(seeds, datasets, (CONSTANT, OWN, *PRESETS)):
        path = RESULTS / dataset / f"preset-{name}-{seed}.json"
        if not path.exists():
            first, count = PRESET_SEED + seed * 10_000, COUNTS[dataset]
            sampler = preset(dataset, name)
            figures = score(dataset, sampler, count, first)
            save(path, {"preset": name, "seed": first, "count": count}, sampler, figures)


def preset(dataset: str, name: str) -> SamplerConfig:
    """Return the settings of a model with a preset, or with a constant scale."""
    own, changes = load(dataset).sampler, {OWN: {}, CONSTANT: DEFAULTS[dataset]}
    values = changes[name] if name in changes else load_preset("sampler", name)
    return SamplerConfig(**{**own.to_dict(), **values})


def slug(name: str) -> str:
    """Return a name of a file for a recipe."""
    words = "".join(letter if letter.isalnum() else " " for letter in name.lower()).split()
    return "-".join(words)


def save(path: Path, about: dict[str, Any], sampler: SamplerConfig, figures: Any) -> None:
    """Write a result with everything that it depends on."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    print(path.stem, {name: round(value, 4) for name, value in figures.items()}, flush=True)
    details = {
        "precision": EXECUTION.precision,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit,
    }
    changed = {
        name: value for name, value in sampler.to_dict().items() if value != getattr(PAPER, name)
    }
    write(path, {**about, "figures": figures, "sampler": changed, **details})


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def table() -> None:
    """Write the tables of the page, between its comments ``results: NAME`` and ``end: NAME``."""
    text = PAGE.read_text()
    for dataset in COUNTS:
        found = [
            json.loads(path.read_text()) for path in sorted((RESULTS / dataset).glob("*.json"))
        ]
        alone = {name: [one for one in found if one.get("recipe") == name] for name in RECIPES}
        presets = {
            name: [one for one in found if one.get("preset") == name]
            for name in (CONSTANT, OWN, *PRESETS)
        }
        for kind, groups in (("recipes", alone), ("presets", presets)):
            name = f"{kind} {dataset}"
            body = "\n".join(("", "", markdown_table(HEADINGS, rows(groups)), ""))
            pattern = rf"(<!-- results: {name} -->).*(<!-- end: {name} -->)"
            text = re.sub(pattern, rf"\g<1>{body}\g<2>", text, flags=re.DOTALL)
    write_atomically(PAGE, text.encode())


def rows(groups: dict[str, list[dict[str, Any]]]) -> list[tuple[str, ...]]:
    """Return a row for each group of results, with the mean and the spread over the seeds."""
    found = []
    for name, results in groups.items():
        figures = {key: [one["figures"][key] for one in results] for key in (*FIGURES, *COSTS)}
        cells = [
            f"{statistics.fmean(values):.3g}"
            + (f" ± {statistics.stdev(values):.2g}" if len(values) > 1 and key in FIGURES else "")
            for key, values in figures.items()
            if values
        ]
        if results:
            found.append((name, str(len(results)), *cells))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "presets", "table"])
    parser.add_argument("--datasets", nargs="+", choices=COUNTS, default=list(COUNTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    if options.command == "run":
        run(options.datasets, options.seeds)
    elif options.command == "presets":
        presets(options.datasets, options.seeds)
    else:
        table()
