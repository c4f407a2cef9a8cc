"""``torch.compile`` with and without a compiler."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bigr.training.compiling import Compiled, wants_compiling
from tests.processes import SOURCE, fresh_python

SCRIPT = """
import logging, sys, torch
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
from bigr.training.compiling import Compiled
function = Compiled(lambda x: (x.sin() + 1).sum(), is_on=True)
x = torch.arange(4.0)
print(torch.allclose(function(x), (x.sin() + 1).sum()), function.is_on)
print(torch.allclose(function(2 * x), ((2 * x).sin() + 1).sum()))
"""


def test_without_a_compiler_it_says_why_and_goes_on(tmp_path: Path) -> None:
    result = fresh_python(
        "-c",
        SCRIPT,
        cwd=SOURCE.parent,
        CXX="/nonexistent",
        TORCHINDUCTOR_CACHE_DIR=str(tmp_path),
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == ["True False", "True"]
    assert result.stdout.count("torch.compile failed, training continues without it") == 1
    assert "No working C++ compiler" in result.stdout


def test_errors_of_the_function_itself_are_not_swallowed() -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        Compiled(broken, is_on=False)(torch.ones(1))


def test_auto_is_for_gpus() -> None:
    assert not wants_compiling("auto", torch.device("cpu"))
    assert wants_compiling(True, torch.device("cpu"))
