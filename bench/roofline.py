"""Least times of training and sampling on a GPU, computed on paper: ``python bench/roofline.py``.

It prints the tables of ``docs/performance.md``. Nothing is measured. An operation takes at least
the time in which the GPU moves its bytes, and at least the time of its arithmetic, at the rates of
the data sheets. ``bench/step_work.py`` counts both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.scaling import GPUS, UPDATE_BYTES, Gpu, significant, table  # noqa: E402
from bench.step_work import (  # noqa: E402
    ATTENTION,
    PRODUCTS,
    SMALL_PRODUCTS,
    WEIGHT_CASTS,
    Work,
    chain_step,
    training_step,
    transformer_pass,
)
from bigr import BiGRConfig, SamplerConfig  # noqa: E402
from bigr.models.flops import (  # noqa: E402
    chain_flops,
    denoiser_flops,
    mean_masked_share,
    training_flops,
    transformer_flops,
)
from bigr.sampling.mask_schedules import MASK_SCHEDULES  # noqa: E402

USED = GPUS[:2]
"""A100 and H100."""
BATCHES = {"l": 128, "xl": 64, "xxl": 32}
"""Images per GPU in training."""
SAMPLED = (1, 8, 64)
"""Images that are sampled together."""


def seconds(works: Iterable[Work], gpu: Gpu, *parts: str, is_fused: bool = False) -> float:
    """Return the least time of some parts, or of all."""
    return sum(w.seconds(gpu, is_fused=is_fused) for w in works if not parts or w.part in parts)


def pair(works: list[Work], *parts: str, is_fused: bool = False) -> str:
    """Return the milliseconds on both GPUs."""
    times = (1000 * seconds(works, gpu, *parts, is_fused=is_fused) for gpu in USED)
    return " / ".join(significant(time, 2 if time < 100 else 3) for time in times)


def preset(name: str) -> BiGRConfig:
    """Return the sizes of a model with 24 bits at 256x256 pixels."""
    return BiGRConfig.preset(name, grid_size=16, code_dim=24, num_classes=1000)


def training_tables() -> dict[str, list[str]]:
    """Return the tables of training by their names."""
    steps = {name: training_step(preset(name), batch) for name, batch in BATCHES.items()}
    products = (PRODUCTS, SMALL_PRODUCTS, ATTENTION)
    rows, parts = [], list(dict.fromkeys(work.part for work in steps["l"]))
    for part in sorted(parts, key=lambda part: -seconds(steps["l"], USED[1], part)):
        cells = []
        for works in steps.values():
            is_same = all(w.bytes == w.fused for w in works if w.part == part)
            fused = "the same" if is_same else pair(works, part, is_fused=True)
            cells += [pair(works, part), fused]
        rows.append([part, *cells])
    total = [c for works in steps.values() for c in (pair(works), pair(works, is_fused=True))]
    head = [
        cell
        for name, batch in BATCHES.items()
        for cell in (f"{name.upper()}, {batch} images", "fused")
    ]
    shares = []
    for name, works in steps.items():
        flops = BATCHES[name] * training_flops(
            preset(name), masked_share=mean_masked_share(preset(name))
        )
        shares.append([
            f"{name.upper()}, {BATCHES[name]} images", f"{flops / 1e12:.0f} TFLOP",
            pair(works, *products), pair(works, *UPDATE_BYTES),
            *(" / ".join(f"{flops / gpu.flops / seconds(works, gpu, is_fused=fused):.0%}"
                         for gpu in USED) for fused in (False, True)),
        ])  # fmt: skip
    return {
        "training": table(["part", *head], [*rows, ["sum", *total]]),
        "bounds": table(
            ["", "arithmetic", "products and attention", "update of the weights",
             "highest MFU, eager", "highest MFU, fused"], shares,
        ),
    }  # fmt: skip


def arithmetic() -> list[list[str]]:
    """Return the rows about one image of L with the paper's settings."""
    config, settings, schedule = preset("l"), SamplerConfig(), MASK_SCHEDULES["cosine"]
    n, steps, tokens = settings.num_iterations, settings.num_denoise_steps, config.seq_len
    masked = sum(schedule.num_masked(i, n, tokens) for i in range(n))
    one_pass, chain = transformer_flops(config), chain_flops(config, steps)
    flops = {
        "all passes": 2 * n * one_pass,
        "one pass shared": (2 * n - 1) * one_pass,
        "all tokens": 2 * n * tokens * steps * denoiser_flops(config),
        "once per token": 2 * tokens * chain,
        "masked tokens": 2 * masked * chain,
    }
    cells = {name: significant(count / 1e12, 2) for name, count in flops.items()}
    return [
        ["transformer, with and without the class", f"{cells['all passes']} TFLOP",
         f"{cells['one pass shared']} TFLOP, because a batch shares one unconditional pass while "
         "everything is masked"],
        ["denoiser", f"{cells['all tokens']} TFLOP",
         f"{cells['once per token']} to {cells['masked tokens']} TFLOP, because only masked tokens "
         "that can be chosen are denoised, and embeddings are computed only once"],
    ]  # fmt: skip


def sampling_tables() -> dict[str, list[str]]:
    """Return the tables of sampling by their names."""
    passes, chains = [], []
    for name in ("l", "xxl"):
        config = preset(name)
        for batch in SAMPLED:
            title, works = f"{name.upper()}, {batch}", transformer_pass(config, batch)
            products = (PRODUCTS, ATTENTION)
            others = {work.part for work in works} - {*products, WEIGHT_CASTS}
            passes.append([
                title, pair(works, *products), pair(works, WEIGHT_CASTS), pair(works, *others),
                pair(works, *others, is_fused=True), pair(works), pair(works, is_fused=True),
            ])  # fmt: skip
            steps = SamplerConfig().num_denoise_steps
            chain = [work._replace(flops=steps * work.flops, bytes=steps * work.bytes,
                                   fused=steps * work.fused)
                     for work in chain_step(config, config.seq_len * batch)]  # fmt: skip
            rest = {work.part for work in chain} - {SMALL_PRODUCTS}
            chains.append([
                title, pair(chain, SMALL_PRODUCTS), pair(chain, *rest),
                pair(chain, *rest, is_fused=True), pair(chain), pair(chain, is_fused=True),
            ])  # fmt: skip
    return {
        "arithmetic": table(["part", "released code", "this project"], arithmetic()),
        "passes": table(
            ["model, images", "products and attention", "casts of weights", "other operations",
             "the same, fused", "floor", "floor, fused"], passes,
        ),
        "chains": table(
            ["model, images", "products", "other operations", "the same, fused", "floor",
             "floor, fused"], chains,
        ),
    }  # fmt: skip


def tables() -> dict[str, list[str]]:
    """Return the tables of the page by their names."""
    return {**training_tables(), **sampling_tables()}


def main() -> None:
    for name, lines in tables().items():
        print(f"<!-- {name} -->", *lines, "", sep="\n")


if __name__ == "__main__":
    main()
