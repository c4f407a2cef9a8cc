"""The example package, installed beside the built wheel: its commands, and its documentation."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.processes import python
from tests.wheels import build_wheel, install_wheels

LAB = REPOSITORY / "examples" / "my_lab"
SEARCH = "hydra.searchpath=[pkg://my_lab.conf]"
AUTOENCODER, GENERATOR, EVALUATION, SAMPLES = (
    f"outputs/stripes/{name}" for name in ("autoencoder", "generator", "evaluation", "samples")
)
SCHEDULE = "my_lab.noise.CosineSchedule"
PAIR = (f"generator={GENERATOR}", f"autoencoder={AUTOENCODER}")


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a page that are in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Return the commands in the README of the example, as lists of words."""
    lines = "".join(blocks((LAB / "README.md").read_text(), "")).splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("python")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which both wheels are installed."""
    folder = tmp_path_factory.mktemp("wheels")
    site = folder / "site"
    install_wheels(site, build_wheel(REPOSITORY, folder), build_wheel(LAB, folder))
    return site


@pytest.fixture(scope="module")
def runs(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which every command of the README was run."""
    folder = tmp_path_factory.mktemp("runs")
    for words in commands():
        done = run(folder, site, *words)
        assert done.returncode == 0, done.stderr
        (folder / f"{words[1]}.txt").write_text(done.stdout)
    return folder


def run(folder: Path, site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return python(*words, cwd=folder, PYTHONPATH=str(site), OMP_NUM_THREADS="1")


def metrics(file: Path, name: str) -> list[float]:
    with file.open() as lines:
        return [float(row[name]) for row in csv.DictReader(lines) if row[name]]


@pytest.mark.slow
def test_training_uses_the_dataset_the_task_and_the_callback(runs: Path) -> None:
    for name, file in ((AUTOENCODER, "autoencoder"), (GENERATOR, "generator")):
        assert (runs / name / f"{file}.safetensors").is_file()
        norms = metrics(runs / name / "csv" / "metrics.csv", "train/weight_norm")
        assert len(norms) == 6  # after every tenth of 60 steps
        assert len(set(norms)) == 6
    losses = metrics(runs / AUTOENCODER / "csv" / "metrics.csv", "val/loss")
    assert losses[-1] < losses[0] < 0.2  # of images in [0, 1]
    settings = yaml.safe_load((runs / AUTOENCODER / "config.yaml").read_text())
    assert settings["task"]["_target_"] == "my_lab.tasks.DenoisingAutoencoder"
    assert (runs / GENERATOR / "pictures" / "samples_0000060.png").is_file()


@pytest.mark.slow
def test_checkpoints_name_the_noise_schedule(runs: Path, site: Path) -> None:
    code = f"""
import bigr
path = "{GENERATOR}"
try:
    bigr.load_generator(path)
except ValueError as error:
    print(error)
import my_lab
config = bigr.load_generator(path).config
print(bigr.__file__, config.noise_schedule, type(config.schedule).__name__, sep="\\n")
"""
    shown = run(runs, site, "-c", code)
    assert shown.returncode == 0, shown.stderr
    message, place, data, name = shown.stdout.splitlines()
    assert f"noise_schedule={SCHEDULE}" in message
    assert "import my_lab.noise first." in message
    assert place == str(site / "bigr" / "__init__.py")
    assert data == str({"class": SCHEDULE, "num_steps": 16})
    assert name == "CosineSchedule"
    (checkpoint,) = (runs / GENERATOR / "checkpoints").iterdir()
    code = f"import torch; print(torch.load({str(checkpoint)!r}, weights_only=True)['bigr'])"
    assert f"'noise_schedule': {data}" in run(runs, site, "-c", code).stdout


@pytest.mark.slow
def test_evaluation_measures_with_the_order(runs: Path) -> None:
    folder = runs / EVALUATION
    found = json.loads((folder / "metrics.json").read_text())
    assert 0 <= found["accuracy"] <= 1
    assert found["accuracy"] == found["figures"]["accuracy"]
    table = (runs / "bigr.evaluate.txt").read_text()
    assert re.search(rf"direction as asked for +│ +{100 * found['accuracy']:.1f}%", table)
    assert (folder / "samples.png").is_file()
    order = yaml.safe_load((folder / "config.yaml").read_text())["sampler"]["order"]
    assert order == {"_target_": "my_lab.orders.CentreFirst", "randomness": 0.5}


@pytest.mark.slow
def test_application_chooses_among_candidates(runs: Path) -> None:
    pictures = sorted(path.name for path in (runs / SAMPLES / "images").iterdir())
    assert pictures == ["most_contrast_000.png", "most_contrast_001.png"]


WRONG = {
    "range": ("data.num_classes=5", "data.num_classes must be an integer between 2 and 4, got 5."),
    "key": (
        "callbacks.weight_norm.every_n_step=5",
        "callbacks.weight_norm.every_n_step: there is no such key. "
        "Did you mean callbacks.weight_norm.every_n_steps",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_explained_in_a_sentence(name: str, tmp_path: Path, site: Path) -> None:
    override, message = WRONG[name]
    words = ("-m", "bigr.train", SEARCH, "experiment=stripes_autoencoder", override)
    done = run(tmp_path, site, *words)
    assert done.returncode == 2, done.stderr
    *_, last = done.stderr.splitlines()
    assert last.startswith(f"bigr.train: {message}")
    assert "Traceback" not in done.stderr


def test_documentation_shows_the_files() -> None:
    """A block that begins with the name of a file is a part of that file."""
    page = (REPOSITORY / "docs" / "extending.md").read_text()
    shown = []
    for block in blocks(page, "yaml") + blocks(page, "python"):
        first, _, body = block.partition("\n")
        if first.startswith("# my_lab/"):
            shown.append(first.removeprefix("# my_lab/"))
            assert body in (LAB / "src" / first.removeprefix("# ")).read_text(), first
    assert len(shown) >= 9
    (readme,) = blocks((LAB / "README.md").read_text(), "")
    assert readme in blocks(page, "")


def test_documentation_covers_every_file_of_the_example() -> None:
    page = (REPOSITORY / "docs" / "extending.md").read_text()
    for file in (LAB / "src" / "my_lab").rglob("*.yaml"):
        if file.parent.name != "experiment":
            assert f"# my_lab/{file.relative_to(LAB / 'src' / 'my_lab')}\n" in page
    anchors = {
        line[3:].lower().replace(" ", "-") for line in page.splitlines() if line[:3] == "## "
    }
    linked = re.findall(r"extending\.md#([\w-]+)", (LAB / "README.md").read_text())
    assert len(linked) == 7
    assert set(linked) <= anchors
