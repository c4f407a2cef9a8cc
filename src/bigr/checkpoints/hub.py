"""Finding the files of a model: on the Hugging Face hub, or in a folder.

The hub needs the ``hub`` extra, and obeys ``HF_ENDPOINT``, ``HF_HOME`` and ``HF_HUB_OFFLINE``.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from bigr.checkpoints.errors import CheckpointError
from bigr.data.files import sha256

RELEASED_REPO = "haoosz/BiGR"
AUTOENCODERS = {
    ("d24", 256): "bae/bae_d24/binaryae_ema_1000000.th",
    ("d32", 256): "bae/bae_d32/binaryae_ema_950000.th",
    ("d32", 512): "bae/bae_d32_512/binaryae_ema_720000.th",
}
GENERATORS = {
    ("l", "d24", 256): "gpt/bigr_L_d24.pt",
    ("xl", "d24", 256): "gpt/bigr_XL_d24.pt",
    ("xxl", "d24", 256): "gpt/bigr_XXL_d24.pt",
    ("xxl", "d32", 256): "gpt/bigr_XXL_d32.pt",
    ("l", "d32", 512): "gpt/bigr_L_d32_512.pt",
}
"""Released generators by model, code and resolution."""
OWN = ("generator.safetensors", "autoencoder.safetensors")
NAMES_FILE = "classes.txt"
"""File beside the generator with the names of the classes, one per line."""
SHA256 = re.compile(r"[0-9a-f]{64}")


class Pair(NamedTuple):
    """Paths of a generator and its B-AE."""

    generator: Path
    autoencoder: Path


def released_files(model: str, code: str, resolution: int) -> tuple[str, str]:
    """Return the names of the released files of a generator and its B-AE.

    Raises:
        CheckpointError: if no such model was released.
    """
    key = (model, code, resolution)
    if key not in GENERATORS:
        there = ", ".join(f"{m}/{c}/{r}" for m, c, r in GENERATORS)
        raise CheckpointError(
            f"model={model} code={code} resolution={resolution} was not released; released are "
            f"{there}."
        )
    return GENERATORS[key], AUTOENCODERS[key[1:]]


def find_pair(
    name: str | os.PathLike[str],
    *,
    model: str = "l",
    code: str = "d24",
    resolution: int = 256,
    revision: str | None = None,
) -> Pair:
    """Return the files of a generator and its B-AE, and download them if necessary.

    Args:
        name: a folder or a hub repository. A folder has the released layout (``gpt/`` and
            ``bae/``), both ``.safetensors`` files of this project, or the folders ``generator``
            and ``autoencoder`` with one file each. The repository ``haoosz/BiGR`` has the released
            layout; other repositories have the files of this project.
        model: ``l``, ``xl`` or ``xxl``; used for the released layout only, like the next two.
        code: ``d24`` or ``d32``.
        resolution: 256 or 512 pixels.
        revision: branch, tag or commit on the hub.

    Raises:
        CheckpointError: if a file is missing, or a download has a wrong checksum.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _in_folder(folder, (model, code, resolution))
    text = str(name)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", text) or text.startswith((".", "~")):
        raise CheckpointError(
            f"{text} is neither a folder nor a hub repository such as {RELEASED_REPO}."
        )
    if text == RELEASED_REPO:
        files = released_files(model, code, resolution)
        return Pair(*(_download(text, file, revision) for file in files))
    pair = Pair(*(_download(text, file, revision) for file in OWN))
    hub = _hub()
    with contextlib.suppress(hub.errors.EntryNotFoundError):  # the names are optional
        hub.hf_hub_download(text, NAMES_FILE, revision=revision)
    return pair


def _in_folder(folder: Path, wanted: tuple[str, str, int]) -> Pair:
    if (folder / "gpt").is_dir() or (folder / "bae").is_dir():
        pair = Pair(*(folder / file for file in released_files(*wanted)))
    elif (folder / OWN[0]).is_file() or (folder / OWN[1]).is_file():
        pair = Pair(*(folder / file for file in OWN))
    else:
        pair = Pair(*(folder / Path(file).stem / file for file in OWN))
    missing = [str(file.relative_to(folder)) for file in pair if not file.is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {' and '.join(missing)}. It needs the released layout (gpt/ and "
            f"bae/), {OWN[0]} and {OWN[1]}, or generator/ and autoencoder/ with one of them each."
        )
    return pair


def _download(repo: str, file: str, revision: str | None) -> Path:
    """Download a file to the cache of the hub, and compare its checksum with that of the hub."""
    hub = _hub()
    try:
        path = Path(hub.hf_hub_download(repo, file, revision=revision))
    except hub.errors.LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{file} of {repo} is not in the cache, and the hub can't be reached: download it on "
            "a machine with a network (huggingface-cli download), or give a folder with the files."
        ) from error
    except (hub.errors.HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{file} of {repo} could not be downloaded: {reason}") from error
    expected = path.resolve().name  # the hub stores large files under their checksum
    if SHA256.fullmatch(expected) and sha256(path) != expected:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise CheckpointError(
            f"{file} of {repo} was damaged in the download (its SHA-256 is not {expected}) and "
            "has been deleted: try again."
        )
    return path


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        raise CheckpointError(
            "downloading needs huggingface_hub: pip install 'bigr-lightning[hub]', or give a "
            "folder."
        ) from error
    return huggingface_hub


def push(folder: Path, repo: str, *, private: bool, message: str) -> str:
    """Upload a folder to a hub repository, create it if necessary, and return its address."""
    hub = _hub()
    api = hub.HfApi()
    address = str(api.create_repo(repo, private=private, exist_ok=True))
    api.upload_folder(repo_id=repo, folder_path=str(folder), commit_message=message)
    return address
