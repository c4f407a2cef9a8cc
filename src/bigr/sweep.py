"""Summarise the folder of a sweep: ``python -m bigr.sweep multirun/…``."""

from __future__ import annotations

import sys
from pathlib import Path

from bigr.cli.arguments import argument_parser


def main() -> None:
    """Run the command from its arguments."""
    parser = argument_parser(
        "bigr.sweep",
        "Write a table (sweep.csv and sweep.md) and plots of all jobs of a sweep, including those "
        "that have not finished.",
        "outputs/sweep",
        "outputs/sweep --best digits_frechet",
    )
    parser.add_argument("folder", type=Path, help="folder of the sweep: multirun/evaluate/…")
    parser.add_argument(
        "--best",
        metavar="FIGURE",
        help="instead, print the settings of the job with the best FIGURE, such as fid or is",
    )
    options = parser.parse_args()
    from bigr.evaluation.sweep_table import best_job, read_jobs, summarise

    try:
        if options.best:
            job = best_job(read_jobs(options.folder), options.best)
            print(" ".join(f"{key}={value}" for key, value in job.overrides.items()))  # noqa: T201
            return
        for path in summarise(options.folder):
            print(path)  # noqa: T201
        print((options.folder / "sweep.md").read_text(), end="")  # noqa: T201
    except (ValueError, OSError) as error:
        print(f"bigr.sweep: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


if __name__ == "__main__":
    main()
