"""Keys and values that a transformer remembers, to compute some of its positions only.

Shapes: B batch, L positions, A of them that are computed, H heads, C head width, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor


class LayerMemory:
    """One layer's keys and values of all positions, as they were when last computed."""

    def __init__(self, owner: Memory) -> None:
        self.owner = owner
        self.key: Tensor | None = None
        self.value: Tensor | None = None

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Remember new ones (B, H, A, C); gives those of all positions (B, H, L, C)."""
        positions = self.owner.positions
        if self.key is None or self.value is None or positions is None:
            self.key, self.value = key, value
        else:
            index = positions[:, None, :, None].expand_as(key)
            self.key = self.key.scatter(2, index, key)
            self.value = self.value.scatter(2, index, value)
        return self.key, self.value


class Memory:
    """Of all layers.

    Args:
        num_layers: of the transformer.
    """

    def __init__(self, num_layers: int) -> None:
        self.layers = [LayerMemory(self) for _ in range(num_layers)]
        self.positions: Tensor | None = None
        """(B, A) positions that the next pass computes; None for all of them."""
        self._was_masked: Tensor | None = None

    def begin(self, is_masked: Tensor) -> None:
        """Before a pass: compute what was masked in the last one, and so may have changed.

        The class token, position 0, is always among them. Images with fewer such tokens have others
        computed as well, which does no harm.

        Args:
            is_masked: (B, N) bool of this pass; tokens may only be unmasked from pass to pass.
        """
        before, self._was_masked = self._was_masked, is_masked
        if before is None or before.shape != is_masked.shape:
            self.positions = None
            for layer in self.layers:
                layer.key = layer.value = None
            return
        count = int(before.sum(dim=1).max())
        tokens = before.logical_not().int().argsort(dim=1, stable=True)[:, :count] + 1
        self.positions = torch.cat([torch.zeros_like(tokens[:, :1]), tokens], dim=1)

    @property
    def num_computed(self) -> int | None:
        """A, or None for all."""
        return None if self.positions is None else self.positions.shape[1]

    def take(self, x: Tensor) -> Tensor:
        """What of (B, L, D) is computed, (B, A, D)."""
        if self.positions is None:
            return x
        return x.gather(1, self.positions[..., None].expand(-1, -1, x.shape[-1]))

    def put_back(self, x: Tensor, num_positions: int) -> Tensor:
        """(B, A, D) at their positions of (B, L, D), zeros elsewhere."""
        if self.positions is None:
            return x
        full = x.new_zeros(x.shape[0], num_positions, x.shape[-1])
        return full.scatter(1, self.positions[..., None].expand_as(x), x)
