"""Evaluate the features of a generator with a linear classifier: ``python -m bigr.probe``.

This is ``python -m bigr.evaluate`` with the settings in ``conf/probe.yaml``.
"""

from __future__ import annotations

from bigr.cli import entry as cli
from bigr.cli import sweeps
from bigr.cli.evaluations import EvaluationSettings, evaluate


def main() -> None:
    """Run the command from its arguments."""
    cli.run("probe", evaluate, settings=EvaluationSettings, after_sweep=sweeps.finish)


if __name__ == "__main__":
    main()
