"""What has another name than in the configuration of commit cfc16c0."""

from __future__ import annotations

import re
from typing import Any

WORDS = {
    "sampler=default": "sampler=paper_l",  # they were equal
    "data=imagenet": "data=images",
    "data=imagenet_codes": "data=codes",
    "resolution=digits": "resolution=16",
}
"""Overrides."""

CLASSES = {
    "Plan": "RunPlan",
    "ProgressBar": "RunProgressBar",
    "ContinuedCSVLogger": "ResumableCSVLogger",
}
"""Targets, without their modules: classes may move."""

KEYS = (
    # The architecture of the B-AE was the group ``code``.
    (r"code\.(.+)", r"autoencoder.\1"),
    # How samples are computed does not belong to the method.
    (r"(.*\b)sampler\.precision", r"\1execution.precision"),
    (r"(.*\b)sampler\.execution", r"\1execution.mode"),
)
"""Dotted keys: patterns of whole keys, the first that fits counts, and their replacements."""

REMOVED = (
    # DigitsEvaluation is given the execution of the command for both of its samplers.
    ("evaluate", r"evaluation\.inpainting_sampler\.(precision|execution)"),
    # A probe takes the sizes of the B-AE from its checkpoint, and those of codes from the store.
    ("probe", r"code\..+|data\.(code_dim|grid_size)"),
    # A probe is an evaluation like the others, whose sweeps end with a table.
    ("probe", r"hydra\.callbacks"),
    # The target says which application it is: a method of the pipeline.
    ("sample", r"application\.name"),
    # A function builds Lightning's strategy, because the number of devices has to be known first.
    (
        "train",
        r"(trainer\.)?strategy\.(_target_|data_parallel_size|tensor_parallel_size|save_dist.*)",
    ),
    (
        "tokenize",
        r"(trainer\.)?strategy\.(_target_|data_parallel_size|tensor_parallel_size|save_dist.*)",
    ),
)
"""Commands and keys that no longer exist there, or are computed."""


def command(old: str) -> str:
    """Return the command of today."""
    name, *overrides = old.split()
    words = [WORDS.get(word, re.sub("^code=", "autoencoder=", word)) for word in overrides]
    if name == "probe":
        words = [word for word in words if not word.startswith("autoencoder=")]
    return " ".join([name, *words])


def values(old: str, recorded: dict[str, Any]) -> dict[str, Any]:
    """Return the values that the command ``old`` has to have today, by the keys of today."""
    gone = [pattern for name, pattern in REMOVED if name == old.split()[0]]
    found = {}
    for key, value in recorded.items():
        if any(re.fullmatch(pattern, key) for pattern in gone):
            continue
        for pattern, replacement in KEYS:
            new, count = re.subn(f"^{pattern}$", replacement, key)
            if count:
                key = new
                break
        found[key] = value
    return found


def comparable(key: str, value: Any) -> Any:
    """Return ``value`` such that equal ones compare equal: targets without their module."""
    if key.endswith("_target_") and str(value).startswith("bigr."):
        name = str(value).rsplit(".", 1)[-1]
        return CLASSES.get(name, name)
    return (type(value), value) if isinstance(value, bool) else value
