"""The sampler against the plain one of the tests: the same equations, the same settings."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.common import SIZES, arguments, compare, confident, randomised  # noqa: E402
from bigr import BiGR, Sampler, SamplerConfig  # noqa: E402
from bigr.sampling.noise import SeededNoise  # noqa: E402
from tests import plain  # noqa: E402

BATCH = 8
MIN_IN_COMMON = 0.9
SETTINGS = SamplerConfig(
    guidance_scale=2.5, num_iterations=10, gumbel_temperature=0.17, num_denoise_steps=50
)


def main() -> None:
    options = arguments(__doc__, rounds=2)
    bench("a model as sure as a trained one", confident(SIZES).eval(), options.rounds)
    bench("a model that is sure of nothing", randomised(SIZES).eval(), options.rounds)


def bench(name: str, model: BiGR, rounds: int) -> None:
    weights = dict(model.state_dict())
    classes = torch.arange(BATCH)
    noise = SeededNoise(torch.arange(BATCH), SIZES.seq_len, SIZES.code_dim, torch.device("cpu"))
    expected = plain.sample(weights, SIZES, SETTINGS, classes, noise)
    actual = Sampler(SETTINGS).sample(model, classes, seeds=range(BATCH))
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

    def run_ours() -> None:
        Sampler(SETTINGS).sample(model, classes, generator=torch.Generator().manual_seed(0))

    compare(f"sampling, batch {BATCH}, {name}", run_plain, run_ours, rounds)


if __name__ == "__main__":
    main()
