"""Stored keys and values, with which a pass of the transformer can skip tokens decided earlier.

Shapes: B batch, L positions, A computed positions, H heads, C head width, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor


class LayerMemory:
    """Keys and values of one layer: for each position, those of the last pass that computed it."""

    def __init__(self, owner: Memory) -> None:
        self.owner = owner
        self.key: Tensor | None = None
        self.value: Tensor | None = None

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, H, A, C); return those of all positions (B, H, L, C)."""
        positions = self.owner.positions
        if self.key is None or self.value is None or positions is None:
            self.key, self.value = key, value
        else:
            index = positions[:, None, :, None].expand_as(key)
            self.key = self.key.scatter(2, index, key)
            self.value = self.value.scatter(2, index, value)
        return self.key, self.value


class Memory:
    """Keys and values of all ``num_layers`` layers of a transformer."""

    def __init__(self, num_layers: int) -> None:
        self.layers = [LayerMemory(self) for _ in range(num_layers)]
        self.positions: Tensor | None = None
        """(B, A) positions that the next pass computes; None for all of them."""
        self._was_masked: Tensor | None = None

    def begin(self, is_masked: Tensor, classes: Tensor) -> None:  # noqa: ARG002
        """Choose the positions of the next pass: those masked in the last pass or in this one.

        The class token, position 0, is always computed. Images with fewer such tokens than others
        compute it several times, so that an image does not depend on the others.

        Args:
            is_masked: (B, N) bool of this pass.
            classes: (B, D) class embeddings of this pass.
        """
        before, self._was_masked = self._was_masked, is_masked
        if before is None or before.shape != is_masked.shape:
            self.positions = None
            for layer in self.layers:
                layer.key = layer.value = None
            return
        is_new = before | is_masked
        numbers = is_new.sum(dim=1, keepdim=True)
        count = int(numbers.max())
        tokens = is_new.logical_not().int().argsort(dim=1, stable=True)[:, :count] + 1
        places = torch.arange(count, device=tokens.device)
        tokens = tokens.masked_fill(places >= numbers, 0)
        self.positions = torch.cat([torch.zeros_like(tokens[:, :1]), tokens], dim=1)

    @property
    def num_computed(self) -> int | None:
        """Number A of positions that the last pass computed, or None for all."""
        return None if self.positions is None else self.positions.shape[1]

    def take(self, x: Tensor) -> Tensor:
        """Return the computed positions (B, A, D) of ``x`` (B, L, D)."""
        if self.positions is None:
            return x
        return x.gather(1, self.positions[..., None].expand(-1, -1, x.shape[-1]))

    def put_back(self, x: Tensor, num_positions: int) -> Tensor:
        """Return ``x`` (B, A, D) at its positions in (B, L, D), with zeros elsewhere."""
        if self.positions is None:
            return x
        full = x.new_zeros(x.shape[0], num_positions, x.shape[-1])
        return full.scatter(1, self.positions[..., None].expand_as(x), x)


class CausalLayerMemory(LayerMemory):
    """Keys and values of one layer with causal attention, for all positions computed so far."""

    owner: CausalMemory

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, H, A, C); return those of all positions up to the last."""
        start, stop = self.owner.computed
        if self.key is None or self.value is None or start == 0:
            shape = (*key.shape[:2], self.owner.num_positions, key.shape[3])
            self.key, self.value = key.new_zeros(shape), value.new_zeros(shape)
        self.key[:, :, start:stop] = key
        self.value[:, :, start:stop] = value
        return self.key[:, :, :stop], self.value[:, :, :stop]


class CausalMemory(Memory):
    """The memory of a causal transformer, whose earlier positions never change.

    A pass computes the positions from the last one that is remembered to that of the last known
    token, whose output is the condition of the next token. If there are several of them, or if the
    images or their classes have changed, it computes all positions again.
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__(num_layers)
        self.layers = [CausalLayerMemory(self) for _ in range(num_layers)]
        self.computed = (0, 0)
        """The first position of the last pass, and the one behind its last position."""
        self.num_positions = 0
        """L, the class token and all tokens."""
        self._classes: Tensor | None = None

    def begin(self, is_masked: Tensor, classes: Tensor) -> None:
        """Choose the positions of the next pass.

        Args:
            is_masked: (B, N) bool of this pass; the known tokens are the first ones in all images.
            classes: (B, D) class embeddings of this pass.
        """
        before, self._classes = self._classes, classes
        start, stop = self.computed[1], 1 + int(is_masked.logical_not().sum(dim=1).max())
        is_new = before is None or before.shape != classes.shape or not torch.equal(before, classes)
        start = 0 if is_new or stop != start + 1 else start
        self.computed, self.num_positions = (start, stop), 1 + is_masked.shape[1]
        positions = torch.arange(start, stop, device=is_masked.device)
        self.positions = positions.expand(len(is_masked), -1)
