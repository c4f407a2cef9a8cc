"""The stages of the acceptance run: all of them at tiny size, and the parts that can be wrong."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.acceptance.context import TINY, Context, largest
from bench.acceptance.machine import peak_tflops
from bench.acceptance.plan import STAGES
from bench.acceptance.sampling import plain_sampling
from bench.acceptance.training import draws_of, our_step, plain_loss, plain_step
from bigr.models.flops import mean_masked_share
from bigr.sampling.random_numbers import SeededNoise
from tests import plain

ROOT = Path(__file__).parents[2]
AVAILABLE = ("torch", "lightning", "torchmetrics", "torchvision", "triton")
"""All that the acceptance run may need, with what these packages require themselves."""
CPU = torch.device("cpu")


def bare_packages(folder: Path) -> Path:
    """Link the packages of ``AVAILABLE`` and their requirements, and nothing else."""
    folder.mkdir()
    names, seen = list(AVAILABLE), set[str]()
    while names:
        name = re.split(r"[\s;<>=!~\[(]", names.pop())[0]
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a requirement of another system
        names += [text for text in found.requires or [] if "extra ==" not in text]
        for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            if not (folder / top).is_symlink():
                (folder / top).symlink_to(str(found.locate_file(top)))
    return folder


@pytest.mark.slow
def test_all_stages_without_most_packages(tmp_path: Path) -> None:
    """The whole run, as on a machine with PyTorch and Lightning alone."""
    packages = bare_packages(tmp_path / "packages")
    for missing in ("hydra", "omegaconf", "wandb", "torch_fidelity", "gradio", "pydantic", "scipy"):
        assert not (packages / missing).exists()
    out = tmp_path / "out"
    run = subprocess.run(
        [sys.executable, "-S", str(ROOT / "bench" / "gpu.py"), "--tiny", "--out", str(out)],
        env={**os.environ, "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    lines = [json.loads(text) for text in run.stdout.splitlines()]
    assert [line["stage"] for line in lines] == [stage.name for stage in STAGES]
    assert {line["stage"]: line["error"] for line in lines if line["status"] != "ok"} == {}
    assert run.returncode == 0
    values = {line["stage"]: line["values"] for line in lines}
    assert values["machine"]["settings_checked"] == "no, pydantic is missing"
    assert values["conformance"]["equal_codes"] == 1.0
    assert values["seeds"]["codes_equal_in_another_batch"] == 1.0
    for name in ("sampling_l_1", "sampling_l_8", "sampling_l_64"):
        found = values[name]
        expected = found["plain_float32_seconds"] / found["seconds"]
        assert found["speedup_over_float32"] == pytest.approx(expected, rel=1e-2)
    minutes = 50_000 / values["sampling_l_64"]["images_per_second"] / 60
    assert values["fid_50k"]["sampling_minutes"] == pytest.approx(minutes, rel=1e-2)
    parts = [value for key, value in values["fid_50k"].items() if "_" in key]
    assert values["fid_50k"]["minutes"] == pytest.approx(sum(parts), rel=1e-2)
    (path,) = out.glob("*-tiny.json")
    assert json.loads(path.read_text())["stages"] == lines
    assert all(f"## {stage.title}" in path.with_suffix(".md").read_text() for stage in STAGES)


def tiny_context() -> Context:
    return Context(CPU, is_tiny=True, results={})


def test_plain_sampling_is_that_of_the_tests() -> None:
    """The choice of the tokens is written differently, and the codes are the same."""
    context = tiny_context()
    model, settings = context.model(TINY), context.sampler()
    actual = plain_sampling(context, model, 3, settings.num_iterations)()
    noise = SeededNoise(torch.arange(3), TINY.seq_len, TINY.code_dim, CPU)
    weights = dict(model.state_dict())
    expected = plain.sample(weights, TINY, settings, torch.arange(3), noise)
    assert torch.equal(actual, expected)
    assert 0.1 < expected.mean() < 0.9


def test_plain_loss_is_ours() -> None:
    context = tiny_context()
    model = context.model(TINY)
    codes = torch.randint(2, (4, TINY.seq_len, TINY.code_dim)).float()
    draws = draws_of(TINY, 4, CPU)
    labels = torch.arange(4)
    ours = model.loss(codes, labels, draws=draws, masked_only=True).loss
    torch.testing.assert_close(plain_loss(model, codes, labels, draws), ours, rtol=1e-5, atol=0)


def test_all_kinds_of_steps_train_the_same() -> None:
    """From the same codes and draws, the losses of three steps differ by rounding alone."""
    context, sizes = tiny_context(), dataclasses.replace(TINY, dropout=0.0, class_dropout=0.0)
    expected = plain_step(context, sizes, 4, None)
    steps = {kind: our_step(context, sizes, 4, kind) for kind in ("eager", "compiled", "by_layer")}
    steps["plain"] = plain_step(context, sizes, 4, torch.bfloat16)
    for seed in range(3):
        torch.manual_seed(seed)
        loss = expected()
        for step in steps.values():
            torch.manual_seed(seed)
            torch.testing.assert_close(step().float(), loss, rtol=0.01, atol=0)


def test_draws_mask_the_mean_number_of_tokens() -> None:
    draws = draws_of(TINY, 5, CPU)
    expected = round(mean_masked_share(TINY) * TINY.seq_len)
    assert draws.is_masked.sum(1).tolist() == [expected] * 5


def test_peaks_of_data_sheets() -> None:
    assert peak_tflops("NVIDIA H100 80GB HBM3") == 989
    assert peak_tflops("NVIDIA H100 PCIe") == 756
    assert peak_tflops("NVIDIA A100-SXM4-80GB") == 312
    assert peak_tflops("AMD EPYC") is None


def test_the_largest_batch_that_fits() -> None:
    tried = []

    def run(batch: int) -> dict[str, int]:
        tried.append(batch)
        if batch > 16:
            raise torch.OutOfMemoryError
        return {"batch": batch}

    assert largest([64, 32, 16, 8], run) == {"batch": 16}
    assert tried == [64, 32, 16]
    with pytest.raises(torch.OutOfMemoryError):
        largest([64, 32], run)
