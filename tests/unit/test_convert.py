"""``python -m bigr.convert``."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from bigr import load_autoencoder, load_generator
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.convert import main
from tests.disk import full_disk
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


def assert_fails(capsys: pytest.CaptureFixture[str], message: str, words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert re.fullmatch(f"bigr\\.convert: .*{message}.*\n", printed), printed


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


def test_existing_files_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = save_generator(tiny_generator(), tmp_path / "g.safetensors")
    target = tmp_path / "g.pt"
    target.write_text("precious")
    assert_fails(capsys, r"g\.pt exists.*--force", [str(own), str(target)])
    assert target.read_text() == "precious"
    main([str(own), str(target), "--force"])
    assert load_generator(target).config == load_generator(own).config


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(tmp_path / "nothing.pt"), str(tmp_path / "g.safetensors")]
    assert_fails(capsys, "There is no checkpoint", words)
    own = save_generator(tiny_generator(), tmp_path / "g.safetensors")
    assert_fails(capsys, r"must end in \.safetensors", [str(own), str(tmp_path / "g.bin")])


def test_codes_to_the_released_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.integration.test_data_modules import codes_of, make_store

    make_store(tmp_path / "store")
    main([str(tmp_path / "store"), str(tmp_path / "released")])
    assert "train_ids.bin, train_lbs.bin, val_ids.bin" in capsys.readouterr().out
    planes = np.fromfile(tmp_path / "released" / "val_ids.bin", np.uint8).reshape(3, 5, 6, 16)
    assert np.array_equal(planes, codes_of("val").transpose(1, 0, 3, 2))
    assert_fails(capsys, "already exists", [str(tmp_path / "store"), str(tmp_path / "released")])


def test_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = save_generator(tiny_generator(), tmp_path / "g.safetensors")
    for name in ("new.pt", "new.safetensors"):
        words = [str(own), str(tmp_path / name)]
        with full_disk():
            assert_fails(capsys, f"{name} could not be written: .*File too large", words)
    assert list(tmp_path.iterdir()) == [own]


def test_special_files_are_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = save_generator(tiny_generator(), tmp_path / "g.safetensors")
    pipe = tmp_path / "pipe.pt"
    os.mkfifo(pipe)
    assert_fails(capsys, "is a named pipe", [str(own), str(pipe), "--force"])
    assert_fails(capsys, "is not a regular file", [str(pipe), str(tmp_path / "new.pt")])
    assert pipe.is_fifo()


def test_an_archive_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading verifies gigabytes."""
    own = save_autoencoder(tiny_autoencoder(), tmp_path / "a.safetensors")
    paths = []
    monkeypatch.setattr(
        "bigr.checkpoints.read.content_sha256",
        lambda tensors, metadata: paths.append(own) or metadata["bigr.sha256"],
    )
    main([str(own), str(tmp_path / "a.th")])
    assert paths == [own]
