"""Benchmarks: ours against the plain implementation of the tests, in one process."""
