"""Verification of the ZIP archives that ``torch.save`` writes, by the checksum of each record."""

from __future__ import annotations

import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BLOCK_SIZE = 2**20
FOLDER = 0x10
"""Attribute of folders in the directory of an archive."""


def find_damage(path: Path) -> str | None:
    """Compare every record of an archive with its CRC-32, which ``torch.load`` does not do.

    The parts without a checksum (padding, dates, the copies of sizes in the local headers) do not
    affect what ``torch.load`` returns.

    Args:
        path: a regular file.

    Returns:
        What is wrong, for a sentence that starts with "it", or None if the archive is intact.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            # torch.save does not compress, so no more can be read than the file contains.
            packed = [one.filename for one in records if one.compress_type != zipfile.ZIP_STORED]
            if packed:
                return f"it was not written by torch.save: its record {packed[0]} is compressed"
            # PyTorch reads a size that zipfile ignores, and returns nothing for a folder.
            for one in records:
                if one.file_size != one.compress_size or one.external_attr & FOLDER:
                    return f"it is damaged (bad directory entry of {one.filename!r})"
            if sum(one.file_size for one in records) > size:
                return f"it is damaged: its records would need more than its {size:,} bytes"

            def check(record: zipfile.ZipInfo) -> None:
                with archive.open(record) as stream:
                    while stream.read(BLOCK_SIZE):
                        pass

            with ThreadPoolExecutor() as pool:  # computing a CRC-32 does not hold the GIL
                list(pool.map(check, records))
    except zipfile.BadZipFile as error:
        is_cut = str(error) == "File is not a zip file"  # there is no directory at its end
        return (
            f"it is damaged or truncated ({size:,} bytes)" if is_cut else f"it is damaged ({error})"
        )
    except Exception as error:  # a broken archive can make the reader raise anything
        return f"it is damaged ({type(error).__name__}: {error})"
    return None
