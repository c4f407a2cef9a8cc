"""``bigr.fit``: its commands run one after the other, and its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigr.cli import fitting
from bigr.cli.fit_images import Images, look_at
from bigr.cli.fit_progress import FitProgress
from tests.e2e.digits import bigr
from tests.image_files import encoded, photograph, write_folders


@pytest.mark.slow
def test_from_a_folder_of_images_to_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = {
        (owner, f"{n}.png"): encoded(photograph(20, 20, shift=60 * n + k), "PNG")
        for k, owner in enumerate(("sky", "temple"))
        for n in range(8)
    }
    write_folders(tmp_path, "photos", images)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fitting, "PER_CLASS", 1)
    output = Path("outputs/fit")
    given = {"image_size": 16, "autoencoder_steps": 2, "generator_steps": 2}
    steps = fitting.plan(look_at("photos"), output, size="small", **given)  # type: ignore[arg-type]
    for step in steps:
        fast = () if step.name not in ("samples", "scores") else ("sampler.num_denoise_steps=2",)
        bigr(tmp_path, step.words[0].removeprefix("bigr."), *step.words[1:], *fast)
        assert step.product.exists(), step.name
    # The command itself finds everything finished, and only writes the report.
    monkeypatch.undo()
    counted = Images("photos", ("sky", "temple"), 14, 2)
    planned = fitting.plan(counted, output, size="small", **given)  # type: ignore[arg-type]
    progress = FitProgress(tmp_path / output, planned, str(counted))
    for step in steps:
        progress.finish(step)
    words = ("images=photos", "resolution=16", "autoencoder_steps=2", "generator_steps=2")
    printed = bigr(tmp_path, "fit", *words, "size=small")
    assert printed.count("already finished") == len(steps) == 6
    report = (tmp_path / output / "report.md").read_text()
    for part in ("PSNR of the recon", "precision |", "validation loss of", "samples/samples.png"):
        assert part in report
