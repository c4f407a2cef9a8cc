"""Runs each test of this folder in a process of its own.

Backward passes of fake tensors start threads of autograd, after which a forked process can compute
no gradients. The tests of interruptions fork, and may run later in the same process. A test file
can name a context for all its tests, ``AROUND_EACH_TEST``, which is entered in the new process.
"""

from __future__ import annotations

import contextlib
import inspect
import multiprocessing
import os
import traceback
from multiprocessing.connection import Connection

import pytest


def _call(item: pytest.Function, results: Connection) -> None:
    """Run the test function, and send how it ended."""
    try:
        names = inspect.signature(item.obj).parameters
        with getattr(item.module, "AROUND_EACH_TEST", contextlib.nullcontext)():
            item.obj(**{name: item.funcargs[name] for name in names})
        results.send(("passed", ""))
    except pytest.skip.Exception as skipped:
        results.send(("skipped", str(skipped)))
    except BaseException:
        results.send(("failed", traceback.format_exc()))
    finally:
        results.close()
        os._exit(0)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    receiving, sending = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_call, args=(pyfuncitem, sending))
    child.start()
    sending.close()
    try:
        outcome, text = receiving.recv()
    except EOFError:
        outcome, text = "failed", "The process of the test ended without a result."
    child.join()
    if outcome == "skipped":
        pytest.skip(text)
    if outcome == "failed":
        pytest.fail(text, pytrace=False)
    return True
