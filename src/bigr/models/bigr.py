"""BiGR: masked transformer and binary transcoder as one model.

Paper: BiGR, ICLR 2025, arXiv 2410.14672. Shapes: B batch, N tokens, K bits, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from bigr.models.config import BiGRConfig
from bigr.models.masking import draw_training_mask, training_mask_counts
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
    timesteps: Tensor
    """(B, N) noise levels in 1..T."""
    is_masked: Tensor
    """(B, N) bool."""


class BiGR(nn.Module):
    """The generator: which bits belong to the masked tokens, given the others and the class."""

    mask_counts: Tensor

    def __init__(self, config: BiGRConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = MaskedTransformer(config)
        self.transcoder = BinaryTranscoder(config)
        self.reset_buffers()

    def reset_buffers(self) -> None:
        """Compute the buffers that checkpoints don't hold (needed after a meta-device build)."""
        self.transformer.reset_buffers()
        counts = training_mask_counts(self.config.seq_len)
        self.register_buffer("mask_counts", counts, persistent=False)

    def check_codes(self, codes: Tensor) -> None:
        """Raise ``ValueError`` unless ``codes`` is (B, N, K) of this model's N and K."""
        expected = (self.config.seq_len, self.config.code_dim)
        if codes.ndim != 3 or tuple(codes.shape[1:]) != expected:
            raise ValueError(
                f"codes must have shape (batch, {expected[0]}, {expected[1]}) for this generator "
                f"(grid {self.config.grid_size}, {expected[1]} bits), got {tuple(codes.shape)}."
            )

    def condition(self, codes: Tensor, class_ids: Tensor, is_masked: Tensor) -> Tensor:
        """What the transformer knows about every token, for the transcoder.

        Args:
            codes: (B, N, K) bits as floats; values at masked positions don't matter.
            class_ids: (B,) int64 in 0..num_classes (the last is the null class), or (B, D)
                class embeddings, such as an interpolation of two rows of
                ``transformer.class_embedding.weight``.
            is_masked: (B, N) bool, True = to be predicted.

        Returns:
            (B, N, D) float32.

        Raises:
            ValueError: if ``codes`` doesn't fit this model.
        """
        self.check_codes(codes)
        condition: Tensor = self.transformer(codes, class_ids, is_masked)
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

    def loss(
        self,
        codes: Tensor,
        class_ids: Tensor,
        *,
        is_masked: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> BiGRLoss:
        """Training loss of one batch, averaged over the bits of masked tokens.

        Args:
            codes: (B, N, K) bits as floats.
            class_ids: (B,) int64 in 0..num_classes-1; in training mode a share
                ``config.class_dropout`` of them becomes the null class.
            is_masked: (B, N) bool; None draws the training mask: s ~ U{0..N-1},
                max(1, floor(N cos(pi/2 s/N))) tokens of every image.
            generator: on the device of ``codes``; None uses the global one.

        Raises:
            ValueError: if ``codes`` doesn't fit this model.
        """
        self.check_codes(codes)
        batch_size, seq_len, code_dim = codes.shape
        if self.training:
            class_ids = self.drop_classes(class_ids, generator)
        if is_masked is None:
            is_masked = draw_training_mask(batch_size, self.mask_counts, generator)
        condition = self.condition(codes, class_ids, is_masked)
        x_0 = codes.reshape(-1, code_dim)
        t, x_t = self.transcoder.draw_noise(x_0, generator)
        bits = self.transcoder.loss(x_0, t, x_t, condition.flatten(0, 1))

        shape = (batch_size, seq_len)
        token_loss = bits.loss.mean(dim=-1).view(shape)
        token_accuracy = bits.is_correct.float().mean(dim=-1).view(shape)
        # A multiplication instead of indexing: the shapes stay static and nothing syncs.
        share = is_masked.float() / is_masked.sum()
        return BiGRLoss(
            loss=(token_loss * share).sum(),
            bit_accuracy=(token_accuracy * share).sum(),
            token_loss=token_loss.detach(),
            token_accuracy=token_accuracy,
            timesteps=t.view(shape),
            is_masked=is_masked,
        )

    def drop_classes(self, class_ids: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Replace a share ``config.class_dropout`` of the labels by the null class."""
        draws = torch.rand(class_ids.shape, generator=generator, device=class_ids.device)
        is_dropped = draws < self.config.class_dropout
        return torch.where(is_dropped, self.config.null_class, class_ids)
