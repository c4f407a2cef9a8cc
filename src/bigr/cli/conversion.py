"""What ``python -m bigr.convert`` does: one model, a pair of models, or a folder of codes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bigr.cli.command_words import command_line, override
from bigr.data.files import check_regular

OWN_SUFFIX = ".safetensors"
RELEASED_SUFFIXES = (".pt", ".th")
CHECKPOINT_SUFFIXES = (OWN_SUFFIX, *RELEASED_SUFFIXES, ".ckpt")
PREFIX = "pretrained="
"""May precede the name of a pair, as in the other commands."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConversionOptions:
    """Options of a conversion.

    Args:
        num_heads: number of heads of a released generator whose heads are not 64 wide.
        released: whether a pair is written in the released layouts.
        model: size of a released generator on the hub, ``l``, ``xl`` or ``xxl``.
        code: its code, ``d24`` or ``d32``.
        resolution: its resolution, 256 or 512.
        force: whether to replace existing files.
    """

    num_heads: int | None = None
    released: bool = False
    model: str = "l"
    code: str = "d24"
    resolution: int = 256
    force: bool = False


def convert(source: str, target: Path, options: ConversionOptions) -> str:
    """Convert a checkpoint, a pair of a generator and its B-AE, or codes.

    The settings that are saved with a generator are kept.

    Args:
        source: a file that ``load_generator`` or ``load_autoencoder`` reads; the folder of a LoRA
            adapter, which is merged with its generator; a folder of codes; or the folder or name
            of a pair, see :func:`bigr.checkpoints.hub.find_pair`.
        target: for a checkpoint, a ``.safetensors`` file, or ``.pt``/``.th`` for the released
            layout; for codes, a folder for files of the released trainer; for a pair, a folder,
            which is written like one of ``save_pretrained``.
        options: see the class.

    Returns:
        What was written, and for a pair the command that uses it in a second line.

    Raises:
        ValueError: if ``target`` exists or has another suffix, or there is no such pair.
        CheckpointError: if ``source`` can't be used.
        SaveError: if ``target`` can't be written; an existing file is left as it was.
    """
    name = source.removeprefix(PREFIX)
    path = Path(name).expanduser()
    if (path / "manifest.json").is_file():
        return _convert_codes(path, target)
    from bigr.checkpoints.hub import adapter_in

    is_one = (path.exists() and not path.is_dir()) or adapter_in(path) is not None
    if name == source and (is_one or path.suffix in CHECKPOINT_SUFFIXES):
        return _convert_checkpoint(path, target, options)
    return _convert_pair(name, target, options)


def _convert_checkpoint(source: Path, target: Path, options: ConversionOptions) -> str:
    # 1. Decide what to write before anything is loaded.
    if target.suffix not in (OWN_SUFFIX, *RELEASED_SUFFIXES):
        raise ValueError(
            f"{target} must end in {OWN_SUFFIX} (the format of this project) or in "
            f"{' or '.join(RELEASED_SUFFIXES)} (the released layout)."
        )
    _check_target(target, options)

    from bigr.checkpoints import export, load, native, read

    # 2. Load the network and save it.
    is_own = target.suffix == OWN_SUFFIX
    found = read.read_checkpoint(source)
    if found.kind == "generator":
        config = None
        if options.num_heads is not None:
            config = load.generator_config(found)
            config = dataclasses.replace(config, num_heads=options.num_heads)
        model = load.generator_from(found, config)
        (native.save_generator if is_own else export.save_released_generator)(model, target)
        network = "generator"
    else:
        discriminator = load.discriminator_from(found)
        save = native.save_autoencoder if is_own else export.save_released_autoencoder
        save(load.autoencoder_from(found), target, discriminator=discriminator)
        network = "B-AE with its discriminator" if discriminator else "B-AE"
    return f"{target}: {network}, {target.stat().st_size / 1e6:.1f} MB."


def _convert_pair(name: str, target: Path, options: ConversionOptions) -> str:
    # 1. Decide what to write before anything is downloaded or loaded.
    if target.suffix in CHECKPOINT_SUFFIXES:
        raise ValueError(
            f"{name} stands for a generator and its B-AE: give a folder instead of {target}, or "
            "the path of one of the two files instead of the name."
        )
    if options.num_heads is not None:
        raise ValueError("--num-heads is for a single generator: give the path of its file.")

    from bigr.checkpoints import export, hub

    files = [target / file for file in (hub.OWN_RELEASED if options.released else hub.OWN)]
    for file in files:
        _check_target(file, options)
    pair = hub.find_pair(
        name, model=options.model, code=options.code, resolution=options.resolution
    )

    from bigr.pipeline import BiGRPipeline

    # 2. Load both, with the settings of the generator, and save them.
    pipeline = BiGRPipeline.from_files(*pair, device="cpu")
    if options.released:
        generator, autoencoder = pipeline.models_to_save()
        export.save_released_generator(generator, files[0])
        export.save_released_autoencoder(autoencoder, files[1])
    else:
        pipeline.save_pretrained(target)
    size = sum(file.stat().st_size for file in files) / 1e6
    following = command_line("bigr.sample", override("pretrained", target))
    return (
        f"{target}: {' and '.join(file.name for file in files)}, {size:.1f} MB.\nnext: {following}"
    )


def _convert_codes(source: Path, target: Path) -> str:
    from bigr.data.codes_store import CodesStore
    from bigr.data.released_codes import write_released

    files = write_released(CodesStore(source), target)
    size = sum(path.stat().st_size for path in files) / 1e6
    return f"{target}: {', '.join(path.name for path in files)}, {size:.1f} MB."


def _check_target(target: Path, options: ConversionOptions) -> None:
    """Raise ``ValueError`` if a file exists and may not, or cannot, be replaced."""
    if not target.exists():
        return
    if not options.force:
        raise ValueError(f"{target} exists. Choose another name, or replace it with --force.")
    check_regular(target)
