"""Samples in the format that ADM's evaluation suite reads."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from torch import Tensor

from bigr.data.files import replacing
from bigr.evaluation.feature_chunks import FeatureChunks


def write_samples(chunks: FeatureChunks, labels: Tensor, path: Path) -> None:
    """Write ``arr_0`` uint8 (n, H, W, 3) and ``arr_1`` labels (n,) to an ``.npz``.

    The images are written file by file: 50,000 of 256x256 pixels take 10 GB.
    """
    with replacing(path) as part, zipfile.ZipFile(part, "w", allowZip64=True) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as file:
            for number, arrays in enumerate(chunks.read("images")):
                images = np.ascontiguousarray(arrays["images"].transpose(0, 2, 3, 1))
                if number == 0:
                    header = {
                        "descr": np.lib.format.dtype_to_descr(images.dtype),
                        "fortran_order": False,
                        "shape": (chunks.count, *images.shape[1:]),
                    }
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(images.tobytes())
        with archive.open("arr_1.npy", "w") as file:
            np.lib.format.write_array(file, labels.numpy(), allow_pickle=False)
