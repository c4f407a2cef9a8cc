"""Tests, and the plain implementation that they and the benchmarks compare with."""
