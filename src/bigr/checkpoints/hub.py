"""Finding the files of a model: on the Hugging Face hub, or in a folder.

The hub needs the ``hub`` extra, and obeys ``HF_ENDPOINT``, ``HF_HOME`` and ``HF_HUB_OFFLINE``.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.resources
import os
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
OWN_RELEASED = ("generator.pt", "autoencoder.th")
"""Names of the same two models in the released layouts."""
NAMES_FILE = "classes.txt"
"""File next to the generator with the names of the classes, one per line."""
ADAPTER_FOLDER = "adapter"
"""Folder in that of a run, to which a LoRA adapter is exported."""
ADAPTER_CONFIG = "adapter_config.json"
"""File by which the folder of an adapter is recognised; ``peft`` defines its name and content."""
WEIGHT_SUFFIXES = (".pt", ".th", ".safetensors", ".ckpt")
PACKAGED = Path(str(importlib.resources.files("bigr"))) / "pretrained"
"""Folder with one folder per installed model, as ``save_pretrained`` writes it."""
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
        name: a folder, a hub repository, or the name of a model that was installed with this
            package, such as ``digits``; a folder of this name comes first. A folder has the
            released layout (``gpt/`` and ``bae/``), both ``.safetensors`` files of this project,
            ``generator.pt`` and ``autoencoder.th``, or the folders ``generator`` and
            ``autoencoder`` with one file each. The repository ``haoosz/BiGR`` has the released
            layout; others have the files of this project.
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
    if text in packaged_models():
        return _in_folder(PACKAGED / text, (model, code, resolution))
    if not _may_be_on_hub(text):
        raise CheckpointError(
            f"{text} is neither a folder, nor a hub repository such as {RELEASED_REPO}, nor an "
            f"installed model ({', '.join(packaged_models())}).{_suggestion(folder, text)}"
        )
    if text == RELEASED_REPO:
        files = released_files(model, code, resolution)
        return Pair(*(_download(text, file, revision) for file in files))
    pair = Pair(*(_download(text, file, revision) for file in OWN))
    hub = _hub()
    with contextlib.suppress(hub.errors.EntryNotFoundError):  # the names are optional
        hub.hf_hub_download(text, NAMES_FILE, revision=revision)
    return pair


def find_model(name: str | os.PathLike[str], kind: Literal["generator", "autoencoder"]) -> Path:
    """Return the file of one network, and download it if necessary.

    Args:
        name: a file; the folder of a run, whose exported weights come before its newest checkpoint;
            or a name that stands for both networks, see :func:`find_pair`. A file of the released
            repository has a name such as ``haoosz/BiGR/gpt/bigr_XL_d24.pt``.
        kind: which of the two networks.

    Raises:
        CheckpointError: if there is no such model.
    """
    if not str(name):
        raise CheckpointError("the name is empty: give a file, a folder or the name of a model.")
    path = Path(name).expanduser()
    if path.is_dir():
        is_adapter = kind == "generator" and adapter_in(path) is not None
        if is_adapter or (path / f"{kind}.safetensors").is_file():
            return path
        checkpoints = (path / "checkpoints").glob("step_*.ckpt")
        newest = max(checkpoints, default=None)  # their names have eight digits
        if newest is not None:
            return newest
        if not any((path / part).exists() for part in ("gpt", "bae", kind, *OWN_RELEASED)):
            trained = " or of an adapter" if kind == "generator" else ""
            raise CheckpointError(
                f"{path} contains no {kind}: give a file with its weights, or a folder with "
                f"{kind}.safetensors, for example that of a run{trained}."
            )
    elif path.suffix in WEIGHT_SUFFIXES:
        released = str(name).removeprefix(f"{RELEASED_REPO}/")
        is_released = released in (*GENERATORS.values(), *AUTOENCODERS.values())
        is_remote = is_released and released != str(name) and not path.exists()
        return _download(RELEASED_REPO, released, None) if is_remote else path
    return Path(getattr(find_pair(name), kind))


def adapter_in(path: Path) -> Path | None:
    """Return the folder of a LoRA adapter: ``path``, or the ``adapter`` in the folder of a run."""
    for folder in (path, path / ADAPTER_FOLDER):
        if (folder / ADAPTER_CONFIG).is_file():
            return folder
    return None


def packaged_models() -> list[str]:
    """Return the names of the models that were installed with this package."""
    if not PACKAGED.is_dir():
        return []
    return sorted(path.name for path in PACKAGED.iterdir() if (path / OWN[0]).is_file())


def _may_be_on_hub(name: str) -> bool:
    """Return whether a name can be a repository, rather than the path of a folder.

    Such a name has one slash, and its first part, the user, is neither a file nor a folder here.
    """
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        return False
    return not Path(name.split("/")[0]).exists()


def _suggestion(folder: Path, name: str) -> str:
    """Return " Did you mean …?" with the folder or installed model of the most similar name."""
    beside = folder.parent
    names = {}
    with contextlib.suppress(OSError):
        names = {path.name: str(beside / path.name) for path in beside.iterdir() if path.is_dir()}
    if "/" not in name:
        names.update({packaged: packaged for packaged in packaged_models()})
    near = difflib.get_close_matches(folder.name, names, 1)
    return f" Did you mean {names[near[0]]}?" if near else ""


def _in_folder(folder: Path, wanted: tuple[str, str, int]) -> Pair:
    if (folder / "gpt").is_dir() or (folder / "bae").is_dir():
        pair = Pair(*(folder / file for file in released_files(*wanted)))
    elif (folder / OWN[0]).is_file() or (folder / OWN[1]).is_file():
        pair = Pair(*(folder / file for file in OWN))
    elif (folder / OWN_RELEASED[0]).is_file():
        pair = Pair(*(folder / file for file in OWN_RELEASED))
    else:
        pair = Pair(*(folder / Path(file).stem / file for file in OWN))
    missing = [str(file.relative_to(folder)) for file in pair if not file.is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {' and '.join(missing)}. A folder must have the released "
            f"layout (gpt/ and bae/), the files {OWN[0]} and {OWN[1]}, or the folders generator/ "
            "and autoencoder/ that contain these files."
        )
    return pair


def _download(repo: str, file: str, revision: str | None) -> Path:
    """Download a file to the cache of the hub, and compare its checksum with that of the hub."""
    hub = _hub()
    # hf_hub_download repeats its request for 20 seconds if the file is not in the cache and the hub
    # cannot be reached, so one request without repetition comes first.
    is_cached = isinstance(hub.try_to_load_from_cache(repo, file, revision=revision), str)
    only_cache = not is_cached and not _is_reachable(hub.hf_hub_url(repo, file, revision=revision))
    try:
        path = Path(hub.hf_hub_download(repo, file, revision=revision, local_files_only=only_cache))
    except hub.errors.LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{file} of {repo} is not in the cache, and the hub cannot be reached: download it "
            "on a machine with network access (hf download), and give the path of its folder."
        ) from error
    except (hub.errors.HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{file} of {repo} could not be downloaded: {reason}") from error
    expected = path.resolve().name  # the hub stores large files under their checksum
    if SHA256.fullmatch(expected) and sha256(path) != expected:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise CheckpointError(
            f"{file} of {repo} was damaged during the download (its SHA-256 checksum is not "
            f"{expected}) and has been deleted: run the command again."
        )
    return path


def _is_reachable(url: str) -> bool:
    """Return whether the hub answers a request for a file, even with an error."""
    hub = _hub()
    try:
        hub.get_hf_file_metadata(url)
    except hub.errors.OfflineModeIsEnabled:
        return False
    except hub.errors.HfHubHTTPError:
        return True
    except Exception:  # the exceptions are those of an HTTP library that depends on the version
        return False
    return True


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        raise CheckpointError(
            "downloading needs huggingface_hub (pip install 'bigr-lightning[hub]'); alternatively, "
            "pass a folder."
        ) from error
    return huggingface_hub


def push(folder: Path, repo: str, *, private: bool, message: str) -> str:
    """Upload a folder to a hub repository, create it if necessary, and return its address."""
    hub = _hub()
    api = hub.HfApi()
    address = str(api.create_repo(repo, private=private, exist_ok=True))
    api.upload_folder(repo_id=repo, folder_path=str(folder), commit_message=message)
    return address
