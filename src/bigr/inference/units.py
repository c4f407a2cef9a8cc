"""Numbers with units that people read at a glance, for logs."""

from __future__ import annotations

PREFIXES = {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3}
UNITS = {"days": 86400, "h": 3600, "min": 60}
"""Seconds per unit. A unit is used for times of at least two of it."""


def amount(value: float, unit: str) -> str:
    """Return a number with the prefix of its unit, such as ``1.5 TFLOP`` or ``96 B``."""
    for prefix, factor in PREFIXES.items():
        if value >= factor:
            digits = ",.0f" if value >= 1000 * factor else ".3g"
            return f"{value / factor:{digits}} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def duration(seconds: float) -> str:
    """Return a time with a unit that suits it, such as ``40 s``, ``12 min`` or ``3.5 h``."""
    for unit, length in UNITS.items():
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def speed(per_second: float, unit: str) -> str:
    """Return a speed in words, such as ``12.5 images/s`` or, if it is slow, ``4 s per image``.

    Args:
        per_second: number of units in a second, above 0.
        unit: what is counted, in the plural.
    """
    if per_second >= 1:
        return f"{per_second:.3g} {unit}/s"
    return f"{duration(1 / per_second)} per {unit.removesuffix('s')}"
