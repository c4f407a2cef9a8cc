"""Functions of configuration files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bigr.checkpoints.native import save_autoencoder
from bigr.cli.configuration import register_resolvers
from tests.image_files import ODD, write_flat, write_listed
from tests.models import tiny_autoencoder

STORE = '{"format": "bigr-codes", "version": 1, "settings": '


def num_classes(root: Path) -> int:
    register_resolvers()
    return int(OmegaConf.create({"n": f"${{bigr.num_classes:{root},7}}"}).n)


def test_the_number_of_classes_of_a_store(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(STORE + '{"num_classes": 3}}')
    assert num_classes(tmp_path) == 3


@pytest.mark.parametrize(
    "text", ["", "[]", STORE + "null}", STORE + "{}}", STORE + '{"num_classes": 3}}}']
)
def test_damaged_manifests_are_left_to_the_data_module(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert num_classes(tmp_path) == 7


def test_a_short_run_has_a_short_warm_up() -> None:
    register_resolvers()
    found = [
        OmegaConf.create({"n": f"${{bigr.warmup_steps:50,{steps}}}"}).n
        for steps in (700, 200, 30, 3, -1)
    ]
    assert found == [50, 50, 7, 0, 50]


def test_a_manifest_that_is_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    assert num_classes(tmp_path) == 7


def test_the_number_of_classes_of_images(tmp_path: Path) -> None:
    write_flat(tmp_path / "flat", {"1.png": ODD["png"]})
    images = {("a", "1.png"): ODD["png"], ("b", "2.png"): ODD["png"]}
    write_listed(tmp_path / "listed", images, "csv")
    assert [num_classes(tmp_path / name) for name in ("flat", "listed", "none")] == [1, 2, 7]
    (tmp_path / "listed" / "labels.csv").write_text("damaged")
    assert num_classes(tmp_path / "listed") == 7  # the data module explains it


def test_sizes_of_codes_follow_the_store_then_the_autoencoder(tmp_path: Path) -> None:
    def sizes(root: str, autoencoder: str) -> tuple[int, int]:
        register_resolvers()
        names, given = ("code_dim", "grid_size"), f"{root},{autoencoder},99"
        found = OmegaConf.create({n: f"${{bigr.of_codes:{n},{given}}}" for n in names})
        return found.code_dim, found.grid_size

    save_autoencoder(tiny_autoencoder(), tmp_path / "a.safetensors")
    file = str(tmp_path / "a.safetensors")
    (tmp_path / "manifest.json").write_text(STORE + '{"code_dim": 3, "grid_size": 5}}')
    assert sizes("null", "null") == (99, 99)
    assert sizes(str(tmp_path), file) == (3, 5)
    assert sizes("null", file) == (6, 4)
    assert sizes("null", f"{file}.missing") == (99, 99)
    save_autoencoder(tiny_autoencoder(code_dim=12), tmp_path / "a.safetensors")
    assert sizes("null", file) == (12, 4)  # another file of the same name


@pytest.mark.parametrize(("is_native", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_training_is_never_slowed_down_by_emulated_products(
    is_native: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_resolvers()
    monkeypatch.setattr("bigr.sampling.networks.multiplies_bfloat16", lambda device: is_native)
    assert OmegaConf.create({"precision": "${bigr.native_precision:}"}).precision == expected
