"""Pictures to try things out with."""

from __future__ import annotations

import numpy as np

from bigr.data.digits import load_digits
from bigr.data.examples import EXAMPLE_DIGITS, example_pictures
from bigr.data.image_arrays import to_tensor, to_uint8


def test_digits_for_small_models() -> None:
    digits = load_digits("test", 16)
    for picture, label in zip(example_pictures(16), EXAMPLE_DIGITS, strict=True):
        same = (to_uint8(digits.images) == to_uint8(to_tensor(picture))).flatten(1).all(dim=1)
        assert digits.labels[same].tolist() == [label]


def test_photographs_for_others() -> None:
    sizes = [picture.size for picture in example_pictures(256)]
    assert sizes == [(640, 427)] * 2
    assert np.array(example_pictures(256)[0]).std() > 20
