"""Configuration files, found through ``hydra.searchpath=[pkg://my_lab.conf]``."""
