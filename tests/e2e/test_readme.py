"""What the README says can be done, can be done."""

from __future__ import annotations

import ast
import pydoc
import re
import shlex
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

import bigr
from bigr import BiGRPipeline
from bigr.cli.configuration import config_dir, register_resolvers
from bigr.cli.entry import quote_numbers
from bigr.cli.messages import RENAMED
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.config import BinaryAutoencoderConfig
from bigr.sampling.conditioning import INTERPOLATION_RATIOS
from tests.conftest import REPOSITORY
from tests.models import tiny_autoencoder, tiny_generator

README = (REPOSITORY / "README.md").read_text()
FENCES = README.split("```")[1::2]
SHELL = "\n".join(fence for fence in FENCES if fence.startswith("\n"))
PIPELINE, PYTHON = (fence.removeprefix("python") for fence in FENCES if fence.startswith("python"))
APPLICATIONS = (REPOSITORY / "docs" / "applications.md").read_text().split("```")
DOCS_FENCES = [
    fence
    for name in (
        "applications",
        "autoencoder",
        "dashboard",
        "data",
        "evaluation",
        "fashion",
        "model_zoo",
        "training",
        "web_app",
    )
    for fence in (REPOSITORY / "docs" / f"{name}.md").read_text().split("```")[1::2]
]
COMMAND = re.compile(r"^python -m bigr\.(\w+) ([^#\n]*)", flags=re.MULTILINE)
COMMANDS = list(dict.fromkeys(COMMAND.findall("".join([SHELL, *DOCS_FENCES]))))


def test_length() -> None:
    assert len(README.splitlines()) <= 250


def test_there_are_commands() -> None:
    assert {module for module, _ in COMMANDS} == {
        "train",
        "tokenize",
        "sample",
        "evaluate",
        "probe",
        "convert",
        "demo",
        "fetch",
    }


@pytest.mark.parametrize(("module", "arguments"), COMMANDS)
def test_commands_compose(module: str, arguments: str) -> None:
    if module in ("convert", "fetch") or arguments.startswith("compare "):
        pytest.skip("no configuration; its own unit test runs it")
    register_resolvers()
    words = [
        re.sub(r"=([\d.]+),.*", r"=\1", RENAMED.get(f"{module} {word}", word))  # a sweep's first
        for word in quote_numbers(shlex.split(arguments))
        if word not in ("-m", "--cfg", "job") and "hydra." not in word
    ]
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = hydra.compose(
            module, [word for word in quote_numbers(words) if "hydra." not in word]
        )
    assert config
    GlobalHydra.instance().clear()


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", SHELL, flags=re.MULTILINE))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)


def test_files_exist() -> None:
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (REPOSITORY / link).is_file(), link


def test_groups_are_all_choices() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", README, flags=re.MULTILINE)
    for groups, choices in rows:
        for group, part in zip(
            re.findall(r"`(\w+)`", groups), choices.split("; `auto`"), strict=False
        ):
            folder = config_dir() / group
            if not folder.is_dir():
                continue
            named = set(re.findall(r"`(\w+)`", part))
            if group == "strategy":
                named.add("auto")
            assert named <= {path.stem for path in folder.glob("*.yaml")}, group
            assert named >= {path.stem for path in folder.glob("*.yaml")}, group


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the pictures of the examples, and a small model of 1,000 classes."""
    model = tiny_generator(num_classes=1000, num_layers=11)
    pipeline = BiGRPipeline(model, tiny_autoencoder(), device="cpu")
    monkeypatch.setattr(BiGRPipeline, "from_pretrained", lambda *_, **__: pipeline)
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    for name in ("photo.jpg", "small.jpg"):
        Image.fromarray(noise).save(name)
    Image.new("L", (400, 300), 255).save("mask.png")
    return tmp_path


def test_pipeline_example(example: Path) -> None:
    exec(PIPELINE, {})
    assert Image.open(example / "inpainted.png").size == (400, 300)


@pytest.mark.usefixtures("example")
def test_applications_example() -> None:
    """Each call returns as many pictures as it says, of the size of the original or the model."""
    imports, pipeline, *calls = ast.parse(APPLICATIONS[1].removeprefix("python")).body
    names: dict[str, Any] = {}
    exec(compile(ast.Module([imports, pipeline], []), "docs", "exec"), names)
    *results, features = [eval(ast.unparse(call), names) for call in calls]
    generate, inpaint, poisson, outpaint, edit, interpolate, enrich, reconstruct = [
        [picture.size for picture in pictures] for pictures in results
    ]
    assert generate == [(8, 8)] * 8
    assert inpaint == [(400, 300)] * 8
    assert poisson == outpaint == edit == [(400, 300)]
    assert interpolate == [(8, 8)] * len(INTERPOLATION_RATIOS)
    assert enrich == [(8, 8)]
    assert reconstruct == [(8, 8)]
    assert features.shape == (1, 16, 32)


def test_mentioned_code_exists() -> None:
    """Modules, classes and files that the documentation names have these names."""
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]
    for page in [*pages, *sorted((REPOSITORY / "docs").glob("*.md"))]:
        text = page.read_text()
        for name in re.findall(r"\bbigr(?:\.[A-Za-z]\w+)+", text):
            assert pydoc.locate(name) is not None, (page.name, name)
        for path in re.findall(r"\b(?:src/bigr|tests|bench|scripts|examples)/[\w./-]*\w", text):
            assert (REPOSITORY / path).exists(), (page.name, path)


def test_python_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of the README, with small models in the place of the released ones."""
    generator = tiny_generator(grid_size=16, code_dim=24, num_classes=400)
    autoencoder = BinaryAutoencoder(
        BinaryAutoencoderConfig(
            code_dim=24, image_size=256, base_channels=32, embed_dim=32, res_blocks=1
        )
    )
    monkeypatch.setattr(bigr, "load_generator", lambda _: generator, raising=False)
    monkeypatch.setattr(bigr, "load_autoencoder", lambda _: autoencoder, raising=False)
    names: dict[str, torch.Tensor] = {}
    exec(PYTHON, names)
    assert names["codes"].shape == (3, 256, 24)
    assert names["images"].shape == (3, 3, 256, 256)
