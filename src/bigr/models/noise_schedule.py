"""Bernoulli diffusion with the linear schedule, in closed form (BiGR, arXiv 2410.14672).

Noise level t runs from 0 (clean bits) to T (fair coin flips). One step keeps a bit with
probability beta_t = (T - t) / (T - t + 1) and redraws it fairly otherwise, so the products
telescope: from t' to t a bit is kept with probability (T - t) / (T - t').

Shapes: M tokens, K bits.
"""

from __future__ import annotations

import torch
from torch import Tensor


def keep_probability(t: Tensor | int, num_steps: int, *, since: Tensor | int = 0) -> Tensor:
    """prod_{since<j<=t} beta_j = (T - t) / (T - since): the chance that a bit survives.

    With ``since`` = 0 this is k_t = 1 - t/T.

    Args:
        t: noise levels in 0..T, any shape.
        num_steps: T.
        since: earlier noise levels, in 0..t-1 or 0.

    Returns:
        float32, the shape of ``t``.
    """
    left = num_steps - torch.as_tensor(t)
    return left.float() / (num_steps - since)


def noised_bit_probs(x_0: Tensor, keep: Tensor | float) -> Tensor:
    """q(x_t = 1 | x_0) = k_t x_0 + (1 - k_t) / 2.

    Args:
        x_0: (M, K) bits or bit probabilities.
        keep: k_t, a number or (M, 1).

    Returns:
        (M, K) probabilities.
    """
    return keep * x_0 + (1.0 - keep) / 2


def posterior_bit_probs(
    x_0_probs: Tensor, x_t: Tensor, keep_next: Tensor | float, keep_between: Tensor | float
) -> Tensor:
    """P(x_{t'} = 1 | x_t) under x_0 ~ Bernoulli(``x_0_probs``), for t' < t.

    Bayes over v in {0, 1}: P(v) is proportional to
    [k_{t'} P0(v) + (1 - k_{t'}) / 2] * [B 1(x_t = v) + (1 - B) / 2] with B = (T - t) / (T - t').

    Args:
        x_0_probs: (M, K) probabilities that x_0 = 1.
        x_t: (M, K) bits.
        keep_next: k_{t'}, a number or (M, 1).
        keep_between: B, a number or (M, 1).

    Returns:
        (M, K) probabilities.
    """
    prior = noised_bit_probs(x_0_probs, keep_next)
    likelihood = noised_bit_probs(x_t, keep_between)
    one = prior * likelihood
    zero = (1.0 - prior) * (1.0 - likelihood)
    return one / (one + zero)


def denoising_steps(num_denoise_steps: int, num_steps: int, spacing: str = "even") -> list[int]:
    """Noise levels visited at inference, from T down to 1.

    ``even``: (1..T)[floor(linspace(0, 1, S) * (T - 1))], reversed. ``quadratic``: with the squares
    of linspace, so that low noise is visited more often; where two would fall on one level, the
    higher one moves up. All levels for S = T.

    Raises:
        ValueError: unless 2 <= S <= T.
    """
    if not 2 <= num_denoise_steps <= num_steps:
        raise ValueError(
            f"num_denoise_steps must be between 2 (the first level, T, and the last, 1) and the "
            f"model's num_diffusion_steps={num_steps}; got {num_denoise_steps}."
        )
    if num_denoise_steps == num_steps:
        return list(range(num_steps, 0, -1))
    step = 1.0 / (num_denoise_steps - 1)
    power = 2 if spacing == "quadratic" else 1
    levels: list[int] = []
    for i in range(num_denoise_steps - 1):
        level = 1 + int((i * step) ** power * (num_steps - 1))
        levels.append(max(level, levels[-1] + 1 if levels else 1))
    return [num_steps, *reversed(levels)]
