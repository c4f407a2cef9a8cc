"""The public API, and what importing it costs."""

from __future__ import annotations

from pathlib import Path

import pytest

import bigr
from tests.processes import fresh_python


def test_names_load() -> None:
    for name in bigr.__all__:
        assert getattr(bigr, name).__name__ == name
    assert set(bigr.__all__) <= set(dir(bigr))
    with pytest.raises(AttributeError, match="has no attribute 'Sampla'"):
        _ = bigr.Sampla  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import bigr", ["torch", "lightning", "hydra", "sklearn", "wandb"]),
        ("import bigr.cli.configuration", ["torch", "lightning", "sklearn", "wandb"]),
        ("from bigr import Sampler, load_generator", ["lightning", "hydra", "sklearn", "wandb"]),
    ],
)
def test_imports_are_light(tmp_path: Path, statement: str, absent: list[str]) -> None:
    code = f"{statement}; import sys; print([n for n in {absent} if n in sys.modules])"
    result = fresh_python("-c", code, cwd=tmp_path)
    assert result.stdout.strip() == "[]", result.stderr


def test_drawing_an_image_imports_little(tmp_path: Path) -> None:
    """Lightning, torchvision and PyTorch's compiler take most of the time of a first picture."""
    slow = ["lightning", "sklearn", "torch._dynamo", "torchmetrics", "torchvision", "wandb"]
    code = (
        "import sys, runpy; sys.argv[1:] = ['pretrained=digits', 'application.classes=[3]', "
        "'sampler.num_iterations=1', 'hydra.run.dir=run']; "
        "runpy.run_module('bigr.sample', run_name='__main__'); "
        f"print([n for n in {slow} if n in sys.modules])"
    )
    result = fresh_python("-c", code, cwd=tmp_path)
    assert result.stdout.strip().splitlines()[-1:] == ["[]"], result.stderr
    assert len(list((tmp_path / "run" / "images").iterdir())) == 1
