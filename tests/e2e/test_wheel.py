"""The wheel carries its configuration and works from any folder."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.processes import python

pytestmark = pytest.mark.slow


def test_wheel_works_on_its_own(tmp_path: Path) -> None:
    built = python(
        *("-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)),
        cwd=REPOSITORY,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    shipped = {name.removeprefix("bigr/conf/") for name in names if name.startswith("bigr/conf/")}
    folder = REPOSITORY / "conf"
    assert shipped == {str(path.relative_to(folder)) for path in folder.rglob("*.yaml")}
    assert not [name for name in names if name.startswith(("tests", "bench", "conf"))]
    (scripts,) = [name for name in names if name.endswith("entry_points.txt")]
    text = (tmp_path / "site" / scripts).read_text()
    for command in ("train", "sample", "evaluate", "convert"):
        assert f"bigr-{command} = bigr.{command}:main" in text

    arguments = ("-m", "bigr.train", "model=xxl", "trainer.num_nodes=4", "--cfg", "job")
    site = str(tmp_path / "site")
    shown = python(*arguments, cwd=tmp_path, PYTHONPATH=site)
    assert shown.returncode == 0, shown.stderr
    assert "num_layers: 48" in shown.stdout
    where = python(
        "-c",
        "import bigr.cli.configuration as c; print(c.config_dir())",
        cwd=tmp_path,
        PYTHONPATH=site,
    )
    assert where.stdout.strip() == str(tmp_path / "site" / "bigr" / "conf")
