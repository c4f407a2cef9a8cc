"""Samples as ADM's evaluation suite reads them."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
from torch import Tensor

from bigr.evaluation.feature_chunks import FeatureChunks


def write_samples(chunks: FeatureChunks, labels: Tensor, path: Path) -> None:
    """Write ``arr_0`` uint8 (n, H, W, 3) and ``arr_1`` labels (n,), chunk by chunk.

    50,000 images of 256x256 pixels take 10 GB, and never lie in memory together.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
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
    part.replace(path)
