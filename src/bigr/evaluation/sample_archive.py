"""Images in the format that ADM's evaluation suite reads."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bigr.data.files import replacing


def write_samples(batches: Iterable[NDArray[np.uint8]], labels: Tensor, path: Path) -> None:
    """Write ``arr_0`` uint8 (n, H, W, 3) and ``arr_1`` labels (n,) to an ``.npz``.

    Args:
        batches: parts of the n images, (B, 3, H, W) uint8, which are written one after the other:
            50,000 images of 256x256 pixels take 10 GB.
        labels: (n,) int64 classes of the images.
        path: the file, which is replaced if it exists.
    """
    with replacing(path) as part, zipfile.ZipFile(part, "w", allowZip64=True) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as file:
            for number, batch in enumerate(batches):
                images = np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
                if number == 0:
                    header = {
                        "descr": np.lib.format.dtype_to_descr(images.dtype),
                        "fortran_order": False,
                        "shape": (len(labels), *images.shape[1:]),
                    }
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(images.tobytes())
        with archive.open("arr_1.npy", "w") as file:
            np.lib.format.write_array(file, labels.numpy(), allow_pickle=False)
