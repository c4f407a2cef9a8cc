"""FID of reconstructions, against torchmetrics and over two processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from bigr.metrics.feature_networks import load_network
from bigr.metrics.features import Features
from bigr.metrics.reconstruction_fid import ReconstructionFID
from tests.processes import spawn


class MeanColours:
    """A feature network for small tests: twelve averages of pixels."""

    prefix, title, identity = "", "colours", "0"

    def to(self, device: torch.device) -> MeanColours:
        return self

    def __call__(self, images: Tensor) -> Features:
        assert images.dtype == torch.uint8
        pool = torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)
        return Features(pool, pool)


def test_against_torchmetrics(random_inception: Path) -> None:
    """TensorFlow's resizing (antialias=False), batches of different sizes, values rounded."""
    first, second = torch.rand(2, 6, 3, 40, 40)
    second = second * 0.5
    fid = ReconstructionFID(load_network("inception", str(random_inception)))
    for part, other in zip(first.split(4), second.split(4), strict=True):
        fid.update(part, other)
    theirs = FrechetInceptionDistance(
        2048, antialias=False, feature_extractor_weights_path=str(random_inception)
    )
    theirs.update((first * 255).round().byte(), real=True)
    theirs.update((second * 255).round().byte(), real=False)
    expected = theirs.compute().item()
    assert expected > 0
    assert fid.compute() == pytest.approx(expected, rel=1e-3)


def share(rank: int, folder: str, images: Tensor, expected: float) -> None:
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    fid = ReconstructionFID(MeanColours())
    part = images[:, :7] if rank == 0 else images[:, 7:]
    fid.update(*part)
    assert fid.compute() == pytest.approx(expected, rel=1e-9)
    dist.destroy_process_group()


def test_processes_are_summed(tmp_path: Path) -> None:
    images = torch.rand(2, 20, 3, 8, 8)
    fid = ReconstructionFID(MeanColours())
    fid.update(*torch.rand(2, 3, 3, 8, 8))
    fid.reset()
    fid.update(*images)
    expected = fid.compute()
    assert expected > 0
    spawn(share, str(tmp_path), images, expected, count=2)


def test_no_images() -> None:
    with pytest.raises(ValueError, match="no images to compare"):
        ReconstructionFID(MeanColours()).compute()
