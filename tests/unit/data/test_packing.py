"""Packing of bits into bytes, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bigr.data.packing import pack_codes, packed_size, unpack_codes


@pytest.mark.parametrize(("seq_len", "code_dim"), [(256, 24), (256, 32), (16, 12), (16, 6), (1, 8)])
def test_packing_is_numpys(seq_len: int, code_dim: int) -> None:
    codes = torch.randint(0, 2, (5, seq_len, code_dim))
    expected = np.packbits(codes.numpy().astype(np.uint8).reshape(5, -1), axis=1)
    for dtype in (torch.float32, torch.bool, torch.uint8):
        packed = pack_codes(codes.to(dtype))
        assert packed.dtype == torch.uint8
        assert np.array_equal(packed.numpy(), expected)
    unpacked = unpack_codes(packed, code_dim)
    assert unpacked.dtype == torch.float32
    assert torch.equal(unpacked, codes.float())


def test_sizes() -> None:
    assert packed_size(256, 24) == 768
    with pytest.raises(ValueError, match="3 tokens of 3 bits do not fill whole bytes"):
        packed_size(3, 3)
