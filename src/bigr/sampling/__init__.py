"""Entropy-ordered sampling: one loop for generation, inpainting and everything else."""
