"""The digits are scikit-learn's own."""

from __future__ import annotations

import pytest
import torch

from bigr.data.digits import check_digit_classes, load_digits, to_native


def test_digits_are_the_data_sets_own() -> None:
    from sklearn.datasets import load_digits as load_bunch

    bunch = load_bunch()
    train, test = load_digits("train", 16), load_digits("test", 16)
    assert (len(train.labels), len(test.labels)) == (1437, 360)
    assert train.images.shape == (1437, 3, 16, 16)
    assert train.images.min() == 0
    assert train.images.max() == 1
    ours = torch.cat([to_native(load_digits(split, 8).images) for split in ("train", "test")])
    rows = {tuple(row) for row in ours.round().long().tolist()}
    assert rows == {tuple(row) for row in bunch.data.astype(int).tolist()}
    assert torch.bincount(test.labels).min() >= 34


def test_digits_split_is_fixed() -> None:
    assert (
        load_digits("test", 16).labels[:12].tolist() == load_digits("test", 8).labels[:12].tolist()
    )
    again = load_digits("train", 16)
    assert torch.equal(again.images, load_digits("train", 16).images)


def test_digits_of_odd_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8, got 20"):
        load_digits("train", 20)


def test_the_classes_of_a_generator() -> None:
    names = [str(digit) for digit in range(10)]
    check_digit_classes(10, None, "evaluation=digits")
    check_digit_classes(10, names, "evaluation=digits")
    with pytest.raises(ValueError, match="evaluation=digits needs a generator with 10 classes"):
        check_digit_classes(9, names[1:], "evaluation=digits")
    with pytest.raises(ValueError, match=r"first class of this generator is called 9: use eval"):
        check_digit_classes(10, names[::-1], "evaluation=digits")
