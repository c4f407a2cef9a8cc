"""Somebody who follows a sample through the code meets few functions."""

from __future__ import annotations

from bench.call_counts import generate_call, in_sampling

MAX_FUNCTIONS = 70
MAX_IN_SAMPLING = 30


def test_few_functions_make_an_image() -> None:
    functions = generate_call()
    assert len(in_sampling(functions)) <= MAX_IN_SAMPLING
    assert len(functions) <= MAX_FUNCTIONS
