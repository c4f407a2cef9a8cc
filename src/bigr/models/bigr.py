"""The generator, BiGR (ICLR 2025, arXiv 2410.14672): a masked transformer and a binary transcoder.

An image is N tokens of K bits, some of which are masked, that is, unknown. From the other tokens
and the class, the transformer computes a vector of width D for every token, its condition. From the
condition of a masked token, the transcoder predicts the token's bits by Bernoulli diffusion.

The paper compares this with three other generators, which differ in two settings of
:class:`BiGRConfig`: with ``attention=causal``, the condition of a token depends only on the tokens
before it in raster order; with ``objective=categorical``, a softmax predicts the bits.

Shapes: B batch, N tokens, K bits, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bigr.models.categorical import CategoricalTranscoder
from bigr.models.config import BiGRConfig
from bigr.models.key_value_memory import Memory
from bigr.models.model_settings import UNKNOWN, ModelSettings
from bigr.models.training_draws import TrainingDraws, draw_num_masked, draw_training
from bigr.models.transcoder import BinaryTranscoder
from bigr.models.transformer import MaskedTransformer


class BiGRLoss(NamedTuple):
    """Loss of one training step, with figures for logging; only ``loss`` has a gradient."""

    loss: Tensor
    """Scalar: the mean over the bits of the masked tokens."""
    bit_accuracy: Tensor
    """Scalar in [0, 1]: share of these bits whose clean value is predicted correctly."""
    token_loss: Tensor
    """(L * B, N): the mean over the bits of each token, for each of its noise levels."""
    token_accuracy: Tensor
    """(L * B, N): the share of correct bits of each token, for each of its noise levels."""
    hidden: Tensor | None = None
    """(B, N, D): hidden states of the tokens after the layer that was asked for; has a gradient."""


class BiGR(nn.Module):
    """The generator predicts the bits of masked tokens from the other tokens and the class."""

    def __init__(self, config: BiGRConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = MaskedTransformer(config)
        self.transcoder: BinaryTranscoder | CategoricalTranscoder
        if config.objective == "categorical":
            self.transcoder = CategoricalTranscoder(config)
        else:
            self.transcoder = BinaryTranscoder(config)
        self.settings: ModelSettings = UNKNOWN
        """Class names, sampler settings and B-AE, which are saved with the weights."""

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
        on_layer: Callable[[int, Tensor], object] | None = None,
    ) -> Tensor:
        """Run the transformer: return the condition of every token, (B, N, D) float32.

        Args:
            codes: (B, N, K) bits as floats; the values of masked tokens are ignored.
            class_ids: (B,) int64 in 0..num_classes, where the last is the null class, or (B, D)
                class embeddings, such as a mixture of two rows of
                ``transformer.class_embedding.weight``.
            is_masked: (B, N) bool, True for tokens whose bits are to be predicted. With causal
                attention it is ignored, because no token sees itself or a later one.
            memory: keys and values from the previous iterations of sampling the same images, see
                :meth:`MaskedTransformer.forward`. Then only masked tokens get their condition.
            on_layer: see :meth:`MaskedTransformer.hidden_states`.

        Raises:
            ValueError: if the shape of ``codes`` does not fit this model.
        """
        self.check_codes(codes)
        condition: Tensor = self.transformer(codes, class_ids, is_masked, memory, on_layer)
        return condition

    def features(self, codes: Tensor, class_ids: Tensor, layer: int) -> Tensor:
        """Return visual features (B, N, D): the hidden states of unmasked tokens after ``layer``.

        Args:
            codes: (B, N, K) bits as floats.
            class_ids: (B,) int64; the paper's linear probe uses the null class.
            layer: number of the layer, from 0; negative numbers count from the last one.

        Raises:
            ValueError: if the shape of ``codes`` does not fit, or there is no such layer.
        """
        self.check_codes(codes)
        depth = self.config.num_layers
        if not -depth <= layer < depth:
            raise ValueError(f"layer must be in {-depth}..{depth - 1}, got {layer}.")
        return self.transformer.hidden_states(codes, class_ids, None, layer % depth + 1)[:, 1:]

    def pooled_features(self, codes: Tensor, class_ids: Tensor, layers: Sequence[int]) -> Tensor:
        """Return the :meth:`features` of several layers, averaged over the tokens.

        Args:
            codes: (B, N, K) bits as floats.
            class_ids: (B,) int64; the paper's linear probe uses the null class.
            layers: numbers of the layers, from 0; one pass computes all of them.

        Returns:
            (B, len(layers), D) float32.

        Raises:
            ValueError: if the shape of ``codes`` does not fit, or there is no such layer.
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

    def draw(
        self, batch_size: int, generator: torch.Generator | None = None, *, num_levels: int = 1
    ) -> TrainingDraws:
        """Draw all random numbers of one training step except dropout, on this model's device.

        Args:
            batch_size: number of images.
            generator: source of randomness on this model's device; None uses the global one. The
                number of masked tokens is always drawn on the CPU, so that the host knows it: from
                ``generator`` if that is one of the CPU, otherwise from the CPU's global one.
            num_levels: noise levels per token, L.
        """
        is_host = generator is not None and generator.device.type == "cpu"
        num_masked = draw_num_masked(self.config, generator if is_host else None)
        return draw_training(
            self.config,
            batch_size,
            num_masked=num_masked,
            num_levels=num_levels,
            generator=generator,
            device=self.device,
        )

    def loss(
        self,
        codes: Tensor,
        class_ids: Tensor,
        *,
        draws: TrainingDraws | None = None,
        generator: torch.Generator | None = None,
        masked_only: bool = False,
        returned_layer: int | None = None,
    ) -> BiGRLoss:
        """Compute the training loss of one batch: the mean over the bits of masked tokens.

        Args:
            codes: (B, N, K) bits as floats.
            class_ids: (B,) int64 in 0..num_classes-1; in training mode, a share of
                ``config.class_dropout`` is replaced by the null class.
            draws: which tokens are masked, and their noise; None calls :meth:`draw`.
            generator: passed to :meth:`draw`.
            masked_only: whether to run the transcoder only on the masked tokens. The loss is the
                same and takes less arithmetic, but the shapes change from step to step, so
                ``torch.compile`` would have to compile again.
            returned_layer: number of the layer, from 0, whose hidden states are returned as well.

        Raises:
            ValueError: if the shape of ``codes`` does not fit this model.
        """
        self.check_codes(codes)
        draws = self.draw(len(codes), generator) if draws is None else draws
        if self.training:
            null = self.config.null_class
            class_ids = torch.where(draws.is_unconditional, null, class_ids)
        kept: list[Tensor] = []

        def keep(layer: int, hidden: Tensor) -> None:
            if layer == returned_layer:
                kept.append(hidden[:, 1:])

        on_layer = None if returned_layer is None else keep
        # The targets stay clean, and the bits of masked tokens are not seen.
        seen = codes if draws.is_flipped is None else (codes - draws.is_flipped.to(codes)).abs()
        condition = self.condition(seen, class_ids, draws.is_masked, on_layer=on_layer)
        hidden = kept[0] if kept else None
        if masked_only:
            return self._masked_loss(codes, condition, draws)._replace(hidden=hidden)
        token_loss, token_accuracy = self._token_loss(codes, condition, draws)
        # Weights instead of indexing: shapes stay static, and the host does not wait.
        counted = draws.is_masked.repeat(draws.num_levels, 1)
        share = counted.float() / counted.sum()
        return BiGRLoss(
            loss=(token_loss * share).sum(),
            bit_accuracy=(token_accuracy * share).sum(),
            token_loss=token_loss.detach(),
            token_accuracy=token_accuracy,
            hidden=hidden,
        )

    def _masked_loss(self, codes: Tensor, condition: Tensor, draws: TrainingDraws) -> BiGRLoss:
        """Compute the loss from the masked tokens alone; figures of other tokens are zero."""
        places = draws.masked_first()[..., None]
        all_places = places.repeat(draws.num_levels, 1, 1)

        def chosen(tensor: Tensor, places: Tensor) -> Tensor:
            return tensor.gather(1, places.expand(-1, -1, tensor.shape[-1]))

        fewer = draws._replace(
            timesteps=chosen(draws.timesteps[..., None], all_places)[..., 0],
            noise=chosen(draws.noise, all_places),
        )
        losses, accuracies = self._token_loss(
            chosen(codes, places), chosen(condition, places), fewer
        )
        nothing = torch.zeros_like(draws.timesteps, dtype=losses.dtype)
        return BiGRLoss(
            loss=losses.mean(),
            bit_accuracy=accuracies.mean(),
            token_loss=nothing.scatter(1, all_places[..., 0], losses.detach()),
            token_accuracy=nothing.scatter(1, all_places[..., 0], accuracies),
        )

    def _token_loss(
        self, codes: Tensor, condition: Tensor, draws: TrainingDraws
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and the accuracy of each of n tokens per image, both (L * B, n)."""
        x_0, t = codes.repeat(draws.num_levels, 1, 1).flatten(0, 1), draws.timesteps.flatten()
        noise = draws.noise.flatten(0, 1)
        tokens = self.transcoder.token_loss(x_0, t, noise, condition.flatten(0, 1))
        shape = draws.timesteps.shape
        return tokens.loss.view(shape), tokens.accuracy.view(shape)
