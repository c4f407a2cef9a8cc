"""Wrong input to the entry points: one sentence with the key and the fix, before anything heavy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bigr.checkpoints.native import save_autoencoder, save_generator
from tests.models import tiny_autoencoder, tiny_generator
from tests.processes import python

RUN = """
import sys
from importlib import import_module
try:
    import_module(sys.argv.pop(1)).main()
finally:
    print("lightning" in sys.modules)
"""
DIGITS = "experiment=digits_autoencoder"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files")
    save_autoencoder(tiny_autoencoder(), path / "a.safetensors")
    save_generator(tiny_generator(), path / "g.safetensors")
    (path / "junk.pt").write_text("junk")
    (path / "run" / "checkpoints").mkdir(parents=True)
    (path / "run" / "checkpoints" / "step_00000001.ckpt").write_text("precious")
    return path


def run(module: str, *overrides: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return python("-c", RUN, f"bigr.{module}", *overrides, cwd=cwd)


CASES = [
    (
        "train",
        "trainer.max_step=5",
        "trainer.max_step: there is no such key. Did you mean trainer.max_steps",
    ),
    (
        "train",
        "trianer.max_steps=5",
        "trianer.max_steps: there is no such key. Did you mean trainer.max_steps",
    ),
    ("train", "modle=l", "modle: there is no such key. Did you mean model"),
    ("train", "model=xxxl", "model=xxxl: there is no such choice. Did you mean xxl"),
    ("train", "experiment=digit_generator", "Did you mean digits_generator"),
    ("train", "model=l", "still needed: data.root (the folder"),
    ("train", "model.dim=[", "can't read 'model.dim=['"),
    ("train", f"{DIGITS} model.dropout=2", "model.dropout must be a number in [0, 1], got 2"),
    ("train", f"{DIGITS} code.code_dim=many", "code.code_dim must be a positive integer"),
    ("train", f"{DIGITS} +code.foo=1", "code has no foo; its keys are code_dim"),
    ("train", f"{DIGITS} model.num_heads=3", "model.dim=128 and num_heads=3 don't fit"),
    ("train", f"{DIGITS} trainer.max_steps=10", "warmup_steps=50 must be"),
    ("train", f"{DIGITS} trainer.max_steps=ten", "trainer.max_steps must be an integer, got 'ten'"),
    ("train", f"{DIGITS} trainer.precision=17", "trainer.precision=17: it can be"),
    ("train", f"{DIGITS} trainer=gpu", "trainer.accelerator=gpu, but PyTorch finds no GPU"),
    ("train", f"{DIGITS} trainer.num_nodes=4", "start the command on every node with srun"),
    ("train", f"{DIGITS} data.batch_size=0", "data.batch_size must be a positive integer, got 0"),
    (
        "train",
        f"{DIGITS} data.image_size=32",
        "data.image_size=32 and code.image_size=16 don't fit",
    ),
    ("train", f"{DIGITS} task.optimizer.lr=fast", "task.optimizer.lr must be a number"),
    ("train", f"{DIGITS} seed=-1", "seed must be an integer of at least 0, got -1"),
    ("train", f"{DIGITS} resume=nowhere.ckpt", "resume=nowhere.ckpt: there is no such file"),
    ("train", f"{DIGITS} hydra.run.dir=run", "already holds a run: add resume=auto"),
    (
        "train",
        f"{DIGITS} data=imagenet data.root=nowhere",
        "data.root=nowhere: there is no such folder",
    ),
    (
        "train",
        "experiment=digits_generator task.autoencoder=a.safetensors",
        "makes codes with code_dim 6, but model.code_dim is 12",
    ),
    (
        "train",
        "experiment=digits_generator task.autoencoder=g.safetensors",
        "is a generator (the format of this project), but a B-AE is needed here",
    ),
    (
        "train",
        "experiment=digits_generator task.autoencoder=nowhere.th",
        "task.autoencoder=nowhere.th: there is no such file",
    ),
    (
        "train",
        "experiment=digits_generator",
        "still needed: task.autoencoder (the checkpoint of the B-AE whose codes are learnt)",
    ),
    (
        "train",
        f"{DIGITS} data=digits_codes data.root=.",
        "a B-AE learns images, and this data are codes",
    ),
    (
        "tokenize",
        "experiment=digits",
        "still needed: autoencoder (the B-AE's checkpoint) and output (the folder for the codes)",
    ),
    (
        "tokenize",
        "experiment=digits autoencoder=a.safetensors output=o num_draws=0",
        "num_draws must be a positive integer, got 0",
    ),
    (
        "tokenize",
        "task=generator",
        "task: there is no such key. All keys: python -m bigr.tokenize --cfg job",
    ),
    ("train", "experiment=digits", "is one of python -m bigr.tokenize, not of bigr.train"),
    (
        "tokenize",
        "autoencoder=a.safetensors output=o data.root=nowhere",
        "data.root=nowhere: there is no such folder",
    ),
    (
        "sample",
        "",
        "still needed: autoencoder (the B-AE's checkpoint) and generator",
    ),
    ("sample", "generator=g.safetensors autoencoder=junk.pt", "junk.pt is not a checkpoint"),
    (
        "sample",
        "generator=g.safetensors autoencoder=a.safetensors",
        "this generator has the classes 0..2 (3 is the null class)",
    ),
    (
        "sample",
        "application=edit generator=g.safetensors autoencoder=a.safetensors",
        "still needed: application.class_name (what to paint, number or name) and application.i",
    ),
    (
        "sample",
        "application=inpaint application.image=no.png "
        "generator=g.safetensors autoencoder=a.safetensors",
        "the image: there is no file no.png",
    ),
    (
        "sample",
        "application=interpolate application.first=0 application.second=tabby "
        "generator=g.safetensors autoencoder=a.safetensors",
        "class 'tabby': this generator has no names for its classes, 0..2",
    ),
    (
        "sample",
        "application=enrich application.image=x devices=2 "
        "generator=g.safetensors autoencoder=a.safetensors",
        "2 processes, but only",
    ),
    ("sample", "sampler.order=entropy generator=x autoencoder=y", "sampler.order must be one of"),
    (
        "sample",
        "generator=g.safetensors autoencoder=a.safetensors device=cuda",
        "device=cuda can't",
    ),
    (
        "evaluate",
        "evaluation=digits generator=g.safetensors autoencoder=a.safetensors",
        "evaluation=digits needs a generator of 10 classes, this one has 3",
    ),
    (
        "evaluate",
        "evaluation=digits evaluation.count=0 generator=x autoencoder=y",
        "evaluation.count must be a positive",
    ),
]


@pytest.mark.parametrize(("module", "overrides", "message"), CASES, ids=range(len(CASES)))
def test_one_sentence(folder: Path, module: str, overrides: str, message: str) -> None:
    result = run(module, *overrides.split(), cwd=folder)
    lines = [line for line in result.stderr.splitlines() if line]
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith(f"bigr.{module}: ")
    assert message in lines[0]
    assert "ightning" not in result.stdout.replace("False", "")
    assert result.stdout.endswith("False\n"), "Lightning takes seconds to import"
    assert (folder / "run" / "checkpoints" / "step_00000001.ckpt").read_text() == "precious"


def test_traceback_on_request(folder: Path) -> None:
    result = python("-m", "bigr.train", "model=xxxl", cwd=folder, HYDRA_FULL_ERROR="1")
    assert "Traceback" in result.stderr


def test_configuration_can_be_shown_from_any_folder(folder: Path) -> None:
    result = run("train", "model=xxl", "trainer.num_nodes=4", "--cfg", "job", cwd=folder)
    assert result.returncode == 0
    assert "num_layers: 48" in result.stdout
    assert "num_nodes: 4" in result.stdout
