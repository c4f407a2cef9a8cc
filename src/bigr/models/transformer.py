"""The masked transformer: from partly masked codes and a class to a condition for every token.

Attention is bidirectional and has no mask: every position sees every other one. "Masked" refers to
the input: the bits of a masked token are replaced by one learned vector, the mask token.

With ``attention=causal``, the transformer predicts the next token instead: a position sees itself
and those before it, the output of position i is the condition of token i (the token of position
i + 1), and there is no mask token.

Shapes: B batch, N tokens, L = 1 + N positions (the class token comes first), K bits, D width.
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

ROWS_PER_PART = 2048
"""Positions that a CPU computes at once: 8 images of 16x16 tokens, or 2 of 32x32."""


class MaskedTransformer(nn.Module):
    """A transformer like Llama over the class token and N image tokens.

    The class enters twice: as the first token, and through adaLN, whose projection is shared by all
    layers while each layer adds a learned offset.
    """

    rotary: Tensor
    mask_token: nn.Parameter | None
    recomputes = False
    """Whether the backward pass recomputes the activations inside layers."""

    def __init__(self, config: BiGRConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.token_embedding = nn.Linear(config.code_dim, dim)
        self.is_causal = config.attention == "causal"
        self.mask_token = None if self.is_causal else nn.Parameter(torch.zeros(1, dim))
        self.class_embedding = nn.Embedding(config.num_classes + 1, dim)
        self.modulation = nn.Linear(dim, 6 * dim)
        self.layers = nn.ModuleList(
            TransformerLayer(
                dim,
                config.num_heads,
                config.feed_forward_dim,
                dropout=config.dropout,
                norm_eps=config.norm_eps,
                is_causal=self.is_causal,
            )
            for _ in range(config.num_layers)
        )
        self.norm = RMSNorm(dim, config.norm_eps)
        self.position_table = nn.Parameter(torch.zeros(1, config.seq_len, dim))
        self.reset_buffers()
        self.reset_parameters()

    def reset_buffers(self) -> None:
        """Compute the buffers, which checkpoints do not contain; call it after a meta build."""
        head_dim = self.config.dim // self.config.num_heads
        table = rotary_table(self.config.grid_size, head_dim, self.config.rope_base)
        self.register_buffer("rotary", table.to(self.position_table.device), persistent=False)

    def reset_parameters(self) -> None:
        """Draw weights from N(0, init_std) and the mask token from N(0, 1).

        Biases and the weights of the adaLN projection are zero; offsets are from N(0, 1/sqrt(D)).
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.init_std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.modulation.weight)
        if self.mask_token is not None:
            nn.init.normal_(self.mask_token)
        for layer in self.layers:
            assert isinstance(layer, TransformerLayer)
            nn.init.normal_(layer.modulation_offset, std=1 / math.sqrt(self.config.dim))
        nn.init.normal_(self.position_table, std=self.config.init_std)

    def with_layers(self, change: Callable[[nn.Module], nn.Module]) -> MaskedTransformer:
        """Return a copy that has ``change(layers)`` as its layers and shares all other weights.

        If ``change`` returns the layers themselves, no copy is made.
        """
        layers = change(self.layers)
        if layers is self.layers:
            return self
        other = copy.copy(self)
        other.__dict__["_modules"] = {**self._modules, "layers": layers}
        return other

    def embed_classes(self, class_ids: Tensor) -> Tensor:
        """Return the embeddings (B, D) of class ids (B,); embeddings are returned as they are."""
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
        """Compute the hidden states of all positions after the first ``num_layers`` layers.

        Args:
            codes: see :meth:`forward`.
            class_ids: see :meth:`forward`.
            is_masked: see :meth:`forward`; None masks no token.
            num_layers: number of layers to run.
            memory: see :meth:`forward`.
            on_layer: called with the number of each layer, from 0, and its hidden states.

        Returns:
            (B, L, D); with ``memory``, positions that were not computed are zero.
        """
        # 1. Embed the class and the tokens. All layers share one modulation.
        tokens = self.token_embedding(codes)
        if is_masked is not None and self.mask_token is not None:
            tokens = torch.where(is_masked[..., None], self.mask_token.to(tokens.dtype), tokens)
        classes = self.embed_classes(class_ids)
        modulation = self.modulation(F.silu(classes)).unflatten(-1, (6, -1))
        x = torch.cat([classes[:, None].to(tokens.dtype), tokens], dim=1)
        num_positions, rotary = x.shape[1], self.rotary
        # 2. With a memory, keep only the positions that have to be computed, such as the class
        # token and the tokens that were masked in the previous pass. The others are in the memory.
        if memory is not None and is_masked is not None:
            memory.begin(is_masked, classes)
            x = memory.take(x)
            rotary = rotary if memory.positions is None else rotary[:, memory.positions]
        # 3. Run the layers. Each one adds its keys and values to its part of the memory.
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
        on_layer: Callable[[int, Tensor], object] | None = None,
    ) -> Tensor:
        """Compute the condition of every token.

        Sampling runs one pass per iteration, and each iteration decides some of the masked tokens.
        With ``memory``, attention uses the stored keys and values of tokens that were decided
        earlier, instead of computing them again. A token decided in the last iteration is computed
        once more, now with its bits. This is an approximation: stored values do not see later
        tokens. It is exact for causal attention, where a
        :class:`~bigr.models.key_value_memory.CausalMemory` also leaves out all later tokens.

        Args:
            codes: (B, N, K) bits as floats; the values of masked tokens are ignored.
            class_ids: (B,) int64 ids, or (B, D) embeddings, such as mixtures of two classes.
            is_masked: (B, N) bool, True for tokens whose bits are to be predicted.
            memory: keys and values of earlier passes over the same images, which this pass
                updates; None computes all positions.
            on_layer: see :meth:`hidden_states`.

        Returns:
            (B, N, D) float32; with ``memory``, only the conditions of masked tokens are valid, or
            that of the next token with a causal one.
        """
        # A CPU computes a few images at a time without gradients, whose activations fit its cache.
        images = max(1, round(ROWS_PER_PART / (codes.shape[1] + 1)))
        is_alone = memory is None and on_layer is None and not torch.is_grad_enabled()
        if is_alone and codes.device.type == "cpu" and len(codes) > images:
            inputs = [one.split(images) for one in (codes, class_ids, is_masked)]
            return torch.cat([self(*part) for part in zip(*inputs, strict=True)])
        depth = self.config.num_layers
        hidden = self.hidden_states(
            codes, class_ids, is_masked, depth, memory=memory, on_layer=on_layer
        )
        outputs = slice(-1) if self.is_causal else slice(1, None)
        condition: Tensor = self.norm(hidden)[:, outputs].float() + self.position_table
        return condition
