"""The sampler against the plain one of the tests: the same equations, the same settings.

    python bench/sampler.py           # one iteration of BiGR-L, and whole images of a smaller model
    python bench/sampler.py --image   # a whole image of BiGR-L, about ten minutes on two cores
    python bench/sampler.py --growth  # how the time grows from 256 to 1,024 tokens
    python bench/sampler.py --guide   # BiGR-XL guided by itself and by BiGR-L, about 20 minutes

The plain sampler works as the released code does: every token passes through the whole denoising
chain in each iteration, and both halves of guidance are separate passes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.common import SIZES, XL, L, arguments, compare, confident, matrix_rate, randomised  # noqa: E402
from bigr import BiGR, ExecutionConfig, Sampler, SamplerConfig  # noqa: E402
from bigr.presets import load_preset  # noqa: E402
from bigr.sampling.random_numbers import SeededNoise  # noqa: E402
from bigr.sampling.sampler import Progress  # noqa: E402
from tests import plain  # noqa: E402

BATCH = 8
MIN_IN_COMMON = 0.9
SETTINGS = SamplerConfig(
    guidance_scale=2.5, num_iterations=10, gumbel_temperature=0.17, num_denoise_steps=50
)


def main() -> None:
    options = arguments(__doc__, rounds=2, flags=("image", "growth", "guide"))
    if options.image:
        whole_image_of_l()
    if options.growth:
        growth(options.rounds)
    if options.guide:
        xl_guided_by_l(options.rounds)
    if options.image or options.growth or options.guide:
        return
    one_iteration_at_l(options.rounds)
    bench("a model as sure as a trained one", confident(SIZES).eval(), options.rounds)
    bench("a model that is sure of nothing", randomised(SIZES).eval(), options.rounds)


class StopSampling(Exception):  # noqa: N818  # no error
    """Ends sampling after an iteration."""


def stop(_: Progress) -> None:
    raise StopSampling


def one_iteration_at_l(rounds: int) -> None:
    """L, batch 1, the first of 20 iterations on an image of which a third is decided."""
    model = confident(L).eval()
    weights, classes = dict(model.state_dict()), torch.zeros(1, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(2, (1, L.seq_len, L.code_dim), generator=generator).float()
    is_masked = torch.arange(L.seq_len)[None] % 3 > 0
    known = {"known_codes": codes, "is_masked": is_masked}
    settings = SamplerConfig()

    def run_plain() -> None:
        random = plain.RandomNoise(1, L.seq_len, L.code_dim, generator)
        plain.sample(weights, L, settings, classes, random, **known, last=1)

    for precision in ("float32", "bfloat16"):
        sampler = Sampler(settings, ExecutionConfig(precision=precision))

        def run_ours(sampler: Sampler = sampler) -> None:
            with contextlib.suppress(StopSampling):
                sampler.sample(model, classes, seeds=[0], on_iteration=stop, **known)

        compare(f"one iteration of L in {precision}", run_plain, run_ours, rounds)


def whole_image_of_l() -> None:
    """Print the seconds of one image of BiGR-L at the paper's settings, plain and ours."""
    model, classes = confident(L).eval(), torch.zeros(1, dtype=torch.int64)
    weights, settings = dict(model.state_dict()), SamplerConfig()
    random = plain.RandomNoise(1, L.seq_len, L.code_dim, torch.Generator().manual_seed(0))
    began = time.perf_counter()
    plain.sample(weights, L, settings, classes, random)
    released = time.perf_counter() - began
    print(f"plain: {released:.1f} s")
    fast = SamplerConfig(**{**settings.to_dict(), **load_preset("sampler", "fast")})
    for name, config, precision in (
        ("float32", settings, "float32"),
        ("auto", settings, "auto"),
        ("fast, auto", fast, "auto"),
    ):
        sampler, seconds = Sampler(config, ExecutionConfig(precision=precision)), []
        for seed in range(2):  # the first one includes preparing the weights
            began = time.perf_counter()
            sampler.sample(model, classes, seeds=[seed])
            seconds.append(time.perf_counter() - began)
        print(
            f"{name}: {seconds[0]:.1f} s for the first image, then {seconds[1]:.1f} s, "
            f"{released / seconds[1]:.2f}x as fast",
            flush=True,
        )


def growth(rounds: int) -> None:
    """Print how the time grows with four times as many tokens, for one image and for eight."""
    for batch in (1, 8):
        medians = []
        for grid in (16, 32):
            config = dataclasses.replace(SIZES, dim=512, denoiser_dim=512, grid_size=grid)
            model, seconds = confident(config).eval(), []
            sampler = Sampler(SETTINGS, ExecutionConfig(precision="bfloat16"))
            for _ in range(rounds + 1):
                began = time.perf_counter()
                sampler.sample(model, torch.arange(batch), seeds=range(batch))
                seconds.append(time.perf_counter() - began)
            medians.append(statistics.median(seconds[1:]))
        print(
            f"batch {batch}: {medians[0]:.2f} s for 256 tokens, {medians[1]:.2f} s for 1,024, "
            f"{medians[1] / medians[0]:.2f} times as long",
            flush=True,
        )


def xl_guided_by_l(rounds: int) -> None:
    """Print the arithmetic and the seconds of an image of XL with guidance by itself and by L."""
    model, guide = confident(XL).eval(), confident(L).eval()
    classes, settings = torch.zeros(1, dtype=torch.int64), SamplerConfig.preset("paper_xl")
    samplers = {
        name: Sampler(settings, ExecutionConfig(precision="auto"), guide=guiding)
        for name, guiding in (("itself", None), ("L", guide))
    }
    seconds: dict[str, list[float]] = {name: [] for name in samplers}
    flops: dict[str, float] = {}
    for number in range(rounds + 1):  # the first image includes preparing the weights
        for name, sampler in samplers.items():
            before, began = sampler.flops, time.perf_counter()
            sampler.sample(model, classes, seeds=[number])
            seconds[name].append(time.perf_counter() - began)
            flops[name] = sampler.flops - before
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"XL guided by {name}: {flops[name] / 1e12:.1f} TFLOP, {median:.1f} s", flush=True)
    print(
        f"guided by L: {flops['L'] / flops['itself']:.2f} of the arithmetic, "
        f"{medians['L'] / medians['itself']:.2f} of the time"
    )


def bench(name: str, model: BiGR, rounds: int) -> None:
    weights = dict(model.state_dict())
    classes = torch.arange(BATCH)
    noise = SeededNoise(torch.arange(BATCH), SIZES.seq_len, SIZES.code_dim, torch.device("cpu"))
    expected = plain.sample(weights, SIZES, SETTINGS, classes, noise)
    exact = ExecutionConfig(precision="float32")
    actual = Sampler(SETTINGS, exact).sample(model, classes, seeds=range(BATCH))
    # Not two different methods: from the same random numbers both make the same codes, but for
    # the rare bit whose probability is within rounding of a random number, and what follows it.
    same = (actual == expected).float().mean().item()
    print(f"{name}: {same:.2%} of the bits in common from the same random numbers")
    if same < MIN_IN_COMMON:
        sys.exit("the two samplers don't compute the same thing")

    def run_plain() -> None:
        generator = torch.Generator().manual_seed(0)
        random = plain.RandomNoise(BATCH, SIZES.seq_len, SIZES.code_dim, generator)
        plain.sample(weights, SIZES, SETTINGS, classes, random)

    for precision in ("float32", "bfloat16"):
        sampler = Sampler(SETTINGS, ExecutionConfig(precision=precision))

        def run_ours(sampler: Sampler = sampler) -> None:
            sampler.sample(model, classes, generator=torch.Generator().manual_seed(0))

        began = time.perf_counter()
        run_ours()
        rate = sampler.flops / (time.perf_counter() - began)
        floor = matrix_rate(getattr(torch, precision))
        print(f"{precision}: {rate / 1e9:.0f} GFLOP/s, {rate / floor:.0%} of a matrix product's")
        compare(f"sampling in {precision}, batch {BATCH}, {name}", run_plain, run_ours, rounds)


if __name__ == "__main__":
    main()
