"""Decoding of image files to pixels, by libjpeg-turbo or Pillow."""

from __future__ import annotations

import io
import re
import warnings
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from bigr.data.image_arrays import pil_to_tensor

Decoder = Literal["torchvision", "pil"]
JPEG_START = b"\xff\xd8\xff"
LIBRARY_ERRORS = (OSError, ValueError, SyntaxError, RuntimeError, TypeError, KeyError, IndexError)
"""Exceptions of Pillow and libjpeg for damaged files."""


class BrokenImageError(ValueError):
    """An image cannot be decoded; the message is the reason."""


def decode(data: bytes, *, decoder: Decoder = "torchvision", honour_exif: bool = False) -> Tensor:
    """Decode an image of any format that Pillow supports.

    JPEG files with one or three components are decoded by libjpeg-turbo, all others (CMYK, PNG,
    WebP, …) by Pillow. Grey, palette and transparent images are converted to RGB; of 16 bits per
    channel, the upper 8 are kept.

    Args:
        data: content of the file.
        decoder: ``torchvision``, or ``pil`` to use Pillow for all formats.
        honour_exif: whether to rotate images as their EXIF data says. The paper does not.

    Returns:
        (3, H, W) uint8.

    Raises:
        BrokenImageError: if the image cannot be decoded.
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
        # torchvision's messages begin with the name and the source file of a function.
        reason = re.sub(r"^decode_jpeg, \S+, ", "", reason.splitlines()[0])
        raise BrokenImageError(reason) from error
    except Image.DecompressionBombError as error:
        raise BrokenImageError(str(error)) from error


def keep_upper_bits(picture: Image.Image) -> Image.Image:
    """Convert a picture with 16 bits per pixel to 8; Pillow would clip values above 255."""
    values = np.asarray(picture).astype(np.int64)
    return Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8))


def _decode_jpeg(data: bytes, honour_exif: bool) -> Tensor | None:
    """Decode a JPEG file, or return None if its number of components needs Pillow."""
    from torchvision.io import ImageReadMode, decode_jpeg  # takes two seconds at first

    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels = decode_jpeg(encoded, mode=ImageReadMode.UNCHANGED, apply_exif_orientation=honour_exif)
    if pixels.shape[0] == 1:
        return pixels.expand(3, -1, -1).contiguous()
    return pixels if pixels.shape[0] == 3 else None


def _open(data: bytes, honour_exif: bool) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about large images and transparent palettes
        image: Image.Image = Image.open(io.BytesIO(data))
        image.load()
        if honour_exif:
            image = ImageOps.exif_transpose(image)
        if image.mode == "I" or image.mode.startswith("I;16"):
            image = keep_upper_bits(image)
        return image.convert("RGB")
