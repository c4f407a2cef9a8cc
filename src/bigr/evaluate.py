"""Evaluate a generator or a B-AE: ``python -m bigr.evaluate``.

All settings are in ``conf/evaluate.yaml``, those of the evaluations in ``conf/evaluation``.
"""

from __future__ import annotations

from bigr.cli import entry as cli
from bigr.cli import sweeps
from bigr.cli.evaluations import EvaluationSettings, evaluate


def main() -> None:
    """Run the command from its arguments."""
    cli.run("evaluate", evaluate, settings=EvaluationSettings, after_sweep=sweeps.finish)


if __name__ == "__main__":
    main()
