"""Published files in torch's hub cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bigr.checkpoints.cached import CachedFileError, find_cached
from bigr.losses.perceptual import VGG


def test_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    place = tmp_path / "checkpoints" / "vgg16-397923af.pth"
    with pytest.raises(CachedFileError, match=r"or set perceptual_file=… to its") as error:
        find_cached(VGG)
    assert str(place) in str(error.value)
    place.parent.mkdir()
    place.write_bytes(b"half a download")
    with pytest.raises(CachedFileError, match="must start with 397923af"):
        find_cached(VGG)
