"""The complete settings of pictures, as a file from which they can be made again, bit for bit.

The web app writes it as ``settings.json`` into the ZIP with the pictures, the input image
and the mask, and into each PNG file, with these images inside. Such a ZIP, PNG or JSON file is read
by :meth:`bigr.BiGRPipeline.reproduce`, by ``python -m bigr.sample settings=FILE``, and by the app.
"""

from __future__ import annotations

import base64
import binascii
import copy
import dataclasses
import inspect
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

from PIL import Image, PngImagePlugin

from bigr import __version__
from bigr.checkpoints.identity import weights_sha256
from bigr.data.files import check_regular
from bigr.data.image_arrays import save_picture
from bigr.data.user_pictures import read_picture
from bigr.pipeline.applications import BiGRPipeline
from bigr.pipeline.options import SamplingOptions
from bigr.sampling.sampler import ProgressCallback, Sampler
from bigr.sampling.sampler_config import ExecutionConfig, SamplerConfig
from bigr.schema import (
    VARIADIC,
    NonNegativeInt,
    SchemaError,
    check_arguments,
    check_fields,
    did_you_mean,
    from_dict,
)

AppName = Literal["generate", "inpaint", "outpaint", "edit", "interpolate", "enrich"]
"""Methods of :class:`bigr.BiGRPipeline`."""
IMAGES = ("image", "mask", "keep")
"""Arguments that are images: in a file, the name of another file, or the content of one."""
GIVEN_ELSEWHERE = ("self", "seed", "sampler", "on_iteration", *SamplingOptions.__annotations__)
FILE_NAME = "settings.json"
PNG_KEY = "bigr"
"""Keyword of the text chunk of a PNG file."""
EMBEDDED = "data:image/png;base64,"
MAX_TEXT_BYTES = 2**22
MAX_EMBEDDED_BYTES = 2**21
"""Images that are larger in total are not put into each PNG file, only into the ZIP."""
MAX_IMAGE_BYTES = 2**28


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureSettings:
    """The settings that pictures were made with.

    Args:
        application: a method of :class:`bigr.BiGRPipeline`.
        arguments: its arguments by name, with PIL images.
        seed: seed of the first picture.
        sampler: fields of :class:`bigr.SamplerConfig`.
        execution: fields of :class:`bigr.ExecutionConfig`.
        models: SHA-256 of the weights of ``generator`` and ``autoencoder``, and their ``name``.
        bigr: version of this package.
    """

    application: AppName
    arguments: dict[str, Any]
    seed: NonNegativeInt
    sampler: dict[str, Any]
    execution: dict[str, Any]
    models: dict[str, str]
    bigr: str = __version__

    def __post_init__(self) -> None:
        check_fields(self)

    def images(self) -> dict[str, Image.Image]:
        """Return the images among the arguments."""
        return {k: v for k, v in self.arguments.items() if isinstance(v, Image.Image)}

    def save(self, folder: Path) -> list[Path]:
        """Write ``settings.json`` and the images among the arguments, and return their paths."""
        paths = [folder / FILE_NAME]
        paths += [save_picture(image, folder / f"{k}.png") for k, image in self.images().items()]
        paths[0].write_text(self._text({k: f"{k}.png" for k in self.images()}), encoding="utf-8")
        return paths

    def png_info(self) -> PngImagePlugin.PngInfo:
        """Return the text chunk with these settings, for ``picture.save(…, pnginfo=…)``.

        Images of more than :data:`MAX_EMBEDDED_BYTES` are only named.
        """
        files = {name: _png(image) for name, image in self.images().items()}
        fits = sum(map(len, files.values())) <= MAX_EMBEDDED_BYTES
        info = PngImagePlugin.PngInfo()
        info.add_text(
            PNG_KEY,
            self._text(
                {
                    name: EMBEDDED + base64.b64encode(file).decode() if fits else f"{name}.png"
                    for name, file in files.items()
                }
            ),
        )
        return info

    def _text(self, images: dict[str, str]) -> str:
        content = {**vars(self), "arguments": {**self.arguments, **images}}
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def load(cls, path: Path) -> PictureSettings:
        """Read a ZIP or a PNG file of the web app, or a ``settings.json`` with images next to it.

        Only methods of the pipeline and their arguments are accepted, so a file of unknown origin
        can only make pictures.

        Raises:
            ValueError: naming the file and the key that is wrong.
        """
        try:
            with check_regular(path).open("rb") as file:
                start = file.read(8)
            if start.startswith(b"PK"):
                with zipfile.ZipFile(path) as archive:
                    return cls._parse(_member(archive, FILE_NAME, MAX_TEXT_BYTES), archive)
            return cls._parse(_png_text(path) if start[1:4] == b"PNG" else _text(path), path)
        except KeyError as error:
            raise ValueError(f"settings={path}: the ZIP file has no {FILE_NAME}.") from error
        except (
            *(ValueError, OSError, RecursionError, SyntaxError, RuntimeError, EOFError),
            *(zipfile.BadZipFile, zlib.error),
        ) as error:
            reason = str(error) or "the file is damaged"
            raise ValueError(f"settings={path}: {reason}") from error

    @classmethod
    def _parse(cls, text: bytes, place: Path | zipfile.ZipFile) -> PictureSettings:
        """Return the checked settings; ``place`` has the images that are not in the text."""
        what = (
            "these are not the settings of pictures: give a ZIP, a PNG or a settings.json of the "
            "web app."
        )
        if len(text) > MAX_TEXT_BYTES:
            raise SchemaError(what)
        try:
            content = json.loads(text)
        except ValueError:
            content = None
        # "${…}" would be replaced where the settings become a configuration.
        if not isinstance(content, dict) or "application" not in content or b"${" in text:
            raise SchemaError(what)
        found = from_dict(cls, content)
        from_dict(SamplerConfig, found.sampler)
        from_dict(ExecutionConfig, found.execution)
        arguments = {
            name: _image(name, value, place) if name in IMAGES and isinstance(value, str) else value
            for name, value in found.arguments.items()
        }
        _check_application(found.application, arguments)
        return dataclasses.replace(found, arguments=arguments)

    def check_models(self, pipeline: BiGRPipeline) -> None:
        """Raise ``ValueError`` if the weights of ``pipeline`` are not those of the settings."""
        for name, digest in model_digests(pipeline).items():
            if self.models.get(name, digest) != digest:
                raise ValueError(
                    f"{name}: the settings were made with other weights ({self.models.get('name')}"
                    f", SHA-256 {self.models[name][:16]}…): give that model."
                )

    def pictures(
        self, pipeline: BiGRPipeline, on_iteration: ProgressCallback | None = None
    ) -> list[Image.Image]:
        """Make the pictures with ``pipeline``, in the precision of the settings."""
        sampler = from_dict(SamplerConfig, self.sampler)
        own = copy.copy(pipeline)  # shares the models
        own.sampler = Sampler(sampler, from_dict(ExecutionConfig, self.execution))
        made: list[Image.Image] = getattr(own, self.application)(
            **self.arguments, seed=self.seed, sampler=sampler, on_iteration=on_iteration
        )
        return made


def model_digests(pipeline: BiGRPipeline) -> dict[str, str]:
    """Return the SHA-256 checksums of the weights of both models, by the name of the model."""
    models = pipeline.models
    return {name: weights_sha256(getattr(models, name)) for name in models._fields}


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_TEXT_BYTES + 1)


def _png_text(path: Path) -> bytes:
    """Return the settings in a PNG file."""
    with Image.open(path, formats=("PNG",)) as picture:
        text = getattr(picture, "text", {}).get(PNG_KEY)  # reads the whole file
    if text is None:
        raise SchemaError(
            "this picture has no settings in it: give a PNG or ZIP file of the web app that no "
            "other program has changed."
        )
    return str(text).encode()


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    with archive.open(name) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise SchemaError(f"{name} is larger than {limit / 2**20:g} MB.")
    return content


def _image(name: str, value: str, place: Path | zipfile.ZipFile) -> Image.Image:
    """Return the image ``value`` of the argument ``name``: embedded, in the ZIP, or nearby."""
    what = f"arguments.{name}"
    if value.startswith(EMBEDDED):
        try:
            content = base64.b64decode(value.removeprefix(EMBEDDED), validate=True)
        except binascii.Error as error:
            raise SchemaError(f"{what} is damaged.") from error
        return _decoded(content, what)
    file = Path(value).name
    if isinstance(place, zipfile.ZipFile):
        try:
            return _decoded(_member(place, file, MAX_IMAGE_BYTES), what)
        except KeyError as error:
            raise SchemaError(f"{what}: the ZIP file has no {file}.") from error
    beside = place.parent / file
    if not beside.exists():
        raise SchemaError(
            f"{what} is not in this file: put {file} from the ZIP file beside it, or give the ZIP "
            "file."
        )
    return read_picture(beside, what)


def _decoded(content: bytes, what: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            return read_picture(picture, what)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise SchemaError(f"{what} is not a complete picture.") from error


def _check_application(name: str, arguments: dict[str, Any]) -> None:
    """Raise ``SchemaError`` if the method ``name`` does not take ``arguments``."""
    method = getattr(BiGRPipeline, name)
    parameters = inspect.signature(method).parameters.values()
    known = [part.name for part in parameters if part.kind not in VARIADIC]
    known = [part for part in known if part not in GIVEN_ELSEWHERE]
    for argument in arguments:
        if argument not in known:
            hint = did_you_mean(argument, known)
            raise SchemaError(f"arguments.{argument}: {name} has no such argument.{hint}")
    check_arguments(method, arguments, "arguments", is_partial=True)
