"""Networks that are built without values."""

from __future__ import annotations

import torch
from torch import nn

from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.models.without_values import without_values
from tests.models import tiny_autoencoder, tiny_generator


def test_shapes_without_memory() -> None:
    for whole in (tiny_generator(), tiny_autoencoder()):
        kind: type[nn.Module] = type(whole)
        assert kind in (BiGR, BinaryAutoencoder)
        with without_values():
            empty = kind(whole.config)
        assert all(tensor.is_meta for tensor in empty.state_dict().values())
        shapes = {name: tensor.shape for name, tensor in empty.state_dict().items()}
        assert shapes == {name: tensor.shape for name, tensor in whole.state_dict().items()}


def test_layers_outside_are_initialised() -> None:
    with without_values():
        pass
    weights = torch.empty(1000)
    nn.init.normal_(weights, std=2.0)
    assert 1.8 < weights.std() < 2.2
