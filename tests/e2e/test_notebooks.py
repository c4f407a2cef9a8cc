"""Both notebooks run from top to bottom, with a model of digits, and say what they claim."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.e2e.digits import train
from tests.processes import SOURCE

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
SECONDS = 300


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a B-AE and a generator of a few steps each."""
    return train(tmp_path_factory.mktemp("digits"))


def run(path: Path, weights: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """All that a notebook prints, a line ``<picture>`` for each picture."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("BIGR_WEIGHTS", str(weights))
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("IPYTHONDIR", str(folder))
    notebook = nbformat.read(path, 4)
    client = NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute()
    lines = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                lines.append(output.text)
            elif "image/png" in output.get("data", {}):
                lines.append("<picture>\n")
    return "".join(lines)


@pytest.mark.slow
def test_quick_start(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = REPOSITORY / "notebooks" / "quick_start.ipynb"
    text = run(path, trained, tmp_path, monkeypatch)
    assert "16 pixels, 4x4 tokens of 12 bits, on cpu" in text
    assert text.count("<picture>") == 7
    assert "with a changed pixel outside of the mask: 0 of 3" in text
    confidence = re.search(r"when decided: ([\d.]+)", text)
    assert confidence
    assert 0 < float(confidence[1]) < 1


@pytest.mark.slow
def test_representations(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = REPOSITORY / "notebooks" / "representations.ipynb"
    text = run(path, trained, tmp_path, monkeypatch)
    assert text.count("<picture>") == 3
    shares = [float(share) for share in re.findall(r"layer \d+: ([\d.]+)%", text)]
    assert len(shares) == 2
    assert all(30 < share < 100 for share in shares)  # chance is 10%, even after ten steps
    on_pixels = re.search(r"8x8 pixels: ([\d.]+)%", text)
    assert on_pixels
    assert float(on_pixels[1]) == pytest.approx(96, abs=2)
    hits = re.search(r"same class: (\d+) of 20", text)
    assert hits
    assert int(hits[1]) > 6  # chance is 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_without_outputs(path: Path) -> None:
    """nbstripout's work; and what Colab needs to install is named."""
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert '%pip install -q "bigr-lightning[hub,plots]"' in "".join(code[0]["source"])
