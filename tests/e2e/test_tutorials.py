"""The commands and the Python code of the tutorials, run in order on tiny models."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import hydra
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from sklearn.datasets import load_sample_images

from bigr.cli.configuration import config_dir, register_resolvers
from bigr.cli.entry import quote_numbers
from tests.conftest import REPOSITORY
from tests.e2e.digits import SHORT, bigr, train

pytestmark = pytest.mark.slow

TUTORIALS = REPOSITORY / "docs" / "tutorials"
FENCE = re.compile(r"^```(bash|python)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"python -m bigr\.(\w+) (.*)")
FAST = {
    "train": (*SHORT, "trainer.max_steps=5", "data.batch_size=8", "sampler.num_denoise_steps=2"),
    "sample": ("sampler.num_denoise_steps=2", "device=cpu"),
    "tokenize": ("trainer=cpu", "data.num_workers=0"),
    "evaluate": ("device=cpu",),
    "sweep": (),
}
"""Overrides for tests; everything else is run as it is written."""


def steps(page: str) -> list[tuple[str, str]]:
    """Return the language and the text of every block of a tutorial that can be run."""
    found = FENCE.findall((TUTORIALS / f"{page}.md").read_text())
    assert found, page
    return found


def words(command: str) -> tuple[str, list[str]]:
    """Return the module and the arguments of a command."""
    match = COMMAND.fullmatch(command.strip())
    assert match is not None, command
    return match[1], shlex.split(match[2])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models in ``outputs/demo`` and images of two classes in ``photos``."""
    found = tmp_path_factory.mktemp("tutorials")
    (found / "outputs" / "demo").mkdir(parents=True)
    train(found / "outputs" / "demo")
    random = np.random.default_rng(0)
    for name, pixels in zip(("cats", "dogs"), load_sample_images().images, strict=True):
        for split, count in (("train", 16), ("val", 8)):
            (found / "photos" / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                top, left = random.integers(0, 300, 2)
                crop = Image.fromarray(pixels[top : top + 80, left : left + 64])
                crop.save(found / "photos" / name / f"{split}_{number}.jpg")
    return found


@pytest.mark.parametrize("page", ["first_picture", "editing", "own_images", "sweeps"])
def test_every_step_can_be_run(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    for language, text in steps(page):
        if language == "python":
            exec(text, names)
            continue
        module, arguments = words(text)
        if module == "evaluate" and "evaluation=reconstruction" not in arguments:
            arguments += ["sampler.num_denoise_steps=2", "evaluation.count=24"]
        arguments += [word for word in FAST[module] if word.split("=")[0] not in text]
        output = bigr(folder, module, *arguments)
        assert "Traceback" not in output
    if page == "editing":
        before, after = (np.asarray(Image.open(name)) for name in ("digit.png", "eight.png"))
        assert (before[:, 10:] == after[:, 10:]).all()
        assert (before[:, :10] != after[:, :10]).any()


@pytest.mark.parametrize("page", ["published_result", "many_nodes"])
def test_commands_for_clusters_compose(page: str) -> None:
    """They need weights and data that are not here."""
    register_resolvers()
    for language, text in steps(page):
        assert language == "bash"
        module, arguments = words(text)
        chosen = [w for w in quote_numbers(arguments) if not w.startswith("hydra.")]
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            assert hydra.compose(module, chosen)
        GlobalHydra.instance().clear()
