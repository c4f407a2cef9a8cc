"""Encoded images to pixels: fast where that is exact, by Pillow where it isn't."""

from __future__ import annotations

import io
import warnings
from typing import Literal, cast, get_args

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2.functional import pil_to_tensor

Decoder = Literal["torchvision", "pil"]
DECODERS: tuple[str, ...] = get_args(Decoder)
JPEG_START = b"\xff\xd8\xff"
LIBRARY_ERRORS = (OSError, ValueError, SyntaxError, RuntimeError, TypeError, KeyError, IndexError)
"""What Pillow and libjpeg raise on broken bytes."""


class BrokenImageError(ValueError):
    """An image that can't be decoded; says why."""


def check_decoder(name: str) -> Decoder:
    """Raise ``ValueError`` for an unknown decoder."""
    if name not in DECODERS:
        raise ValueError(f"data.decoder={name}: it can be {' or '.join(DECODERS)}.")
    return cast(Decoder, name)


def decode(data: bytes, *, decoder: Decoder = "torchvision", honour_exif: bool = False) -> Tensor:
    """Decode an image of any kind that Pillow knows.

    JPEGs with one or three components go through libjpeg-turbo without Pillow, the rest (CMYK, PNG,
    WebP, …) through Pillow. Grey, palette and transparent images become RGB, 16 bits a channel
    become their upper 8.

    Args:
        data: the file's bytes.
        decoder: ``pil`` takes Pillow for everything.
        honour_exif: turn the image the way its EXIF data says; the paper's loader doesn't.

    Returns:
        (3, H, W) uint8.

    Raises:
        BrokenImageError: if it can't be decoded.
    """
    if not data:
        raise BrokenImageError("empty file")
    try:
        if decoder == "torchvision" and data.startswith(JPEG_START):
            pixels = _decode_jpeg(data, honour_exif)
            if pixels is not None:
                return pixels
        return pil_to_tensor(_open(data, honour_exif))
    except LIBRARY_ERRORS as error:
        reason = "not an image" if "cannot identify" in str(error) else str(error) or repr(error)
        raise BrokenImageError(reason.splitlines()[0]) from error
    except Image.DecompressionBombError as error:
        raise BrokenImageError(str(error)) from error


def _decode_jpeg(data: bytes, honour_exif: bool) -> Tensor | None:
    """None for component counts that are Pillow's."""
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels = decode_jpeg(encoded, mode=ImageReadMode.UNCHANGED, apply_exif_orientation=honour_exif)
    if pixels.shape[0] == 1:
        return pixels.expand(3, -1, -1).contiguous()
    return pixels if pixels.shape[0] == 3 else None


def _open(data: bytes, honour_exif: bool) -> Image.Image:
    with warnings.catch_warnings():
        # A large image, and transparency in a palette, are no news here.
        warnings.simplefilter("ignore")
        image: Image.Image = Image.open(io.BytesIO(data))
        image.load()
        if honour_exif:
            image = ImageOps.exif_transpose(image)
        if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):  # Pillow would cut off at 255
            values = np.asarray(image).astype(np.int64)
            return Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
        return image.convert("RGB")
