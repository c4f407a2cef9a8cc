"""List the commands: ``python -m bigr``."""

from __future__ import annotations

import sys

from bigr import __version__


def main() -> None:
    """Print the version for ``--version``, and the list of commands otherwise."""
    if "--version" in sys.argv[1:]:
        print(f"bigr-lightning {__version__}")  # noqa: T201
        return
    from bigr.cli.help import overview

    print(overview())  # noqa: T201


if __name__ == "__main__":
    main()
