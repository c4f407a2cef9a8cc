"""Pictures and masks from users: any size and mode, as files, PIL images, arrays or tensors."""

from __future__ import annotations

import importlib.util
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from bigr.data.decoding import keep_upper_bits
from bigr.data.files import SpecialFileError, check_regular
from bigr.data.image_arrays import to_pil, to_tensor
from bigr.data.transforms import LARGEST_ASPECT, center_crop_pil

MAX_PIXELS = 64_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
WHITE = 128
"""Smallest grey value of a mask that counts as white."""
MIN_BLENDED = 3
"""Smallest number of rows and columns that OpenCV can blend."""

Picture = str | os.PathLike[str] | Image.Image | Tensor | np.ndarray
Box = Sequence[int]


def read_picture(
    picture: Picture, what: str = "the image", max_pixels: float = MAX_PIXELS
) -> Image.Image:
    """Return a picture as PIL image with mode RGB or RGBA, rotated as its EXIF data says.

    Args:
        picture: path of a file, PIL image, tensor (3, H, W) in [0, 1], or array (H, W, 3) uint8.
        what: name of the picture in messages.
        max_pixels: largest number of pixels, which is checked before decoding.

    Raises:
        ValueError: if it is not a single complete picture of at most ``max_pixels``.
    """
    # 1. Pictures in memory.
    if isinstance(picture, Tensor):
        if picture.ndim != 3 or picture.shape[0] != 3:
            raise ValueError(f"{what} must have shape (3, H, W), got {tuple(picture.shape)}.")
        return to_pil(picture)
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
            raise ValueError(f"{what} must be uint8 (H, W, 3), got {picture.dtype}.")
        return read_picture(Image.fromarray(picture), what, max_pixels)
    if isinstance(picture, Image.Image):
        return _checked(picture, what, max_pixels)
    # 2. Files.
    path = os.path.expanduser(picture)
    try:
        check_regular(Path(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            with Image.open(path, formats=FORMATS) as opened:
                return _checked(opened, what, max_pixels)
    except SpecialFileError as error:
        raise ValueError(f"{what}: {error}") from error
    except FileNotFoundError as error:
        raise ValueError(f"{what}: there is no file {path}.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        count = re.search(r"(\d+) pixels", str(error))
        raise ValueError(_too_large(what, int(count[1]) if count else 0, max_pixels)) from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        reason = str(error).splitlines()[0] if not isinstance(error, UnidentifiedImageError) else ""
        raise ValueError(
            f"{what}: {path} is not a complete picture ({reason or 'unknown format'}); supported "
            f"are {', '.join(FORMATS)}."
        ) from error


def _too_large(what: str, pixels: int, limit: float) -> str:
    return (
        f"{what} has {pixels / 1e6:.4g} megapixels, but at most {limit / 1e6:g} are allowed: scale "
        "it down."
    )


def _checked(picture: Image.Image, what: str, max_pixels: float) -> Image.Image:
    width, height = picture.size
    if width * height > max_pixels:
        raise ValueError(_too_large(what, width * height, max_pixels))
    if max(width, height) > LARGEST_ASPECT * max(min(width, height), 1):
        raise ValueError(
            f"{what} has {width}x{height} pixels: no side may be more than {LARGEST_ASPECT} times "
            "as long as the other."
        )
    if getattr(picture, "n_frames", 1) > 1:
        raise ValueError(f"{what} is animated ({picture.n_frames} frames): give a single frame.")  # type: ignore[attr-defined]
    upright = ImageOps.exif_transpose(picture)
    if upright.mode == "I" or upright.mode.startswith("I;16"):
        upright = keep_upper_bits(upright)
    has_alpha = upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info
    return upright.convert("RGBA" if has_alpha else "RGB")


@dataclass(frozen=True)
class Crop:
    """The centre square of a picture at the resolution of a model, and how to paste it back."""

    original: Image.Image
    """The complete picture, in mode RGB."""
    size: int
    """Side of the model's images in pixels."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the square in pixels of the original."""
        width, height = self.original.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side

    def image(self) -> Tensor:
        """Return the centre crop of ADM, (3, size, size) in [0, 1]."""
        return to_tensor(center_crop_pil(self.original, self.size))

    def mask(self, mask: Image.Image) -> Tensor:
        """Scale the square of a mask to (size, size) bool; thin strokes are kept.

        Args:
            mask: mode "L", in the size of the original. A pixel of the result is True if any of
                the pixels that it covers is white.
        """
        full = torch.from_numpy(np.array(mask.crop(self.box)) >= WHITE)[None, None].float()
        small = torch.nn.functional.adaptive_max_pool2d(full, (self.size, self.size))
        return small[0, 0] > 0.5

    def paste(self, square: Image.Image, mask: Image.Image) -> Image.Image:
        """Return the original with ``square`` pasted where ``mask`` is white.

        Args:
            square: picture of the size of the model; it is resized bicubically.
            mask: mode "L", in the size of the original.
        """
        left, top, right, bottom = self.box
        scaled = square.resize((right - left, bottom - top), Image.Resampling.BICUBIC)
        result = self.original.copy()
        where = mask.crop(self.box).point(lambda value: 255 if value >= WHITE else 0)
        result.paste(scaled, (left, top), where)
        return result


def read_mask(
    mask: Picture | Sequence[Box] | None, picture: Image.Image, what: str = "the mask"
) -> Image.Image:
    """Return the mask of the pixels to repaint: mode "L", 255 where they are repainted.

    Args:
        mask: one of: a picture of the same size, whose white pixels are repainted (or its opaque
            pixels, if it has transparent ones); an array (H, W) of bool; boxes [left, top, right,
            bottom] in pixels; None for the transparent pixels of ``picture``.
        picture: result of :func:`read_picture`.
        what: name of the mask in messages.

    Raises:
        ValueError: if the mask has another size or is empty.
    """
    if mask is None:
        if picture.mode != "RGBA":
            raise ValueError(f"{what} is missing, and the image has no transparent pixels.")
        found = picture.getchannel("A").point(lambda alpha: 255 if alpha < WHITE else 0)
    elif isinstance(mask, Sequence) and not isinstance(mask, str):
        found = _boxes(mask, picture.size, what)
    else:
        found = _painted(mask, what)
    if found.size != picture.size:
        raise ValueError(
            f"{what} has {found.size[0]}x{found.size[1]} pixels, the image {picture.size[0]}x"
            f"{picture.size[1]}: they must have the same size."
        )
    if found.getextrema()[1] < WHITE:  # type: ignore[operator]
        raise ValueError(f"{what} is empty: the area to repaint must be white.")
    return found


def _painted(mask: Picture, what: str) -> Image.Image:
    if isinstance(mask, np.ndarray | Tensor) and str(mask.dtype).endswith("bool"):
        if mask.ndim != 2:
            raise ValueError(f"{what} must have shape (H, W), got {tuple(mask.shape)}.")
        return to_pil(torch.as_tensor(mask))
    read = read_picture(mask, what)
    if read.mode == "RGBA" and read.getchannel("A").getextrema() != (255, 255):
        return read.getchannel("A")
    return read.convert("L")


def _boxes(boxes: Sequence[Box], size: tuple[int, int], what: str) -> Image.Image:
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    for box in boxes:
        is_box = isinstance(box, Sequence) and not isinstance(box, str) and len(box) == 4
        if not is_box or not (0 <= box[0] < box[2] <= size[0] and 0 <= box[1] < box[3] <= size[1]):
            raise ValueError(
                f"{what}: {box} is not a box [left, top, right, bottom] in {size[0]}x{size[1]} "
                "pixels."
            )
        left, top, right, bottom = box
        pixels[top:bottom, left:right] = 255
    return Image.fromarray(pixels)


def require_opencv() -> None:
    """Raise ``ValueError`` if OpenCV is not installed."""
    if importlib.util.find_spec("cv2") is None:
        raise ValueError("blend=poisson needs OpenCV: pip install 'bigr-lightning[blend]'.")


def seamless(original: Image.Image, square: Image.Image, mask: Image.Image) -> Image.Image:
    """Blend the masked part of ``square`` into ``original`` by Poisson blending, with OpenCV.

    Pixels outside of the mask do not change (Perez et al. 2003). All three have the same size.
    """
    import cv2

    chosen = np.array(mask) >= WHITE
    if chosen.all():
        return square
    if min(np.ptp(axis) for axis in chosen.nonzero()) < MIN_BLENDED - 1:
        return Image.composite(square, original, Image.fromarray(chosen))
    # OpenCV places the centre of the mask's bounding box, and needs a margin around it.
    margin = 2
    rows, columns = np.flatnonzero(chosen.any(axis=1)), np.flatnonzero(chosen.any(axis=0))
    around = ((margin, margin), (margin, margin))
    target = np.pad(np.array(original), (*around, (0, 0)), mode="edge")
    source = np.pad(np.array(square), (*around, (0, 0)), mode="edge")
    where = np.pad(chosen.astype(np.uint8) * 255, around)
    center = (
        margin + int(columns[0] + columns[-1] + 1) // 2,
        margin + int(rows[0] + rows[-1] + 1) // 2,
    )
    blended = cv2.seamlessClone(source, target, where, center, cv2.NORMAL_CLONE)
    inside = blended[margin:-margin, margin:-margin]
    return Image.fromarray(np.where(chosen[..., None], inside, np.array(original)))
