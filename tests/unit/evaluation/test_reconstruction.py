"""Figures of a B-AE against formulas."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bigr.checkpoints.cached import CachedFileError
from bigr.evaluation.evaluator import EvaluationContext
from bigr.evaluation.reconstruction import ReconstructionEvaluation
from bigr.evaluation.stored_images import find_images
from bigr.metrics.features import Features
from bigr.metrics.reconstruction_fid import ReconstructionFID
from tests.models import tiny_autoencoder


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


def context(count: int = 13) -> EvaluationContext:
    generator = torch.Generator().manual_seed(0)
    images = [
        SimpleNamespace(image=torch.randint(256, (3, 8, 8), generator=generator).byte(), label=0)
        for _ in range(count)
    ]
    data = SimpleNamespace(val_set=images, image_size=8)
    return EvaluationContext(autoencoder=tiny_autoencoder(), data=data)


def test_figures_are_the_formulas() -> None:
    given = context()
    done: list[int] = []
    evaluation = ReconstructionEvaluation(batch_size=4, deterministic=True)
    evaluation.check(given)
    report = evaluation(given, done.append)
    assert done == [4, 4, 4, 1]
    x = torch.stack([one.image for one in given.held_out]).float() / 255
    with torch.inference_mode():
        codes = given.codec.encode(x).gt(0.5).float()
        y = given.codec.decode(codes).clamp(0, 1)
    assert report.figures["l1"] == pytest.approx(float((x - y).abs().mean()), rel=1e-4)
    psnr = -10 * (x - y).square().mean(dim=(1, 2, 3)).log10()
    assert report.figures["psnr"] == pytest.approx(float(psnr.mean()), rel=1e-4)
    bits = codes.transpose(0, 1).flatten(1).mean(dim=1)
    assert report.metrics["bits"]["mean"] == pytest.approx(bits.tolist(), abs=1e-6)
    assert report.metrics["count"] == 13
    assert "ssim" not in report.figures  # its window is larger than these images


def test_the_fid_of_reconstructions_is_explained() -> None:
    class Means:
        prefix, title, identity = "", "means", "means"

        def to(self, device: torch.device) -> Means:
            return self

        def __call__(self, images: torch.Tensor) -> Features:
            return Features(images.float().mean(dim=(2, 3)))

    evaluation = ReconstructionEvaluation(batch_size=4)
    assert evaluation(context()).notes == []
    evaluation.fid = ReconstructionFID(Means())
    (note,) = evaluation(context()).notes
    assert "has another reference and number of images, and may be lower" in note


def test_drawn_bits_depend_on_the_seed() -> None:
    first, again, other = (
        ReconstructionEvaluation(seed=seed)(context()).figures["l1"] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_reconstructions_are_written_with_their_classes(tmp_path: Path) -> None:
    given = context()
    for number, image in enumerate(given.held_out):
        image.label = number % 3
    evaluation = ReconstructionEvaluation(batch_size=4, deterministic=True, save_images=True)
    evaluation(given).files["reconstructions.npz"](tmp_path / "reconstructions.npz")
    x = torch.stack([one.image for one in given.held_out]).float() / 255
    with torch.inference_mode():
        y = given.codec.decode(given.codec.encode(x).gt(0.5).float()).clamp(0, 1)
    found = find_images(str(tmp_path / "reconstructions.npz"), "samples")
    assert found.image_size == 8
    assert (found.batch(range(13)).float() - y * 255).abs().max() <= 0.51
    labels = found.labels()
    assert labels is not None
    assert labels.tolist() == [number % 3 for number in range(13)]


def test_count() -> None:
    evaluation = ReconstructionEvaluation(count=5)
    assert evaluation.num_images(context()) == 5
    assert evaluation(context()).metrics["count"] == 5
    assert ReconstructionEvaluation(count=50).num_images(context()) == 13
    with pytest.raises(ValueError, match="count must be a positive integer or null, got 0"):
        ReconstructionEvaluation(count=0)


def test_networks_are_optional_unless_given(tmp_path: Any) -> None:
    evaluation = ReconstructionEvaluation()
    assert evaluation.lpips is None
    assert evaluation.fid is None
    assert len(evaluation.missing) == 2
    with pytest.raises(CachedFileError):
        ReconstructionEvaluation(inception_file=str(tmp_path / "none.pth"))
