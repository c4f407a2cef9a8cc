"""Convert checkpoints and codes: ``python -m bigr.convert IN OUT``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bigr.cli.arguments import argument_parser
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
    parser = argument_parser(
        "bigr.convert",
        "Convert a checkpoint to another layout: that of the released weights, or that of this "
        "project. A generator and its B-AE can be converted together, and a folder of codes can "
        "be converted to files of the released trainer. The content of the input tells its "
        "layout, and the suffix of the output chooses the new one. A generator keeps its saved "
        "settings.",
        "bigr_L_d24.pt bigr_L_d24.safetensors",
        "pretrained=outputs/demo my_digits",
        "haoosz/BiGR bigr_xl --model xl",
    )
    parser.add_argument(
        "source",
        metavar="IN",
        help="a checkpoint, a folder of codes, or the name of a generator and its B-AE: a folder, "
        "a hub repository or an installed model, as in pretrained=NAME of the other commands",
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
    parser.add_argument(
        "--model", default="l", help="size on the hub: l, xl or xxl (default: %(default)s)"
    )
    parser.add_argument(
        "--code", default="d24", help="code on the hub: d24 or d32 (default: %(default)s)"
    )
    parser.add_argument(
        "--resolution",
        type=int,
        default=256,
        help="resolution on the hub: 256 or 512 (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    return parser


if __name__ == "__main__":
    main()
