"""Tests with several versions of Python and PyTorch: ``pip install nox``, then ``nox``.

``nox -s "tests-3.12(torch='2.11')"`` runs one of them. Each needs its interpreter.
"""

from __future__ import annotations

import nox

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
TORCHES = {"2.11": ("torch==2.11.*", "torchvision==0.26.*"), "newest": ("torch", "torchvision")}


@nox.session(python=PYTHONS)
@nox.parametrize("torch", list(TORCHES))
def tests(session: nox.Session, torch: str) -> None:
    """Import the package, and test the models, the sampler and the checkpoints."""
    session.install(*TORCHES[torch], "-e", ".[dev]")
    session.run("python", "-c", "from bigr import *")
    folders = ("models", "sampling", "checkpoints")
    places = session.posargs or [f"tests/unit/{name}" for name in folders]
    session.run("python", "-m", "pytest", "-q", *places, env={"OMP_NUM_THREADS": "1"})
