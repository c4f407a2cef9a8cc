"""The wheel carries its configuration and works from any folder."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.processes import fresh_python
from tests.wheels import build_wheel, install_wheels

pytestmark = pytest.mark.slow


def test_wheel_works_on_its_own(tmp_path: Path) -> None:
    # 1. What is in it.
    site = tmp_path / "site"
    install_wheels(site, build_wheel(REPOSITORY, tmp_path))
    shipped, folder = site / "bigr" / "conf", REPOSITORY / "conf"
    assert yaml_files(shipped) == yaml_files(folder)
    for model in ("digits",):
        for file in ("generator.safetensors", "autoencoder.safetensors", "README.md"):
            assert (site / "bigr" / "pretrained" / model / file).is_file()
    (about,) = site.glob("*.dist-info")
    assert not {path.name for path in site.iterdir()} & {"tests", "bench", "conf", "examples"}
    scripts = importlib.metadata.PathDistribution(about).entry_points
    for command in ("train", "sample", "evaluate", "tokenize", "probe", "convert", "demo", "sweep"):
        (script,) = scripts.select(name=f"bigr-{command}")
        assert script.value == f"bigr.{command}:main"

    # 2. It composes its own files.
    arguments = ("-m", "bigr.train", "model=xxl", "trainer.num_nodes=4", "--cfg", "job")
    shown = fresh_python(*arguments, cwd=tmp_path, PYTHONPATH=str(site))
    assert shown.returncode == 0, shown.stderr
    assert "num_layers: 48" in shown.stdout
    code = "import bigr.cli.configuration as c; print(c.config_dir())"
    where = fresh_python("-c", code, cwd=tmp_path, PYTHONPATH=str(site))
    assert where.stdout.strip() == str(shipped)


def yaml_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.yaml")}
