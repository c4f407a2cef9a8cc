"""Arrays in ``.npz`` files, each with a checksum that reveals damage.

Anything that reads ``.npz`` files reads these as well. The member ``identity`` is a JSON text about
the arrays, which also holds their checksums and its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bigr.data.files import check_regular, replacing
from bigr.data.sealed_json import DamagedFileError, seal, unseal

ABOUT = "identity"
CHECKSUMS = "checksums"
MAX_UNPACKED = 2**32
"""Size in bytes above which the content of a smaller file is refused."""

Arrays = dict[str, NDArray[Any]]


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
    """Write arrays atomically.

    Args:
        path: the file to write.
        arrays: arrays by name.
        about: metadata as plain data, which :func:`read_arrays` returns.
    """
    checksums = {name: _checksum(array) for name, array in arrays.items()}
    text = seal({**about, CHECKSUMS: checksums}).decode()
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **{ABOUT: np.array(text)}, **arrays)  # type: ignore[arg-type]  # not a flag


def read_arrays(
    path: Path, names: Collection[str] | None = None, *, needs_checksum: bool = True
) -> tuple[Arrays, dict[str, Any]]:
    """Read a file of :func:`write_arrays`, and compare the checksums of the arrays.

    Args:
        path: the file.
        names: names of the arrays to read, if the file contains them; None reads all.
        needs_checksum: whether files without checksums raise an error.

    Returns:
        The arrays, and what was said about them.

    Raises:
        DamagedFileError: if the file is missing, damaged, or no such file.
    """
    found = read_npz(path, None if names is None else {*names, ABOUT})
    try:
        about = unseal(str(found.pop(ABOUT)), needs_checksum=needs_checksum)
        checksums = about.pop(CHECKSUMS, None)
        if checksums is None and not needs_checksum:
            return found, about
        for name in checksums if names is None else checksums.keys() & names:
            if name not in found:
                raise ValueError(f"the array {name} is missing")
            if _checksum(found[name]) != checksums[name]:
                raise ValueError(f"the array {name} does not match its checksum")
        if not found.keys() <= checksums.keys():
            raise ValueError("it has an array without a checksum")
    except KeyError as error:
        raise DamagedFileError(f"{path} has no checksums") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedFileError(f"{path} is damaged: {error}") from error
    return found, about


def read_npz(path: Path, names: Collection[str] | None = None) -> Arrays:
    """Read the arrays of any ``.npz`` file.

    In contrast to ``numpy.load``, memory is only allocated for data that the file really has, and
    every kind of damage raises the same exception.

    Args:
        path: the file.
        names: names of the arrays to read, if the file contains them; None reads all.

    Raises:
        DamagedFileError: if the file is missing or damaged, or holds Python objects.
    """
    found: Arrays = {}
    with naming(path), _opened(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if names is None or name in names:
                with archive.open(member) as file:
                    found[name] = _read_array(file, member.file_size, name)
    return found


def npz_names(path: Path) -> list[str]:
    """Return the names of the arrays in any ``.npz`` file.

    Raises:
        DamagedFileError: if the file is missing or damaged.
    """
    with naming(path), _opened(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def check_archive(path: Path) -> None:
    """Compare every array of any ``.npz`` file with its CRC-32, which reads the whole file.

    Raises:
        DamagedFileError: if the file is missing or damaged.
    """
    with naming(path), _opened(path) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} differs")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn any error while an archive is read into :class:`DamagedFileError`, with its path."""
    try:
        yield
    except Exception as error:  # zipfile and NumPy raise a dozen kinds of errors for damaged files
        reason = str(error) or type(error).__name__
        raise DamagedFileError(f"{path} is damaged or not an .npz file ({reason})") from error


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array in NumPy's format: shape, Fortran order or not, and type.

    Raises:
        ValueError: if there is no valid header, or the array holds Python objects.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if version[0] > 1:
        read = np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"it has an array of {dtype} with shape {shape}")
    return shape, is_fortran, dtype


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive whose content fits into memory if the file does."""
    limit = max(check_regular(path).stat().st_size, MAX_UNPACKED)
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > limit:
            raise ValueError(f"its content would have {size:,} bytes")
        yield archive


def _read_array(file: IO[bytes], size: int, name: str) -> NDArray[Any]:
    """Read the array in a member of an archive that has ``size`` bytes."""
    shape, is_fortran, dtype = read_header(file)
    needed = math.prod(shape) * dtype.itemsize
    if needed != size - file.tell():
        raise ValueError(f"{name} needs {needed:,} bytes and has {size - file.tell():,}")
    flat = np.frombuffer(bytearray(file.read()), dtype)
    return flat.reshape(shape, order="F" if is_fortran else "C")


def _checksum(array: NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
