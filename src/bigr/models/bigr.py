"""BiGR: masked transformer and binary transcoder as one model.

Paper: BiGR, ICLR 2025, arXiv 2410.14672. Shapes: B batch, N tokens, K bits, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bigr.models.config import BiGRConfig
from bigr.models.key_value_memory import Memory
from bigr.models.training_draws import TrainingDraws, draw_num_masked, draw_training
from bigr.models.transcoder import BinaryTranscoder
from bigr.models.transformer import MaskedTransformer


class BiGRLoss(NamedTuple):
    """Outcome of one training step; the per-token parts are detached, for logging."""

    loss: Tensor
    """Scalar, averaged over the bits of masked tokens."""
    bit_accuracy: Tensor
    """Scalar in [0, 1]: share of masked tokens' bits whose clean value is predicted."""
    token_loss: Tensor
    """(B, N) mean over bits."""
    token_accuracy: Tensor
    """(B, N) mean over bits."""


class BiGR(nn.Module):
    """The generator: which bits belong to the masked tokens, given the others and the class."""

    def __init__(self, config: BiGRConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = MaskedTransformer(config)
        self.transcoder = BinaryTranscoder(config)

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return self.transformer.position_table.device

    def check_codes(self, codes: Tensor) -> None:
        """Raise ``ValueError`` unless ``codes`` is (B, N, K) of this model's N and K."""
        expected = (self.config.seq_len, self.config.code_dim)
        if codes.ndim != 3 or tuple(codes.shape[1:]) != expected:
            raise ValueError(
                f"codes must have shape (batch, {expected[0]}, {expected[1]}) for this generator "
                f"(grid {self.config.grid_size}, {expected[1]} bits), got {tuple(codes.shape)}."
            )

    def condition(
        self,
        codes: Tensor,
        class_ids: Tensor,
        is_masked: Tensor,
        memory: Memory | None = None,
    ) -> Tensor:
        """What the transformer knows about every token, for the transcoder.

        Args:
            codes: (B, N, K) bits as floats; values at masked positions don't matter.
            class_ids: (B,) int64 in 0..num_classes (the last is the null class), or (B, D)
                class embeddings, such as an interpolation of two rows of
                ``transformer.class_embedding.weight``.
            is_masked: (B, N) bool, True = to be predicted.
            memory: see :meth:`MaskedTransformer.forward`.

        Returns:
            (B, N, D) float32.

        Raises:
            ValueError: if ``codes`` doesn't fit this model.
        """
        self.check_codes(codes)
        condition: Tensor = self.transformer(codes, class_ids, is_masked, memory)
        return condition

    def features(self, codes: Tensor, class_ids: Tensor, layer: int) -> Tensor:
        """Visual features: hidden states after ``layer``, nothing masked, class token dropped.

        Args:
            codes: (B, N, K) bits as floats.
            class_ids: (B,) int64; the paper's linear probe uses the null class.
            layer: 0-based, negative counts from the end.

        Returns:
            (B, N, D).

        Raises:
            ValueError: if ``codes`` doesn't fit this model or there is no such layer.
        """
        self.check_codes(codes)
        depth = self.config.num_layers
        if not -depth <= layer < depth:
            raise ValueError(f"layer must be in {-depth}..{depth - 1}, got {layer}.")
        return self.transformer.hidden_states(codes, class_ids, None, layer % depth + 1)[:, 1:]

    def pooled_features(self, codes: Tensor, class_ids: Tensor, layers: Sequence[int]) -> Tensor:
        """Features of several layers in one pass, averaged over the tokens.

        Args:
            codes: (B, N, K) bits as floats.
            class_ids: (B,) int64; the paper's linear probe uses the null class.
            layers: 0-based.

        Returns:
            (B, len(layers), D) float32.

        Raises:
            ValueError: if ``codes`` doesn't fit this model or there is no such layer.
        """
        self.check_codes(codes)
        missing = [layer for layer in layers if not 0 <= layer < self.config.num_layers]
        if missing or not layers:
            raise ValueError(f"layers must be in 0..{self.config.num_layers - 1}, got {layers}.")
        found: dict[int, Tensor] = {}

        def pool(layer: int, hidden: Tensor) -> None:
            if layer in layers:
                found[layer] = hidden[:, 1:].float().mean(dim=1)

        self.transformer.hidden_states(codes, class_ids, None, max(layers) + 1, on_layer=pool)
        return torch.stack([found[layer] for layer in layers], dim=1)

    def draw(self, batch_size: int, generator: torch.Generator | None = None) -> TrainingDraws:
        """The randomness of one training step but dropout, on this model's device.

        Args:
            batch_size: images.
            generator: on this model's device; None uses the global one. The number of masked
                tokens comes from it if it is the CPU's, and from the CPU's global one otherwise.
        """
        is_host = generator is not None and generator.device.type == "cpu"
        num_masked = draw_num_masked(self.config.seq_len, generator if is_host else None)
        return draw_training(
            self.config, batch_size, num_masked=num_masked, generator=generator, device=self.device
        )

    def loss(
        self,
        codes: Tensor,
        class_ids: Tensor,
        *,
        draws: TrainingDraws | None = None,
        generator: torch.Generator | None = None,
        masked_only: bool = False,
    ) -> BiGRLoss:
        """Training loss of one batch, averaged over the bits of masked tokens.

        Args:
            codes: (B, N, K) bits as floats.
            class_ids: (B,) int64 in 0..num_classes-1; in training mode a share
                ``config.class_dropout`` of them becomes the null class.
            draws: what is masked and noised; None draws it, see :meth:`draw`.
            generator: for that.
            masked_only: leave the other tokens out of the transcoder: the same loss with less
                arithmetic, but other shapes in each step.

        Raises:
            ValueError: if ``codes`` doesn't fit this model.
        """
        self.check_codes(codes)
        draws = self.draw(len(codes), generator) if draws is None else draws
        if self.training:
            null = self.config.null_class
            class_ids = torch.where(draws.is_unconditional, null, class_ids)
        condition = self.condition(codes, class_ids, draws.is_masked)
        if masked_only:
            return self._masked_loss(codes, condition, draws)
        token_loss, token_accuracy = self._token_loss(codes, condition, draws)
        # A multiplication instead of indexing: the shapes stay static and nothing syncs.
        share = draws.is_masked.float() / draws.is_masked.sum()
        return BiGRLoss(
            loss=(token_loss * share).sum(),
            bit_accuracy=(token_accuracy * share).sum(),
            token_loss=token_loss.detach(),
            token_accuracy=token_accuracy,
        )

    def _masked_loss(self, codes: Tensor, condition: Tensor, draws: TrainingDraws) -> BiGRLoss:
        """The same from the masked tokens alone; per-token parts are zero elsewhere."""
        places = draws.masked_first()[..., None]

        def chosen(tensor: Tensor) -> Tensor:
            return tensor.gather(1, places.expand(-1, -1, tensor.shape[-1]))

        fewer = draws._replace(
            timesteps=chosen(draws.timesteps[..., None])[..., 0], noise=chosen(draws.noise)
        )
        losses, accuracies = self._token_loss(chosen(codes), chosen(condition), fewer)
        nothing = torch.zeros_like(draws.is_masked, dtype=losses.dtype)
        return BiGRLoss(
            loss=losses.mean(),
            bit_accuracy=accuracies.mean(),
            token_loss=nothing.scatter(1, places[..., 0], losses.detach()),
            token_accuracy=nothing.scatter(1, places[..., 0], accuracies),
        )

    def _token_loss(
        self, codes: Tensor, condition: Tensor, draws: TrainingDraws
    ) -> tuple[Tensor, Tensor]:
        """Loss and accuracy of every token, (B, n)."""
        x_0, t = codes.flatten(0, 1), draws.timesteps.flatten()
        x_t = self.transcoder.noised(x_0, t, draws.noise.flatten(0, 1))
        bits = self.transcoder.loss(x_0, t, x_t, condition.flatten(0, 1))
        losses, accuracies = bits.loss.mean(dim=-1), bits.is_correct.float().mean(dim=-1)
        return losses.view(codes.shape[:2]), accuracies.view(codes.shape[:2])
