"""The command line: everything that uses Hydra."""
