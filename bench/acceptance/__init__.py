"""The stages of the acceptance run on a GPU, see ``bench/gpu.py``."""
