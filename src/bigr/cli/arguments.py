"""The help texts of the commands without a configuration, in the form of the others."""

from __future__ import annotations

import argparse
import functools
import shutil
import textwrap

MAX_WIDTH = 80


def argument_parser(command: str, description: str, *examples: str) -> argparse.ArgumentParser:
    """Return a parser whose help text ends with examples that can be copied.

    Args:
        command: the command after ``python -m``, such as ``bigr.fetch``.
        description: what the command does; it is wrapped to the width of the terminal.
        examples: arguments of typical calls.
    """
    width = min(shutil.get_terminal_size().columns, MAX_WIDTH)
    lines = ["examples:", *(f"  python -m {command} {words}".rstrip() for words in examples)]
    return argparse.ArgumentParser(
        prog=f"python -m {command}",
        description=textwrap.fill(description, width),
        epilog="\n".join(lines),
        formatter_class=functools.partial(argparse.RawDescriptionHelpFormatter, width=width),
    )
