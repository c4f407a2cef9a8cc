"""Summarise the folder of a sweep: ``python -m bigr.sweep multirun/…``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    """Run the command from its arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m bigr.sweep",
        description="Write sweep.csv, sweep.md and plots of a sweep's jobs, finished or not.",
    )
    parser.add_argument("folder", type=Path, help="folder of the sweep: multirun/evaluate/…")
    parser.add_argument(
        "--best",
        metavar="FIGURE",
        help="print the overrides of the job with the best FIGURE (fid, is, …) instead",
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
