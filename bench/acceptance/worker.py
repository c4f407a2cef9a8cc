"""Runs stages one after the other and writes one line of JSON about each of them.

The supervisor starts it as a process of its own, because an error of a GPU can make every later
call fail, and because a stage may hang.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from bench.stand_ins import add_missing

BROKEN = 3
"""Exit status after an error from which the GPU's context does not recover."""


class StageTimeoutError(Exception):
    """The time of a stage is over."""


def work(order: Mapping[str, Any]) -> int:
    """Run the stages of ``order``, and return the exit status.

    Args:
        order: ``stages`` (name, seconds, function, title each), ``device``, ``is_tiny``, and
            ``results`` of earlier stages.
    """
    # Results go to the standard output, and nothing else: libraries print to it as well.
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _end_with(os.getppid())
    add_missing()
    importlib.import_module("bench.acceptance.context")  # takes seconds, which are no stage's
    signal.signal(signal.SIGALRM, _on_alarm)
    values: dict[str, Any] = dict(order["results"])
    for name, limit, function, _ in order["stages"]:
        began = time.perf_counter()
        line: dict[str, Any] = {"stage": name, "status": "ok", "values": {}, "error": None}
        is_broken = False
        try:
            run = _prepared(function, order, values)
            signal.setitimer(signal.ITIMER_REAL, limit)
            line["values"] = {key: _plain(value) for key, value in run().items()}
            untrue = [key for key, value in line["values"].items() if value is False]
            if untrue:
                line.update(status="failed", error=f"not true: {', '.join(untrue)}")
        except Exception as error:
            text = next(iter(str(error).splitlines()), "")
            line.update(status="failed", error=f"{type(error).__name__}: {text}")
            _print_traceback()
            is_broken = _is_broken(order["device"])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        values[name] = line["values"]
        line["seconds"] = round(time.perf_counter() - began, 3)
        results.write(json.dumps(line) + "\n")
        results.flush()
        if is_broken:
            return BROKEN
    return 0


def _prepared(
    function: str, order: Mapping[str, Any], values: dict[str, Any]
) -> Callable[[], dict[str, Any]]:
    """Return a stage that only has to be called; what can be imported is imported by then."""
    import torch

    from bench.acceptance.context import Context

    context = Context(torch.device(order["device"]), order["is_tiny"], values)
    context.release()
    torch.manual_seed(0)
    module, name = function.split(":")
    return functools.partial(getattr(importlib.import_module(module), name), context)


def _plain(value: Any) -> Any:
    """Return numbers with four significant digits, which is more than a measurement has."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _is_broken(device: str) -> bool:
    """Return whether the GPU refuses every further call, which another process may not."""
    import torch

    if not device.startswith("cuda") or not torch.cuda.is_available():
        return False
    try:
        torch.cuda.synchronize()
        torch.zeros(1, device=device).item()
    except RuntimeError:
        return True
    return False


def _print_traceback() -> None:
    import traceback

    traceback.print_exc(file=sys.stderr)


def _on_alarm(*_: Any) -> None:
    raise StageTimeoutError("the time of this stage is over")


def _end_with(parent: int) -> None:
    """End this process when ``parent`` has ended, however that happened."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
