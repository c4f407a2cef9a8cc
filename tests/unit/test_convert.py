"""``python -m bigr.convert``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from bigr import load_autoencoder, load_generator
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.convert import main
from tests.models import tiny_autoencoder, tiny_generator


def same(first: Path, second: Path) -> bool:
    """Equal names and numbers, and equal metadata."""
    with safe_open(str(first), "pt") as ours, safe_open(str(second), "pt") as theirs:
        names = set(ours.keys())
        return (
            names == set(theirs.keys())
            and ours.metadata() == theirs.metadata()
            and all(torch.equal(ours.get_tensor(n), theirs.get_tensor(n)) for n in names)
        )


def test_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = save_generator(tiny_generator(), tmp_path / "g.safetensors")
    main([str(own), str(tmp_path / "g.pt")])
    assert "generator" in capsys.readouterr().out
    main([str(tmp_path / "g.pt"), str(tmp_path / "again.safetensors")])
    assert same(tmp_path / "again.safetensors", own)
    assert load_generator(tmp_path / "g.pt").config == load_generator(own).config

    own = save_autoencoder(tiny_autoencoder(), tmp_path / "a.safetensors")
    main([str(own), str(tmp_path / "a.th")])
    main([str(tmp_path / "a.th"), str(tmp_path / "again2.safetensors")])
    assert same(tmp_path / "again2.safetensors", own)
    assert load_autoencoder(tmp_path / "a.th").config == load_autoencoder(own).config


def test_existing_files_are_kept(tmp_path: Path) -> None:
    own = save_generator(tiny_generator(), tmp_path / "g.safetensors")
    target = tmp_path / "g.pt"
    target.write_text("precious")
    with pytest.raises(SystemExit, match=r"g\.pt exists.*--force"):
        main([str(own), str(target)])
    assert target.read_text() == "precious"
    main([str(own), str(target), "--force"])
    assert load_generator(target).config == load_generator(own).config


def test_errors_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="There is no checkpoint"):
        main([str(tmp_path / "nothing.pt"), str(tmp_path / "g.safetensors")])
    own = save_generator(tiny_generator(), tmp_path / "g.safetensors")
    with pytest.raises(SystemExit, match=r"must end in \.safetensors"):
        main([str(own), str(tmp_path / "g.bin")])


def test_codes_to_the_released_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.integration.test_data_modules import codes_of, make_store

    make_store(tmp_path / "store")
    main([str(tmp_path / "store"), str(tmp_path / "released")])
    assert "train_ids.bin, train_lbs.bin, val_ids.bin" in capsys.readouterr().out
    planes = np.fromfile(tmp_path / "released" / "val_ids.bin", np.uint8).reshape(3, 5, 6, 16)
    assert np.array_equal(planes, codes_of("val").transpose(1, 0, 3, 2))
    with pytest.raises(SystemExit, match="already exists"):
        main([str(tmp_path / "store"), str(tmp_path / "released")])
