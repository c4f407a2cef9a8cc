"""The one exception for a checkpoint that can't be used."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint that can't be used: says what was found, what was expected, what to do."""
