"""A training step against a plain eager one: the same loss, optimiser and moving average.

The plain side has the released code's habits: attention with a boolean mask of ones, the loss of
all tokens, AdamW and the moving average parameter by parameter.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.common import SIZES, arguments, compare, randomised  # noqa: E402
from bigr import BiGR, BiGRConfig  # noqa: E402
from bigr.models.training_draws import TrainingDraws  # noqa: E402
from bigr.training.gradient_guard import GradientGuard  # noqa: E402
from bigr.training.optimizers import adamw  # noqa: E402
from tests import plain  # noqa: E402

DIGITS = BiGRConfig(
    dim=128,
    num_layers=4,
    num_heads=4,
    grid_size=4,
    code_dim=12,
    num_classes=10,
    denoiser_dim=128,
    denoiser_blocks=3,
    feed_forward_multiple=64,
    dropout=0.0,
)
"""The demo's generator, which people train on CPUs."""
CASES = {"the demo's generator": (DIGITS, 64), "8 layers of 256, 16x16 tokens": (SIZES, 16)}
DECAY = 0.9999
CLIP = 1.0


def main() -> None:
    options = arguments(__doc__, rounds=7)
    for name, (sizes, batch) in CASES.items():
        codes = torch.randint(0, 2, (batch, sizes.seq_len, sizes.code_dim)).float()
        classes = torch.randint(0, sizes.num_classes, (batch,))
        _check_equal(sizes, codes, classes)
        for is_compiled in (False, True):
            kind = "compiled" if is_compiled else "eager"
            compare(
                f"training step, {name}, batch {batch}, ours {kind}",
                _plain_step(sizes, codes, classes),
                _step(sizes, codes, classes, is_compiled),
                options.rounds * (20 if sizes is DIGITS else 1),
            )


def _step(
    sizes: BiGRConfig, codes: Tensor, classes: Tensor, is_compiled: bool
) -> Callable[[], None]:
    """As :class:`bigr.training.generator_module.GeneratorModule` makes it."""
    model = randomised(sizes).train()
    optimizer, guard = adamw(model, lr=1e-4), GradientGuard(0)
    average = [parameter.detach().clone() for parameter in model.parameters()]
    loss = torch.compile(model.loss, dynamic=False) if is_compiled else model.loss
    parts = {"all parameters": list(model.parameters())}

    def step() -> None:
        draws = model.draw(len(codes))
        draws = draws._replace(num_masked=0) if is_compiled else draws
        loss(codes, classes, draws=draws, masked_only=not is_compiled).loss.backward()
        guard.apply(optimizer, parts, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(model.parameters()), 1 - DECAY)

    step()  # compiles
    return step


def _plain_step(sizes: BiGRConfig, codes: Tensor, classes: Tensor) -> Callable[[], None]:
    model = randomised(sizes).train()
    optimizer = adamw(model, lr=1e-4, fused=False)
    for group in optimizer.param_groups:
        group["foreach"] = False
    average = {name: p.detach().clone() for name, p in model.named_parameters()}

    def step() -> None:
        _plain_loss(model, codes, classes, model.draw(len(codes))).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP, foreach=False)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                average[name].mul_(DECAY).add_(parameter, alpha=1 - DECAY)

    return step


def _plain_loss(model: BiGR, codes: Tensor, classes: Tensor, draws: TrainingDraws) -> Tensor:
    t = draws.timesteps.flatten()
    keep = (1 - t / model.config.num_diffusion_steps)[:, None]
    x_t = (draws.noise.flatten(0, 1) < keep * codes.flatten(0, 1) + (1 - keep) / 2).float()
    weights = dict(model.named_parameters())
    return plain.loss(weights, model.config, codes, classes, draws.is_masked, t, x_t)


def _check_equal(sizes: BiGRConfig, codes: Tensor, classes: Tensor) -> None:
    """Both sides give the same loss for the same mask and noise."""
    model = randomised(sizes)
    draws = model.draw(len(codes))
    with torch.no_grad():
        first = model.loss(codes, classes, draws=draws, masked_only=True).loss.item()
        second = _plain_loss(model, codes, classes, draws).item()
    if abs(first - second) > 1e-4 * second:
        sys.exit(f"the two steps don't compute the same loss: {first} and {second}")


if __name__ == "__main__":
    main()
