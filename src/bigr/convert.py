"""Convert checkpoints and codes: ``python -m bigr.convert IN OUT``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

OWN_SUFFIX = ".safetensors"
RELEASED_SUFFIXES = (".pt", ".th")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit with status 1 and a message if something is wrong."""
    options = _parser().parse_args(arguments)
    try:
        line = convert(
            options.source, options.target, num_heads=options.num_heads, force=options.force
        )
    except (ValueError, OSError) as error:
        sys.exit(f"bigr.convert: {error}")
    print(line)  # noqa: T201


def convert(
    source: Path, target: Path, *, num_heads: int | None = None, force: bool = False
) -> str:
    """Convert a checkpoint of any layout to the layout that the suffix of ``target`` stands for.

    Args:
        source: a file that ``load_generator`` or ``load_autoencoder`` reads, or a folder of codes.
        target: a ``.safetensors`` file, or ``.pt``/``.th`` for the released layout; for codes, a
            folder for files of the released trainer.
        num_heads: number of heads of a released generator whose heads are not 64 wide.
        force: whether to replace an existing file.

    Returns:
        One line that says what was written.

    Raises:
        ValueError: if ``target`` exists or has another suffix.
        CheckpointError: if ``source`` can't be used.
    """
    # 1. Decide what to write before anything is loaded.
    if (source / "manifest.json").is_file():
        return _convert_codes(source, target)
    if target.suffix not in (OWN_SUFFIX, *RELEASED_SUFFIXES):
        raise ValueError(
            f"{target} must end in {OWN_SUFFIX} (the format of this project) or in "
            f"{' or '.join(RELEASED_SUFFIXES)} (the released layout)."
        )
    if target.exists() and not force:
        raise ValueError(f"{target} exists. Choose another name, or replace it with --force.")

    from bigr.checkpoints import export, load, native, read

    # 2. Load the network and save it.
    is_own = target.suffix == OWN_SUFFIX
    kind = read.kind_of(source)
    if kind == "generator":
        config = None
        if num_heads is not None:
            found = load.generator_config(read.read_checkpoint(source, kind))
            config = dataclasses.replace(found, num_heads=num_heads)
        model = load.load_generator(source, config=config)
        (native.save_generator if is_own else export.save_released_generator)(model, target)
        network = "generator"
    else:
        discriminator = load.load_discriminator(source)
        save = native.save_autoencoder if is_own else export.save_released_autoencoder
        save(load.load_autoencoder(source), target, discriminator=discriminator)
        network = "B-AE with its discriminator" if discriminator else "B-AE"
    return f"{target}: {network}, {target.stat().st_size / 1e6:.1f} MB."


def _convert_codes(source: Path, target: Path) -> str:
    from bigr.data.codes_store import CodesStore
    from bigr.data.released_codes import write_released

    files = write_released(CodesStore(source), target)
    size = sum(path.stat().st_size for path in files) / 1e6
    return f"{target}: {', '.join(path.name for path in files)}, {size:.1f} MB."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bigr.convert",
        description="Convert a checkpoint between the released layouts, Lightning's and that of "
        "this project, or a folder of codes to files of the released trainer. The layout of the "
        "input is recognised by its content; the suffix of the output chooses its layout.",
    )
    parser.add_argument("source", type=Path, metavar="IN", help="a checkpoint or a folder of codes")
    parser.add_argument(
        "target",
        type=Path,
        metavar="OUT",
        help=f"{OWN_SUFFIX}: format of this project; .pt/.th: released layout; for codes: a folder",
    )
    parser.add_argument(
        "--num-heads",
        type=int,
        metavar="N",
        help="number of heads of a released generator whose heads are not 64 wide",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    return parser


if __name__ == "__main__":
    main()
