"""Identification of weights, independent of the file that they were loaded from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def weights_sha256(model: nn.Module | Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 checksum of the names, shapes and float32 values of all tensors."""
    tensors = model.state_dict() if isinstance(model, nn.Module) else model
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        values = tensor.detach().to("cpu", torch.float32).contiguous()
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()
