"""Both notebooks run from top to bottom with the packaged model, and print what is committed."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.processes import SOURCE

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
SECONDS = 600


def printed(notebook: Any) -> Iterator[str]:
    """What the cells of a notebook print, with a line ``<picture>`` for each picture."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if output.get("name") == "stdout":
                yield from "".join(output["text"]).splitlines()
            elif "image/png" in output.get("data", {}):
                yield "<picture>"


def committed(name: str) -> list[str]:
    return list(printed(json.loads((REPOSITORY / "notebooks" / f"{name}.ipynb").read_text())))


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a notebook in ``folder``, and return the lines that it prints."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("IPYTHONDIR", str(folder))
    notebook = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", 4)
    client = NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute()
    return list(printed(notebook))


def without_numbers(lines: list[str]) -> list[str]:
    return [re.sub(r"[\d.]+", "#", line) for line in lines]


def share(lines: list[str], start: str) -> float:
    """The percentage after ``start``, from 0 to 1."""
    (line,) = [line for line in lines if line.startswith(start)]
    found = re.match(r"([\d.]+)%", line.removeprefix(start))
    assert found, line
    return float(found[1]) / 100


@pytest.mark.slow
def test_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler that the notebook builds gives exactly the bits of the library."""
    lines = run("method", tmp_path, monkeypatch)
    assert "bits that differ: 0 of 1920" in lines
    assert without_numbers(lines) == without_numbers(committed("method"))
    shares = [re.match(r"t = +(\d+): ([\d.]+)%", line) for line in lines]
    flipped = {int(found[1]): float(found[2]) / 100 for found in shares if found}
    assert len(flipped) == 6
    for level, part in flipped.items():  # 1,920 bits: four standard deviations
        q = level / 512
        assert part == pytest.approx(q, abs=4 * (q * (1 - q) / 1920) ** 0.5)


@pytest.mark.slow
def test_representations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the text claims holds, on any processor."""
    lines = run("representations", tmp_path, monkeypatch)
    before = committed("representations")
    assert without_numbers(lines) == without_numbers(before)
    for start in ("layer 0: ", "layer 3: ", "pixels: ", "bits of the B-AE: "):
        # The first of these lines is that of the linear probe.
        now, then = (
            next(x for x in side if x.startswith(start) and "%" in x) for side in (lines, before)
        )
        assert share([now], start) == pytest.approx(share([then], start), abs=0.03)
    last = next(line for line in lines if line.startswith("layer 3: "))
    random = re.search(r"random weights: ([\d.]+)%", last)
    assert random
    trained = share([last], "layer 3: ")
    assert trained > float(random[1]) / 100 + 0.1
    assert trained > share(lines[: lines.index(last)], "layer 0: ")
    pixels = next(line for line in lines if re.match(r"pixels: [\d.]+%", line))
    assert share([pixels], "pixels: ") > trained


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_with_outputs(path: Path) -> None:
    """All cells have run in order without an error, and no output names a folder of the author."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not any(
        output["output_type"] == "error" or output.get("name") == "stderr" for output in outputs
    )
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert not re.search(r"/(home|root|tmp|work|Users)/", json.dumps(outputs))
    assert path.stat().st_size < 400_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_installs_from_a_git_address(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, the first cell installs it from the address that it is given."""
    cells = json.loads(path.read_text())["cells"]
    source = "".join(next(cell for cell in cells if cell["cell_type"] == "code")["source"])
    commands: list[str] = []
    # IPython turns the line into a call, as here; braces are filled in from the namespace.
    source = re.sub(r"%pip (.*)", lambda found: f"pip(f{found[1]!r})", source)
    monkeypatch.setenv("BIGR_REPOSITORY", "https://example.org/lab/bigr-lightning")
    monkeypatch.setitem(sys.modules, "bigr", None)  # type: ignore[arg-type]
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    exec(source, {"pip": commands.append})
    assert shlex.split(commands[0]) == [
        "install",
        "-q",
        "bigr-lightning[plots] @ git+https://example.org/lab/bigr-lightning",
    ]
