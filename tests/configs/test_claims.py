"""The rows of docs/claims.md differ in what they say they differ in, and their tables are right."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from bigr.cli.entry import quote_numbers
from bigr.models.bigr import BiGR

ROOT = Path(__file__).parents[2]
S_ROWS = ("s0", "s1", "s2", "s3")
DATASETS = {"digits": ("digits", "16"), "fashion": ("fashion", "32")}


def composed(row: str, dataset: str = "digits") -> Any:
    autoencoder, resolution = DATASETS[dataset]
    overrides = [f"experiment=claims/{row}", f"autoencoder={autoencoder}", "data.root=codes"]
    words = [*overrides, f"resolution={resolution}", "data.num_classes=10", "paths.output=out"]
    return hydra.compose("train", quote_numbers(words))


@pytest.mark.usefixtures("composing")
@pytest.mark.parametrize("dataset", DATASETS)
def test_rows_have_the_same_number_of_parameters(
    dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 3%, and S0 to S3 differ in their two settings alone."""
    grid, bits = {"digits": (4, 12), "fashion": (8, 16)}[dataset]
    sizes, settings, others = {}, {}, []
    for row in S_ROWS:
        config = composed(row, dataset)
        config.model.grid_size, config.model.code_dim = grid, bits
        model = instantiate(config.model)
        with torch.device("meta"):
            sizes[row] = sum(parameter.numel() for parameter in BiGR(model).parameters())
        settings[row] = (model.attention, model.objective)
        config.model.attention, config.model.objective = "bidirectional", "flip"
        others.append(OmegaConf.to_container(config, resolve=True))
    assert settings == {
        "s0": ("causal", "categorical"),
        "s1": ("bidirectional", "categorical"),
        "s2": ("causal", "flip"),
        "s3": ("bidirectional", "flip"),
    }
    assert others == [others[0]] * 4
    for row, size in sizes.items():
        assert size == pytest.approx(sizes["s3"], rel=0.03), row


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("claims_table")


def write(folder: Path, row: str, seed: int, distances: dict[str, float], steps: int = 9) -> None:
    scores = {
        name: {
            **{"accuracy": 0.5 + seed / 10, "frechet": value, "precision": 0.25},
            **{"recall": 0.75, "cpu_seconds": 0.004, "gflop": 0.125},
        }
        for name, value in distances.items()
    }
    result = {
        **{"row": row, "seed": seed, "steps": steps, "parameters": 12345, "samples": scores},
        "probe": [0.5 + seed / 10, 0.25],
        "sampler": {"num_iterations": 8, "num_denoise_steps": 25, "guidance_scale": 2.0},
    }
    (folder / f"{row}-{seed}.json").write_text(json.dumps(result))


def test_tables(tables: Any, tmp_path: Path) -> None:
    """The best scale on average, means with their range, and no run of another length."""
    results, page = tmp_path / "toys", tmp_path / "claims.md"
    results.mkdir()
    write(results, "s3", 0, {"guidance 1": 2.0, "guidance 2": 5.0})
    write(results, "s3", 1, {"guidance 1": 4.0, "guidance 2": 0.5})
    write(results, "s1", 0, {"guidance 1": 1.0, "guidance 2": 3.0})
    write(results, "s1", 1, {"guidance 1": 1.0, "guidance 2": 3.0}, steps=8)
    write(results, "sampling", 0, {"4 iterations": 6.0, "random order": 7.0})
    limit = {"accuracy": 1.0, "frechet": 0.0, "precision": 1.0, "recall": 1.0}
    references = {"reconstructions": limit, "probe_pixels": 0.875, "probe_bits": 0.625}
    (results / "references.json").write_text(json.dumps(references))
    page.write_text("before\n<!-- results: toys -->old<!-- end: toys -->\nafter\n")
    tables.write_tables(results, page)
    text = page.read_text()
    assert text.startswith("before\n<!-- results: toys -->\n\n| row |")
    assert text.endswith("\n\n<!-- end: toys -->\nafter\n")
    assert "old" not in text
    ours = "| 12,345 | 2 | 2 | 0.55 (0.50 to 0.60) | 2.75 (0.50 to 5.00) | 0.25 (0.25 to 0.25) |"
    rest = "0.75 (0.75 to 0.75) | 4.0 (4.0 to 4.0) | 0.125 |"
    assert f"S3: bits, masked (BiGR) | {ours[2:]} {rest}" in text
    assert "S1: softmax, masked | 12,345 | 1 | 1 | 0.50 | 1.00 | 0.25 | 0.75 | 4.0 |" in text
    assert "| random order | 1 | 0.50 | 7.00 |" in text
    assert "| S3: bits, masked (BiGR) | 2 | 0.550 (0.500 to 0.600) |" in text
    assert "| pixels |  | 0.875 |" in text
    assert (results / "iterations.png").exists()
    with pytest.raises(ValueError, match="has no place for the results of toys"):
        tables.write_tables(results, Path(ROOT / "README.md"))
