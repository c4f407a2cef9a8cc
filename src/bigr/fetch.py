"""Download published weights and references: ``python -m bigr.fetch inception``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import NoReturn

from bigr.cli.arguments import argument_parser


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit with status 2 and a message if something is wrong."""
    from bigr.checkpoints.published import PUBLISHED

    parser = argument_parser(
        "bigr.fetch",
        "Download published files, verify their checksums, and put them where the other commands "
        "look for them. An interrupted download is continued. Without a name, the files are "
        "listed.",
        "",
        "inception",
        "vgg --folder weights",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PUBLISHED))
    parser.add_argument("--folder", type=Path, help="write the files to this folder")
    options = parser.parse_args(arguments)
    try:
        for name in options.names:
            if name not in PUBLISHED:
                from bigr.schema import did_you_mean

                raise ValueError(
                    f"{name}: there is no such file; choose from {', '.join(PUBLISHED)}."
                    f"{did_you_mean(name, list(PUBLISHED))}"
                )
        for name in options.names:
            fetch(name, options.folder)
    except (ValueError, OSError) as error:
        print(f"bigr.fetch: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit("bigr.fetch: interrupted; the same command continues.")
    if not options.names:
        for name, file in PUBLISHED.items():
            state = "present" if file.place.exists() else "missing"
            print(f"{name:<10} {state:<8} for {file.purpose}\n  {file.url}")  # noqa: T201
        print("\nTo download a file: python -m bigr.fetch inception")  # noqa: T201


def fetch(name: str, folder: Path | None = None) -> Path:
    """Download a published file unless it is there already, and return its path.

    Args:
        name: its short name.
        folder: folder to write to; None takes the one where the other commands look for it.

    Raises:
        DownloadError: if it cannot be downloaded.
        CachedFileError: if the file is there, but has another checksum.
    """
    from tqdm import tqdm

    from bigr.checkpoints.cached import find_cached
    from bigr.checkpoints.download import download
    from bigr.checkpoints.published import PUBLISHED

    file = PUBLISHED[name]
    target = file.place if folder is None else folder.expanduser() / file.name
    if not target.exists():
        print(f"{name}: {file.url} for {file.purpose}, to {target}")  # noqa: T201
        with contextlib.ExitStack() as stack:
            bars: list[tqdm[NoReturn]] = []

            def start(have: int, total: int | None) -> None:
                """Show a bar once the server has answered, and a new one after an interruption."""
                stack.close()
                bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, unit_divisor=1000)
                bars[:] = [stack.enter_context(bar)]

            download(file, target, on_start=start, on_bytes=lambda count: bars[0].update(count))
    path = find_cached(file, str(target))
    print(f"{name}: {path} is complete; {file.use.format(path=path)}")  # noqa: T201
    return path


if __name__ == "__main__":
    main()
