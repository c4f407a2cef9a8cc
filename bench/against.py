"""Time the working tree against an earlier commit: ``python bench/against.py REVISION``.

The benchmarks of both trees (``sampler``, ``training_step`` and ``data``, or those that are named)
are started side by side, and their own versions, not the plain ones, run alternately. The table has
the medians of both, and the median, the smallest and the largest ratio of neighbouring runs; above
1, the working tree is slower. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).parents[1]
BENCHMARKS = ("sampler", "training_step", "data")


class Side:
    """A benchmark of one tree, in a process that runs what it is told to."""

    def __init__(self, tree: Path, benchmark: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--serve", benchmark],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> Any:
        """Return the next answer: a name when something can be timed, seconds, or None."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a benchmark ended with {self.process.wait()}")
        return json.loads(line)

    def tell(self, command: str) -> None:
        """Let the process run what can be timed, or continue to what comes next."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def seconds(self) -> float:
        """Run it once, and return its time."""
        self.tell("run")
        return cast(float, self.answer())


def serve(benchmark: str) -> None:
    """Be one side: import the benchmark of the present folder, and run it as it is told to."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the benchmark prints

    def answer(value: object) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    def timed(name: str, plain: object, ours: Callable[[], object], rounds: int) -> float:  # noqa: ARG001
        answer(name)
        while sys.stdin.readline().strip() == "run":
            began = time.perf_counter()
            ours()
            answer(time.perf_counter() - began)
        return 1.0

    sys.path[:0] = [str(Path.cwd()), str(Path.cwd() / "src")]
    sys.argv = [benchmark]
    module: Any = importlib.import_module(f"bench.{benchmark}")
    module.compare = timed
    module.main()
    answer(None)


@contextlib.contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Check out a revision in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        add = ["git", "worktree", "add", "--detach", "--quiet", str(tree), revision]
        if subprocess.run(add, cwd=ROOT, check=False).returncode:
            sys.exit(f"{revision} is not a revision of this repository")
        try:
            yield tree
        finally:
            remove = ["git", "worktree", "remove", "--force", str(tree)]
            subprocess.run(remove, cwd=ROOT, check=True)


def compare_trees(tree: Path, benchmark: str, rounds: int) -> Iterator[str]:
    """Yield a line of the table for each thing that the benchmark times."""
    sides = [Side(tree, benchmark), Side(ROOT, benchmark)]
    while True:
        names = [side.answer() for side in sides]
        if names[0] != names[1]:
            raise SystemExit(f"the benchmarks differ: {names[0]} is not {names[1]}")
        if names[0] is None:
            return
        pairs = [[side.seconds() for side in sides] for _ in range(rounds + 1)][1:]
        before, after = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratios = [ours / theirs for theirs, ours in pairs]
        middle = statistics.median(ratios)
        spread = f"{middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        yield f"| {names[0]} | {before:.3f} s | {after:.3f} s | {spread} |"
        for side in sides:
            side.tell("next")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision")
    parser.add_argument("benchmarks", nargs="*", default=BENCHMARKS)
    parser.add_argument("--rounds", type=int, default=5, help="counted runs of each side")
    options = parser.parse_args()
    print(f"| | {options.revision} | working tree | ratio |\n|---|---|---|---|", flush=True)
    with checked_out(options.revision) as tree:
        for benchmark in options.benchmarks:
            for line in compare_trees(tree, benchmark, options.rounds):
                print(line, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    else:
        main()
