"""Evaluate a generator, a B-AE or a set of images: ``python -m bigr.evaluate``.

All settings are in ``conf/evaluate.yaml``, those of the evaluations in ``conf/evaluation``.
``python -m bigr.evaluate compare RUN RUN …`` makes one table of several finished evaluations.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bigr.cli import entry as cli
from bigr.cli import sweeps
from bigr.cli.arguments import argument_parser
from bigr.cli.evaluations import EvaluationSettings, evaluate
from bigr.cli.tables import print_tables

COMPARE = "compare"


def main() -> None:
    """Run the command from its arguments."""
    if sys.argv[1:2] == [COMPARE]:
        compare(sys.argv[2:])
    else:
        cli.run("evaluate", evaluate, settings=EvaluationSettings, after_sweep=sweeps.finish)


def compare(arguments: list[str]) -> None:
    """Print and write one table of several evaluations; exit with status 2 if one is missing."""
    from bigr.evaluation.run_comparison import (
        notes_of,
        read_run,
        run_differences,
        tables_of,
        write_comparison,
    )

    parser = argument_parser(
        f"bigr.evaluate {COMPARE}",
        "Make one table of several finished evaluations, and say which differences from the first "
        "one are more than chance.",
        "outputs/first outputs/second outputs/third",
        "outputs/first outputs/second --output tables",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="folder of a run")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("outputs", COMPARE),
        help="folder of comparison.md, .json and .csv (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    try:
        if len(options.runs) < 2:
            raise ValueError(f"a comparison needs at least two runs, got only {options.runs[0]}.")
        if len(set(options.runs)) < len(options.runs):
            raise ValueError("a run is given twice: name different folders.")
        runs = [read_run(path.expanduser()) for path in options.runs]
        differences, mismatches = run_differences(runs)
        print_tables(tables_of(runs, differences), notes_of(differences, mismatches))
        print(*write_comparison(runs, options.output))  # noqa: T201
    except (ValueError, OSError) as error:
        print(f"bigr.evaluate: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(cli.EXIT_USER_ERROR)


if __name__ == "__main__":
    main()
