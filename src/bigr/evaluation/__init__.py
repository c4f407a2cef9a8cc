"""Evaluations: from checkpoints to scores and pictures."""
