"""How many functions of the package one call of BiGRPipeline.generate enters.

Counts distinct code objects (functions, lambdas, comprehensions) with ``sys.setprofile``: fewer of
them means less to read for somebody who follows a sample through the code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import bigr  # noqa: E402
from tests.models import tiny_autoencoder, tiny_generator  # noqa: E402

PACKAGE = Path(bigr.__file__).parent
SAMPLING = PACKAGE / "sampling"


def entered_functions(function: Callable[[], object]) -> set[CodeType]:
    """Return the code objects of the package that a call of ``function`` enters."""
    found: set[CodeType] = set()

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
            found.add(frame.f_code)

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return found


def generate_call() -> set[CodeType]:
    """Return the functions that generating two images of a tiny model on the CPU enters."""
    pipeline = bigr.BiGRPipeline(tiny_generator(), tiny_autoencoder(), device="cpu")
    return entered_functions(
        lambda: pipeline.generate([0, 1], num_iterations=4, num_denoise_steps=6)
    )


def in_sampling(functions: set[CodeType]) -> set[CodeType]:
    """Return those of ``functions`` that are defined in ``bigr.sampling``."""
    return {code for code in functions if Path(code.co_filename).is_relative_to(SAMPLING)}


def main() -> None:
    functions = generate_call()
    for code in sorted(functions, key=lambda code: (code.co_filename, code.co_firstlineno)):
        file = Path(code.co_filename).relative_to(PACKAGE)
        print(f"{file}:{code.co_firstlineno} {code.co_name}")
    print(f"{len(functions)} functions, {len(in_sampling(functions))} of them in sampling/")


if __name__ == "__main__":
    main()
