"""A training step against a plain eager one: the same loss, optimiser and moving average."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.common import SIZES, arguments, compare, randomised  # noqa: E402
from bigr.models.masking import draw_training_mask  # noqa: E402
from bigr.training.optimizers import adamw  # noqa: E402
from tests import plain  # noqa: E402

BATCH = 16
DECAY = 0.9999


def main() -> None:
    options = arguments(__doc__, rounds=7)
    codes = torch.randint(0, 2, (BATCH, SIZES.seq_len, SIZES.code_dim)).float()
    classes = torch.randint(0, SIZES.num_classes, (BATCH,))
    ours, reference = randomised(SIZES).train(), randomised(SIZES).train()
    _check_equal(ours, reference, codes, classes)

    optimizer = adamw(ours, lr=1e-4)
    average = [parameter.detach().clone() for parameter in ours.parameters()]

    def step() -> None:
        ours.loss(codes, classes).loss.backward()
        torch.nn.utils.clip_grad_norm_(ours.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(ours.parameters()), 1 - DECAY)

    plain_optimizer = adamw(reference, lr=1e-4, fused=False)
    for group in plain_optimizer.param_groups:
        group["foreach"] = False
    plain_average = {n: p.detach().clone() for n, p in reference.named_parameters()}

    def plain_step() -> None:
        is_masked = draw_training_mask(BATCH, reference.mask_counts)
        t = torch.randint(1, SIZES.num_diffusion_steps + 1, (codes[..., 0].numel(),))
        keep = (1 - t / SIZES.num_diffusion_steps)[:, None]
        x_t = torch.bernoulli(keep * codes.flatten(0, 1) + (1 - keep) / 2)
        _plain_loss(reference, codes, classes, is_masked, t, x_t).backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0, foreach=False)
        plain_optimizer.step()
        plain_optimizer.zero_grad()
        with torch.no_grad():
            for name, parameter in reference.named_parameters():
                plain_average[name].mul_(DECAY).add_(parameter, alpha=1 - DECAY)

    compare("training step, batch 16", plain_step, step, options.rounds)


def _plain_loss(model: torch.nn.Module, codes: Tensor, classes: Tensor, *noise: Tensor) -> Tensor:
    weights = dict(model.named_parameters())
    return plain.loss(weights, SIZES, codes, classes, *noise)


def _check_equal(
    ours: torch.nn.Module, reference: torch.nn.Module, codes: Tensor, classes: Tensor
) -> None:
    """Both sides give the same loss for the same mask and noise."""
    is_masked = torch.rand(codes.shape[:2]) < 0.5
    t = torch.randint(1, 257, (codes[..., 0].numel(),))
    x_t = torch.bernoulli(torch.full((len(t), SIZES.code_dim), 0.5))
    draw, ours.transcoder.draw_noise = ours.transcoder.draw_noise, lambda *_: (t, x_t)
    with torch.no_grad():
        first = ours.loss(codes, classes, is_masked=is_masked).loss.item()
        second = _plain_loss(reference, codes, classes, is_masked, t, x_t).item()
    ours.transcoder.draw_noise = draw
    if abs(first - second) > 1e-4 * second:
        sys.exit(f"the two steps don't compute the same loss: {first} and {second}")


if __name__ == "__main__":
    main()
