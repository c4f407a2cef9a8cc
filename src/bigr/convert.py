"""Convert checkpoints and codes: ``python -m bigr.convert IN OUT``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

OWN_SUFFIX = ".safetensors"
RELEASED_SUFFIXES = (".pt", ".th")


def main(arguments: list[str] | None = None) -> None:
    """Command line; exits with 1 and one paragraph if something is wrong."""
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
    """Convert ``source``, whatever its layout, to what ``target``'s suffix says.

    Args:
        source: anything that ``load_generator`` or ``load_autoencoder`` reads, or a folder of
            codes.
        target: ``.safetensors``, or ``.pt``/``.th`` in the released layout; for codes, a folder
            for the released trainer's files.
        num_heads: of a generator in the released layout whose heads aren't 64 wide.
        force: replace an existing file.

    Returns:
        One line that says what was written.

    Raises:
        ValueError: if ``target`` exists or has another suffix.
        CheckpointError: if ``source`` can't be used.
    """
    if (source / "manifest.json").is_file():
        return _convert_codes(source, target)
    if target.suffix not in (OWN_SUFFIX, *RELEASED_SUFFIXES):
        raise ValueError(
            f"{target} must end in {OWN_SUFFIX} (this project's format) or in "
            f"{' or '.join(RELEASED_SUFFIXES)} (the released layout)."
        )
    if target.exists() and not force:
        raise ValueError(f"{target} exists. Choose another name, or replace it with --force.")

    from bigr.checkpoints import export, load, native, read

    is_own = target.suffix == OWN_SUFFIX
    kind = read.kind_of(source)
    if kind == "generator":
        sizes = None
        if num_heads is not None:
            found = read.read_checkpoint(source, kind)
            sizes = dataclasses.replace(load.generator_config(found), num_heads=num_heads)
        model = load.load_generator(source, config=sizes)
        (native.save_generator if is_own else export.save_released_generator)(model, target)
        network, extra = "generator", ""
    else:
        autoencoder = load.load_autoencoder(source)
        discriminator = load.load_discriminator(source)
        save = native.save_autoencoder if is_own else export.save_released_autoencoder
        save(autoencoder, target, discriminator=discriminator)
        network, extra = "B-AE", " with its discriminator" if discriminator else ""
    size = target.stat().st_size / 1e6
    return f"{target}: {network}{extra}, {size:.1f} MB."


def _convert_codes(source: Path, target: Path) -> str:
    """A store of codes to ``train_ids.bin`` and the like."""
    from bigr.data.codes_store import CodesStore
    from bigr.data.released_codes import write_released

    files = write_released(CodesStore(source), target)
    size = sum(path.stat().st_size for path in files) / 1e6
    return f"{target}: {', '.join(path.name for path in files)}, {size:.1f} MB."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bigr.convert",
        description="Convert a checkpoint between the released layouts, Lightning's and "
        "this project's own, or a folder of codes to the released trainer's files. The input's "
        "layout is recognised by its content, the output's is chosen by its suffix.",
    )
    parser.add_argument(
        "source", type=Path, metavar="IN", help="released .pt/.th, own, .ckpt, codes"
    )
    parser.add_argument(
        "target",
        type=Path,
        metavar="OUT",
        help=f"{OWN_SUFFIX}: this project's format; .pt/.th: the released one; or a folder",
    )
    parser.add_argument(
        "--num-heads",
        type=int,
        metavar="N",
        help="attention heads of a released-layout generator whose heads aren't 64 wide",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    return parser


if __name__ == "__main__":
    main()
