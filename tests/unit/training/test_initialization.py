"""Weights that are copied, interpolated and new, and parameters that are trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bigr import BiGRConfig
from bigr.checkpoints.errors import CheckpointError
from bigr.models.bigr import BiGR
from bigr.models.rope import rotary_table
from bigr.training.initialization import (
    interpolated_positions,
    matching_rows,
    select_trained,
    start_autoencoder,
    start_generator,
    table,
)
from tests.models import TINY, tiny_autoencoder, tiny_generator

CLASSES = "transformer.class_embedding.weight"
POSITIONS = "transformer.position_table"
CODE_LAYERS = {
    "transformer.token_embedding.weight",
    "transformer.token_embedding.bias",
    "transcoder.denoiser.input.weight",
    "transcoder.denoiser.input.bias",
    "transcoder.denoiser.output.weight",
    "transcoder.denoiser.output.bias",
}


def fresh(**sizes: Any) -> BiGR:
    torch.manual_seed(7)
    return BiGR(BiGRConfig(**{**TINY, **sizes}))


def values(model: BiGR) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("size", [2, 3, 5, 7, 9])
def test_positions_are_resampled_as_pillow_resamples_an_image(size: int) -> None:
    positions = torch.randn(1, 25, 3, generator=torch.Generator().manual_seed(0))
    resized = interpolated_positions(positions, size)
    assert resized.shape == (1, size**2, 3)
    for channel in range(3):
        image = Image.fromarray(positions[0, :, channel].view(5, 5).numpy().astype(np.float32))
        expected = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(
            resized[0, :, channel].view(size, size), expected, rtol=1e-4, atol=1e-5
        )


def test_the_same_sizes_are_copied() -> None:
    found, model = tiny_generator(), fresh()
    origins = start_generator(model, found, rows=[0, 1, 2])
    assert {origin.how for origin in origins.values()} == {"copied"}
    for name, value in values(model).items():
        assert torch.equal(value, found.state_dict()[name]), name


def test_other_classes_grid_and_bits() -> None:
    """Only what has to change does; the null class, the last row, stays."""
    found, model = tiny_generator(), fresh(num_classes=5, grid_size=6, code_dim=9)
    before = {name: value.clone() for name, value in values(model).items()}
    origins = start_generator(model, found, rows=[None, 2, None, 0, None])
    theirs, ours = found.state_dict(), values(model)
    null = theirs[CLASSES][3]
    expected = [null, theirs[CLASSES][2], null, theirs[CLASSES][0], null, null]
    assert torch.equal(ours[CLASSES], torch.stack(expected))
    assert torch.equal(ours[POSITIONS], interpolated_positions(theirs[POSITIONS], 6))
    for name, value in ours.items():
        if name in CODE_LAYERS:
            assert torch.equal(value, before[name]), name
        elif name not in (CLASSES, POSITIONS):
            assert torch.equal(value, theirs[name]), name
    # The rotary embedding is that of the new grid.
    assert torch.equal(model.transformer.rotary, rotary_table(6, 16, 10_000.0))
    changed = {name for name, origin in origins.items() if origin.how != "copied"}
    assert changed == {CLASSES, POSITIONS, *CODE_LAYERS}
    lines = table(origins, {name: value.numel() for name, value in ours.items()})
    assert [line.split()[0] for line in lines] == ["copied", "interpolated", "new", "new"]
    assert "4x4 to 6x6 tokens" in lines[1]
    assert "3 of 5 classes; the others and the null class copied" in lines[2]
    assert "(6 to 9 bits)" in lines[3]
    assert f"{36 * 32:,} parameters: {POSITIONS}" in lines[1]
    model.loss(torch.zeros(1, 36, 9), torch.tensor([4])).loss.backward()


ANIMALS = ["ant", "bee", "cat"]


@pytest.mark.parametrize(
    ("rows", "ours", "theirs", "num_ours", "expected"),
    [
        ("auto", ["Cat", "dog"], ANIMALS, 2, [2, None]),
        ("auto", None, ANIMALS, 3, [0, 1, 2]),
        ("auto", None, ANIMALS, 2, [None, None]),
        ("auto", ["x", "y", "z"], None, 3, [0, 1, 2]),
        ("new", ANIMALS, ANIMALS, 3, [None] * 3),
        ({"dog": "cat"}, ["cat", "dog"], ANIMALS, 2, [None, 2]),
        ({1: 0, "0": "bee"}, None, ANIMALS, 2, [1, 0]),
    ],
)
def test_which_rows(rows: Any, ours: Any, theirs: Any, num_ours: int, expected: Any) -> None:
    assert matching_rows(rows, ours, theirs, num_ours, 3) == expected


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"dgo": "cat"}, r"task\.class_rows, new classes: class 'dgo': no class .* mean dog\?"),
        ({"dog": "cats"}, r"classes of task\.init_from: class 'cats': no class.* mean cat\?"),
        ({0: 1, "cat": 2}, r"two rows for the same new class: 0 and cat\. Leave one"),
        ({5: 0}, r"new classes: class 5: this generator has the classes 0\.\.1"),
    ],
)
def test_classes_that_do_not_exist(rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        matching_rows(rows, ["cat", "dog"], ANIMALS, 2, 3)


@pytest.mark.parametrize(
    ("patterns", "trained"),
    [
        ({}, lambda name: True),
        ({"freeze": ["transformer"]}, lambda name: name.startswith("transcoder.")),
        ({"train": ["*.layers.1.*"]}, lambda name: ".layers.1." in name),
        (
            {"train": ["transformer"], "freeze": ["*.weight"]},
            lambda name: name.startswith("transformer.") and not name.endswith(".weight"),
        ),
        ({"train": [CLASSES], "always": [POSITIONS]}, lambda name: name in (CLASSES, POSITIONS)),
        ({"never": [CLASSES, POSITIONS]}, lambda name: name not in (CLASSES, POSITIONS)),
    ],
)
def test_what_is_trained(patterns: Any, trained: Any) -> None:
    model = tiny_generator()
    select_trained(model, **patterns)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == trained(name), name


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (
            {"freeze": ["encoder.*"]},
            r"task\.freeze: no parameter has a name like encoder\.\*",
        ),
        ({"train": ["layers.0"]}, r"task\.train: no parameter .* most similar name is transf"),
        ({"freeze": ["*"]}, "leave no parameter to train"),
    ],
)
def test_patterns_that_cannot_be_meant(patterns: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select_trained(tiny_generator(), **patterns)


def test_an_autoencoder_with_other_bits() -> None:
    found, model = tiny_autoencoder(), tiny_autoencoder(seed=1, code_dim=9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    origins = start_autoencoder(model, found, "somewhere")
    for name, value in model.state_dict().items():
        source = before if name.startswith("quantizer.") else found.state_dict()
        assert torch.equal(value, source[name]), name
    assert {origin.how for name, origin in origins.items() if "quantizer" in name} == {"new"}
    with pytest.raises(CheckpointError, match="only code_dim may differ"):
        start_autoencoder(tiny_autoencoder(embed_dim=64), found, "somewhere")
