"""Input of the sampler: which tokens are masked, and which class they are sampled for.

Shapes: B images, (H, W) pixels, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from bigr.models.bigr import BiGR
from bigr.presets import load_preset

MaskRule = Literal["any", "nearest"]
KnownBits = Literal["drawn", "likelier"]
"""How the bits of known tokens follow from the B-AE's probabilities."""

INPAINTING = load_preset("sampler", "inpaint")
"""Settings of the released code for inpainting, outpainting and editing. They replace those of the
model, like the next two."""
INTERPOLATION = load_preset("sampler", "interpolate")
ENRICHMENT = load_preset("sampler", "enrich")
INTERPOLATION_RATIOS = (0.0, 0.1, 0.2, *(0.3 + 0.02 * i for i in range(21)), 0.8, 0.9, 1.0)
"""The paper's 27 shares of the first class, densest where the picture changes."""
CELL = 4
"""Number of places in a 2x2 cell; enrichment samples the tokens of one place at a time."""


def token_mask(pixel_mask: Tensor, grid_size: int, rule: MaskRule = "nearest") -> Tensor:
    """Turn a mask of pixels to repaint into a mask of tokens to sample.

    Args:
        pixel_mask: (B, H, W) bool, True = repaint; for outpainting, pass the inverse.
        grid_size: side of the token grid.
        rule: ``nearest`` takes the first pixel of each token's patch, as the released code does;
            ``any`` masks every token with a masked pixel, so that nothing of it remains.

    Returns:
        (B, N) bool, True = masked.

    Raises:
        ValueError: if an image's mask touches no token, or for an unknown rule.
    """
    if rule not in get_args(MaskRule):
        raise ValueError(f"mask_rule={rule}: it must be any or nearest.")
    floats, size = pixel_mask[:, None].float(), (grid_size, grid_size)
    if rule == "any":
        small = F.adaptive_max_pool2d(floats, size)
    else:
        small = F.interpolate(floats, size=size, mode="nearest")
    is_masked = small.flatten(1) > 0.5
    untouched = (~is_masked.any(dim=1)).nonzero().flatten().tolist()
    if untouched:
        raise ValueError(
            f"the mask of image {untouched[0]} touches no token of the {grid_size}x{grid_size} "
            "grid: draw it larger."
        )
    return is_masked


def null_classes(batch_size: int, null_class: int) -> Tensor:
    """Return the null class for each image, (B,) int64; guidance has no effect then."""
    return torch.full((batch_size,), null_class, dtype=torch.int64)


def class_mixtures(model: BiGR, first: int, second: int, ratios: Sequence[float]) -> Tensor:
    """Return the class embeddings r e_first + (1 - r) e_second, (len(ratios), D)."""
    ids = torch.tensor([first, second], device=model.device)
    embeddings = model.transformer.embed_classes(ids).float()
    shares = torch.tensor(ratios, device=model.device, dtype=torch.float32)[:, None]
    return shares * embeddings[0] + (1 - shares) * embeddings[1]


def cell_places(grid_size: int) -> Tensor:
    """Return the tokens at each place of the 2x2 cells, (4, N) bool.

    The places of a cell are numbered 0 1 / 2 3. Each mask has one token of every cell.

    Raises:
        ValueError: if ``grid_size`` is odd.
    """
    if grid_size % 2:
        raise ValueError(f"enrichment needs an even grid of tokens, not {grid_size}x{grid_size}.")
    side = torch.arange(grid_size) % 2
    places = (2 * side[:, None] + side).flatten()
    return places == torch.arange(CELL)[:, None]


def place_order(generator: torch.Generator) -> Tensor:
    """Draw the order in which a round of enrichment hides the places of all cells, (4,) int64."""
    return torch.randperm(CELL, generator=generator)


def initial_state(
    model: BiGR, class_ids: Tensor, known_codes: Tensor | None, is_masked: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Check the input of :meth:`bigr.Sampler.sample`.

    The classes are compared where they are, so that the host does not wait for classes on the CPU.

    Returns:
        The codes (B, N, K), zero where they are masked, and the mask (B, N), on the model's device.

    Raises:
        ValueError: if something does not fit ``model``.
    """
    config, device = model.config, model.device
    shape = (len(class_ids), config.seq_len)
    if class_ids.is_floating_point():
        if class_ids.shape[1:] != (config.dim,):
            raise ValueError(
                f"class embeddings must have shape (batch, {config.dim}), "
                f"got {tuple(class_ids.shape)}."
            )
    elif class_ids.ndim != 1 or bool(((class_ids < 0) | (class_ids > config.num_classes)).any()):
        raise ValueError(
            f"class_ids must be one number per image in 0..{config.num_classes} "
            f"({config.num_classes} is the null class), got {class_ids.tolist()}."
        )
    if known_codes is None and is_masked is None:
        codes = torch.zeros(*shape, config.code_dim, device=device)
        return codes, torch.ones(shape, dtype=torch.bool, device=device)
    if known_codes is None or is_masked is None:
        raise ValueError("known_codes and is_masked go together: give both or neither.")
    if is_masked.dtype != torch.bool or is_masked.shape != shape:
        raise ValueError(
            f"is_masked must be bool of shape {shape}, got {is_masked.dtype} of shape "
            f"{tuple(is_masked.shape)}."
        )
    if config.attention == "causal" and not is_masked.all():
        raise ValueError(
            "a generator with attention=causal cannot keep known tokens, because it does not see "
            "those after the token that it predicts: use one with attention=bidirectional."
        )
    model.check_codes(known_codes)
    if len(known_codes) != len(class_ids):
        raise ValueError(f"{len(class_ids)} class_ids but {len(known_codes)} known_codes.")
    is_masked = is_masked.to(device).contiguous()
    codes = known_codes.to(device, torch.float32).contiguous()
    return codes.masked_fill(is_masked[..., None], 0.0), is_masked
