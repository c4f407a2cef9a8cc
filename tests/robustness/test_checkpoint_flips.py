"""Single bits of checkpoints are flipped: each file is refused, or has exactly the same content."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bigr import load_autoencoder, load_generator
from bigr.checkpoints.archives import find_damage
from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.export import save_released_generator
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.models.discriminator import DiscriminatorConfig, PatchDiscriminator
from bigr.training.checkpoint_files import what_is_wrong
from tests.models import tiny_autoencoder, tiny_generator

COUNT = 500 if os.environ.get("BIGR_FUZZ") == "1" else 60
SIZES = {"dim": 16, "num_layers": 1, "denoiser_dim": 8, "denoiser_blocks": 1, "num_heads": 2}


def lightning_checkpoint(path: Path) -> Path:
    """A training checkpoint: weights, their average, and the state of the optimiser."""
    model = tiny_generator(**SIZES)
    weights = {f"model.{name}": weight for name, weight in model.state_dict().items()}
    state = {index: {"exp_avg": weight + 1} for index, weight in enumerate(weights.values())}
    content = {
        "state_dict": weights,
        "current_model_state": {name: weight * 2 for name, weight in weights.items()},
        "optimizer_states": [{"state": state, "param_groups": [{"lr": 1e-4}]}],
        "loops": {"fit_loop": {"state_dict": {}}},
        "global_step": 7,
        "bigr": {"kind": "generator", "config": dataclasses.asdict(model.config), "run": {}},
    }
    torch.save(content, path)
    return path


def own_autoencoder(path: Path) -> Path:
    discriminator = PatchDiscriminator(DiscriminatorConfig(base_channels=4, num_layers=1))
    return save_autoencoder(tiny_autoencoder(), path, discriminator=discriminator)


FILES: dict[str, Callable[[Path], Path]] = {
    "a.ckpt": lightning_checkpoint,
    "a.pt": lambda path: save_released_generator(tiny_generator(**SIZES), path),
    "generator.safetensors": lambda path: save_generator(tiny_generator(**SIZES), path),
    "autoencoder.safetensors": own_autoencoder,
}


def flipped(path: Path, seed: int, *, in_structure: bool = False) -> Iterator[int]:
    """Flip one random bit after the other in a file; yield its position, and flip it back.

    Args:
        path: the file.
        seed: of the positions.
        in_structure: whether to choose among the bytes that are not zero and not weights: the
            first and the last quarter of the file.
    """
    data = path.read_bytes()
    generator = random.Random(seed)
    quarter = len(data) // 4
    with path.open("r+b", buffering=0) as file:
        for _ in range(COUNT):
            place = generator.randrange(len(data))
            if in_structure:
                place = generator.randrange(-quarter, quarter) % len(data)
            for byte in (data[place] ^ (1 << generator.randrange(8)), data[place]):
                file.seek(place)
                file.write(bytes([byte]))
                if byte != data[place]:
                    yield place


def same(ours: Any, theirs: Any) -> bool:
    """Compare nested containers of tensors and plain values, bit for bit."""
    if isinstance(ours, torch.Tensor):
        return (
            isinstance(theirs, torch.Tensor)
            and ours.dtype == theirs.dtype
            and torch.equal(ours, theirs)
        )
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(ours == theirs)


@pytest.mark.parametrize("in_structure", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_weights_are_refused_or_unchanged(tmp_path: Path, name: str, in_structure: bool) -> None:
    path = FILES[name](tmp_path / name)
    load: Any = load_autoencoder if name.startswith("autoencoder") else load_generator
    expected, refused = load(path), 0
    for place in flipped(path, 17 + in_structure, in_structure=in_structure):
        try:
            loaded, message = load(path), ""
        except CheckpointError as error:
            loaded, message = None, str(error)
        if loaded is None:
            assert str(path) in message, place
            assert "\n" not in message, place
            refused += 1
        else:
            assert same(dict(loaded.state_dict()), dict(expected.state_dict())), place
            assert loaded.config == expected.config, place
    assert refused > COUNT / 4


@pytest.mark.parametrize("in_structure", [False, True])
def test_resuming_is_refused_or_unchanged(tmp_path: Path, in_structure: bool) -> None:
    path = lightning_checkpoint(tmp_path / "step_00000007.ckpt")
    expected, refused = torch.load(path, weights_only=True), 0
    for place in flipped(path, 19 + in_structure, in_structure=in_structure):
        if what_is_wrong(path) is not None:
            refused += 1
            continue
        for mmap in (False, True):
            assert same(torch.load(path, weights_only=True, mmap=mmap), expected), place
    assert refused > COUNT / 4


def test_every_bit_of_a_small_archive(tmp_path: Path) -> None:
    """Every bit with ``make fuzz``, otherwise every 29th, for both of PyTorch's ways of reading."""
    path = tmp_path / "a.ckpt"
    content = {"a": torch.arange(10.0), "b": [1, 2.5, "x"], "c": torch.ones(3, dtype=torch.int64)}
    torch.save(content, path)
    data = bytearray(path.read_bytes())
    outcomes = collections.Counter[str]()
    for place in range(0, 8 * len(data), 1 if COUNT == 500 else 29):
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        data[place // 8] ^= 1 << place % 8
        if find_damage(path) is not None:
            outcomes["refused"] += 1
            continue
        loaded = []
        for mmap in (False, True):
            with contextlib.suppress(RuntimeError):  # the reader refuses it, too
                loaded.append(torch.load(path, weights_only=True, mmap=mmap))
        assert len(loaded) in (0, 2), place
        assert all(same(one, content) for one in loaded), place
        outcomes["unchanged" if loaded else "refused by PyTorch"] += 1
    assert outcomes["refused"] > outcomes["unchanged"] > outcomes["refused by PyTorch"]
