"""From checkpoints to figures and pictures."""
