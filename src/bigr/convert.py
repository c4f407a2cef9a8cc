"""Convert checkpoints and codes: ``python -m bigr.convert IN OUT``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bigr.cli.conversion import OWN_SUFFIX, ConversionOptions, convert


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit with status 2 and a message if something is wrong."""
    given = vars(_parser().parse_args(arguments))
    source, target = given.pop("source"), given.pop("target")
    try:
        line = convert(source, target, ConversionOptions(**given))
    except (ValueError, OSError) as error:
        print(f"bigr.convert: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)  # like the other commands
    print(line)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bigr.convert",
        description="Convert a checkpoint between the released layouts, Lightning's and that of "
        "this project; a generator and its B-AE together; or a folder of codes to files of the "
        "released trainer. The layout of the input is recognised by its content; the suffix of the "
        "output chooses its layout. The settings that are saved with a generator are kept.",
    )
    parser.add_argument(
        "source",
        metavar="IN",
        help="a checkpoint; a folder of codes; or a folder, hub repository or installed model with "
        "a generator and its B-AE, as pretrained=NAME in the other commands",
    )
    parser.add_argument(
        "target",
        type=Path,
        metavar="OUT",
        help=f"{OWN_SUFFIX}: format of this project; .pt/.th: released layout; for codes and for "
        "both models: a folder",
    )
    parser.add_argument(
        "--num-heads",
        type=int,
        metavar="N",
        help="number of heads of a released generator whose heads are not 64 wide",
    )
    parser.add_argument(
        "--released", action="store_true", help="write both models in the released layouts"
    )
    parser.add_argument("--model", default="l", help="released size on the hub: l, xl or xxl")
    parser.add_argument("--code", default="d24", help="released code on the hub: d24 or d32")
    parser.add_argument(
        "--resolution", type=int, default=256, help="released resolution on the hub: 256 or 512"
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    return parser


if __name__ == "__main__":
    main()
