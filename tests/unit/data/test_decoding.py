"""Bytes to pixels, against Pillow."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from bigr.data.decoding import BrokenImageError, Decoder, decode
from tests.image_files import broken_images, encoded, odd_images, photograph

ODD = odd_images()
BROKEN = broken_images()


def pillow(data: bytes) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(data)).convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize("kind", [kind for kind in ODD if kind != "grey16"])
def test_pixels_are_pillows(kind: str) -> None:
    expected = pillow(ODD[kind])
    exact = decode(ODD[kind], decoder="pil")
    assert exact.dtype == torch.uint8
    assert torch.equal(exact, expected)
    fast = decode(ODD[kind])
    assert fast.shape == expected.shape
    assert (fast.float() - expected.float()).abs().mean() <= 0.5


@pytest.mark.parametrize("decoder", ["torchvision", "pil"])
def test_sixteen_bits_keep_their_upper_eight(decoder: Decoder) -> None:
    """Pillow alone makes them all white."""
    grey = np.asarray(photograph(320, 240).convert("L"))
    pixels = decode(ODD["grey16"], decoder=decoder)
    assert np.array_equal(pixels[0].numpy(), grey)
    assert torch.equal(pixels[0], pixels[2])


@pytest.mark.parametrize("decoder", ["torchvision", "pil"])
def test_exif_turns_only_on_request(decoder: Decoder) -> None:
    plain = decode(ODD["turned"], decoder=decoder)
    turned = decode(ODD["turned"], decoder=decoder, honour_exif=True)
    assert plain.shape == (3, 240, 320)
    assert torch.equal(turned, plain.rot90(-1, (1, 2)))


@pytest.mark.parametrize("decoder", ["torchvision", "pil"])
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_images_say_why(kind: str, decoder: Decoder) -> None:
    with pytest.raises(BrokenImageError) as caught:
        decode(BROKEN[kind], decoder=decoder)
    reason = str(caught.value)
    assert reason
    assert "\n" not in reason
    expected = {"empty": "empty file", "text": "not an image"}
    assert expected.get(kind, "") in reason


def test_every_cut_is_noticed() -> None:
    """Wherever a JPEG ends too early, both decoders refuse it, and neither crashes."""
    data = encoded(photograph(64, 64), quality=80)
    for end in range(0, len(data) - 2, 97):
        for decoder in get_args(Decoder):
            with pytest.raises(BrokenImageError):
                decode(data[:end], decoder=decoder)


def test_damaged_bytes_never_end_the_process(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for original in (ODD["colour"], ODD["png"], ODD["cmyk"], ODD["webp"]):
        for _ in range(20):
            damaged = bytearray(original)
            for place in generator.integers(0, len(damaged), 30):
                damaged[place] = generator.integers(256)
            with contextlib.suppress(BrokenImageError):
                assert decode(bytes(damaged)).shape[0] == 3
