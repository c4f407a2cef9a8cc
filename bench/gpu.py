"""The acceptance run: ten minutes on a GPU that answer whether everything works, and how fast.

    python bench/gpu.py                    # one CUDA GPU, nine minutes
    python bench/gpu.py --tiny             # tiny networks on the CPU, to test the run itself

It needs Python with torch, lightning, torchmetrics, torchvision and triton, but not this package's
other dependencies, and neither weights nor data. Each stage prints a line of JSON when it is done,
and is saved at once to ``docs/benchmarks/<date>-<device>.json`` and ``.md``. A stage that fails,
hangs or crashes is reported, and the others continue. ``docs/gpu.md`` explains the results.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.acceptance.plan import STAGES  # noqa: E402
from bench.acceptance.supervision import supervise  # noqa: E402
from bench.acceptance.worker import work  # noqa: E402

LIMIT = 540.0


def main() -> None:
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="tiny networks; the device is the CPU")
    parser.add_argument("--device", help="such as cuda:1; default: cuda, or cpu with --tiny")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of the whole run")
    parser.add_argument(
        "--stages", nargs="+", choices=names, default=names, metavar="NAME",
        help=f"some of the stages only: {', '.join(names)}",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of the results"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        sys.exit(work(json.loads(options.worker)))
    # Ending this process ends the worker as well, and what has been measured is saved already.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    lines = supervise(
        [stage for stage in STAGES if stage.name in options.stages],
        device=options.device or ("cpu" if options.tiny else "cuda"),
        is_tiny=options.tiny,
        limit=options.limit,
        out=options.out,
    )
    sys.exit(any(line["status"] != "ok" for line in lines))


if __name__ == "__main__":
    main()
