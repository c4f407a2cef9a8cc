"""Access to weights that are not sharded; tests/integration runs the sharded ones."""

from __future__ import annotations

import torch

from bigr.training.sharding import is_sharded, load_whole, local, reshard, whole
from tests.models import tiny_generator


def test_plain_weights_are_their_own_shard() -> None:
    model = tiny_generator(0)
    tensor = next(model.parameters())
    assert not is_sharded(model)
    reshard(model)
    assert local(tensor) is whole(tensor) is tensor
    other = tiny_generator(1)
    load_whole(model, other.state_dict())
    for name, value in other.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
