"""The masked, bidirectional, class-conditional transformer: codes in, conditions out.

Shapes: B batch, N tokens, L = 1 + N positions, K bits, D width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bigr.models.adaln import RMSNorm
from bigr.models.config import BiGRConfig
from bigr.models.key_value_memory import Memory
from bigr.models.layers import TransformerLayer
from bigr.models.rope import rotary_table


class MaskedTransformer(nn.Module):
    """Llama-style transformer over [class token; N image tokens].

    The class enters twice: as the first token, and through adaLN with one projection shared by
    all layers plus a learned offset per layer.
    """

    rotary: Tensor
    recomputes = False
    """Keep no activations inside layers, compute them again in the backward pass."""

    def __init__(self, config: BiGRConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.token_embedding = nn.Linear(config.code_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, dim))
        self.class_embedding = nn.Embedding(config.num_classes + 1, dim)
        self.modulation = nn.Linear(dim, 6 * dim)
        self.layers = nn.ModuleList(
            TransformerLayer(
                dim,
                config.num_heads,
                config.feed_forward_dim,
                dropout=config.dropout,
                norm_eps=config.norm_eps,
            )
            for _ in range(config.num_layers)
        )
        self.norm = RMSNorm(dim, config.norm_eps)
        self.position_table = nn.Parameter(torch.zeros(1, config.seq_len, dim))
        self.reset_buffers()
        self.reset_parameters()

    def reset_buffers(self) -> None:
        """Compute the buffers that checkpoints don't hold (needed after a meta-device build)."""
        head_dim = self.config.dim // self.config.num_heads
        table = rotary_table(self.config.grid_size, head_dim, self.config.rope_base)
        self.register_buffer("rotary", table, persistent=False)

    def reset_parameters(self) -> None:
        """N(0, init_std) weights, zero biases and adaLN projection; the mask token is N(0, 1)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.init_std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.modulation.weight)
        nn.init.normal_(self.mask_token)
        for layer in self.layers:
            assert isinstance(layer, TransformerLayer)
            nn.init.normal_(layer.modulation_offset, std=1 / math.sqrt(self.config.dim))
        nn.init.normal_(self.position_table, std=self.config.init_std)

    def with_layers(self, change: Callable[[nn.Module], nn.Module]) -> MaskedTransformer:
        """The same transformer, weights shared, with ``change(layers)`` in their place."""
        other = copy.copy(self)
        other.__dict__["_modules"] = {**self._modules, "layers": change(self.layers)}
        return other

    def embed_classes(self, class_ids: Tensor) -> Tensor:
        """Class ids (B,) to embeddings (B, D); embeddings (B, D) pass through."""
        if class_ids.is_floating_point():
            return class_ids
        embedding: Tensor = self.class_embedding(class_ids)
        return embedding

    def hidden_states(
        self,
        codes: Tensor,
        class_ids: Tensor,
        is_masked: Tensor | None,
        num_layers: int,
        *,
        memory: Memory | None = None,
        on_layer: Callable[[int, Tensor], object] | None = None,
    ) -> Tensor:
        """Compute hidden states after the first ``num_layers`` layers.

        Args:
            codes: see :meth:`forward`.
            class_ids: see :meth:`forward`.
            is_masked: see :meth:`forward`; None masks nothing.
            num_layers: layers to run.
            memory: compute only those of the L positions that it asks for.
            on_layer: called with the index of each layer and its hidden states.

        Returns:
            (B, L, D); with ``memory``, zeros where nothing was computed.
        """
        # 1. Embed the class and the tokens; all layers share one modulation.
        tokens = self.token_embedding(codes)
        if is_masked is not None:
            tokens = torch.where(is_masked[..., None], self.mask_token.to(tokens.dtype), tokens)
        classes = self.embed_classes(class_ids)
        modulation = self.modulation(F.silu(classes)).unflatten(-1, (6, -1))
        x = torch.cat([classes[:, None].to(tokens.dtype), tokens], dim=1)
        num_positions, rotary = x.shape[1], self.rotary
        # 2. With a memory, continue with the positions that have to be computed.
        if memory is not None and is_masked is not None:
            memory.begin(is_masked)
            x = memory.take(x)
            rotary = rotary if memory.positions is None else rotary[:, memory.positions]
        # 3. Run the layers.
        recomputes = self.recomputes and torch.is_grad_enabled()
        for index, layer in enumerate(self.layers[:num_layers]):
            if recomputes:
                x = checkpoint(layer, x, modulation, rotary, use_reentrant=False)
            else:
                x = layer(x, modulation, rotary, memory and memory.layers[index])
            if on_layer is not None:
                on_layer(index, x)
        return x if memory is None else memory.put_back(x, num_positions)

    def forward(
        self,
        codes: Tensor,
        class_ids: Tensor,
        is_masked: Tensor,
        memory: Memory | None = None,
    ) -> Tensor:
        """Condition of the transcoder for every token.

        Args:
            codes: (B, N, K) bits as floats; values at masked positions don't matter.
            class_ids: (B,) int64 ids, or (B, D) embeddings such as an interpolation.
            is_masked: (B, N) bool, True = to be predicted.
            memory: of earlier passes over the same images, of which tokens were decided since:
                what it holds of tokens decided before is used as it is.

        Returns:
            (B, N, D) float32; with ``memory``, right for masked tokens only.
        """
        depth = self.config.num_layers
        hidden = self.hidden_states(codes, class_ids, is_masked, depth, memory=memory)
        condition: Tensor = self.norm(hidden)[:, 1:].float() + self.position_table
        return condition
