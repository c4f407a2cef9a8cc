"""Defaults from source files, compared with those that the imported objects have."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from bigr.cli.signatures import literal_defaults
from bigr.presets import config_dir
from tests.configs.effective import defaults

TARGETS = sorted(
    {
        target
        for file in config_dir().rglob("*.yaml")
        for target in re.findall(r"_target_: (bigr[\w.]+)", file.read_text())
    }
)


@pytest.mark.parametrize("target", TARGETS)
def test_defaults_are_those_of_the_imported_target(target: str) -> None:
    """Loggers have more parameters: those of their bases in Lightning, which are left out."""
    expected, found = defaults(target), literal_defaults(target)
    if "Logger" in target and target.rsplit(".", 2)[-2] == "loggers":
        assert found.items() <= expected.items()
    else:
        assert found == expected


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package whose modules raise an error when they are imported."""
    name = "lab_of_the_signature_tests"
    folder = tmp_path / name
    (folder / "parts").mkdir(parents=True)
    files = {
        "__init__.py": "from lab_of_the_signature_tests.parts.rules import Spiral as Swirl",
        "parts/__init__.py": "",
        "constants.py": "TURNS: int = 3",
        "parts/rules.py": """
            import dataclasses
            import math
            from typing import Any, ClassVar

            from lab_of_the_signature_tests.constants import TURNS

            raise RuntimeError("this module must not be imported")

            SCALE = 2.5

            class Base:
                def __init__(self, first, /, second=[1, (2, 3)], *, third: dict = {"a": None}):
                    pass

                def scale(self, image, by=SCALE, sign=-1):
                    pass

            class Spiral(Base):
                def __init__(self, *, turns: int = TURNS, second=7, angle=math.pi, **rest: Any):
                    pass

            class Closed(Base):
                def __init__(self, own: bool = False):
                    pass

            class Inherited(Base):
                pass

            @dataclasses.dataclass(frozen=True, kw_only=True)
            class Sizes:
                kind: ClassVar[str] = "sizes"
                needed: int
                width: int = 4
                names: list[str] = dataclasses.field(default_factory=list)
                depth: int = dataclasses.field(default=2)
                made: int = dataclasses.field(default_factory=int)

            @dataclasses.dataclass
            class MoreSizes(Sizes):
                width: int = 8

            def build(params, lr, betas=(0.9, 0.95), name="x"):
                pass
        """,
    }
    for path, text in files.items():
        (folder / path).write_text(dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("parts.rules.Base", {"second": [1, [2, 3]], "third": {"a": None}}),
        ("parts.rules.Base.scale", {"by": 2.5, "sign": -1}),
        ("parts.rules.Inherited", {"second": [1, [2, 3]], "third": {"a": None}}),
        ("parts.rules.Inherited.scale", {"by": 2.5, "sign": -1}),
        ("parts.rules.Spiral", {"turns": 3, "second": 7, "third": {"a": None}}),
        ("Swirl", {"turns": 3, "second": 7, "third": {"a": None}}),
        ("parts.rules.Closed", {"own": False}),
        ("parts.rules.Sizes", {"width": 4, "names": [], "depth": 2}),
        ("parts.rules.MoreSizes", {"width": 8, "names": [], "depth": 2}),
        ("parts.rules.build", {"betas": [0.9, 0.95], "name": "x"}),
        ("parts.rules.nothing", {}),
        ("nowhere.Base", {}),
    ],
)
def test_signatures_without_import(package: str, target: str, expected: dict[str, object]) -> None:
    assert literal_defaults(f"{package}.{target}") == expected
    assert literal_defaults("no_such_package_anywhere.Base") == {}


def test_a_change_of_the_result_does_not_change_later_ones() -> None:
    literal_defaults("bigr.SamplerConfig")["order"] = "raster"
    literal_defaults("bigr.SamplerConfig")["guidance_interval"].append(2.0)
    assert literal_defaults("bigr.SamplerConfig")["order"] == "confidence"
    assert literal_defaults("bigr.SamplerConfig")["guidance_interval"] == [0.0, 1.0]


def test_all_targets_are_read_without_torch() -> None:
    code = (
        "import sys; from bigr.cli.signatures import literal_defaults\n"
        f"for target in {TARGETS}: literal_defaults(target)\n"
        "print(len({'torch', 'lightning', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
