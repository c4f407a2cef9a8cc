"""Building and installing wheels without a network."""

from __future__ import annotations

from pathlib import Path

from tests.processes import fresh_python


def build_wheel(project: Path, folder: Path) -> Path:
    """Build the wheel of a project in ``folder``, and return its path."""
    before = set(folder.glob("*.whl"))
    arguments = ("build", "--target", "wheel", "--directory", str(folder))
    built = fresh_python("-m", "hatchling", *arguments, cwd=project)
    assert built.returncode == 0, built.stderr
    (wheel,) = set(folder.glob("*.whl")) - before
    return wheel


def install_wheels(site: Path, *wheels: Path) -> None:
    """Install wheels without their dependencies into the folder ``site``."""
    arguments = (
        "install",
        "--quiet",
        "--no-compile",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
    )
    installed = fresh_python("-m", "pip", *arguments, *map(str, wheels), cwd=site.parent)
    assert installed.returncode == 0, installed.stderr
