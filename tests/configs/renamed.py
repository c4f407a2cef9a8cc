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
    # The default is the model that is there: of make demo, or the installed one.
    ("demo", r"pretrained"),
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

CHANGED = (
    # PyTorch's static graph fails with accumulated batches.
    (r"(train|tokenize).*", r"(trainer\.)?strategy\.static_graph", False),
    # Images in files need no models, and all of them are compared.
    (r"(evaluate|probe).*", r"generator|autoencoder", None),
    (r"evaluate(?! evaluation=(digits|edits)).*", r"evaluation\.(count|reference)", None),
    (r"evaluate experiment=reproduce/.*", r"evaluation\.count", 50_000),
    # Without flip prediction the released loss is plain cross-entropy.
    (r"train experiment=ablation_x0", r"(.*\b)?model\.weighted_loss", False),
    # Tokens of small images are smaller.
    (
        r"train (model|task)=\w+ code=d\d+ resolution=digits",
        r"(.*\b)?autoencoder\.channel_multipliers",
        [1, 2, 4],
    ),
    (
        r"train (model|task)=\w+ code=d\d+ resolution=digits",
        r"(.*\b)?(data|model)\.grid_size",
        4,
    ),
    # The released applications sample the most certain tokens first, without noise.
    (
        r"\w+ sampler=(inpaint|enrich)|evaluate evaluation=edits"
        r"|sample application=(inpaint|outpaint|edit|enrich|interpolate)",
        r"(.*\b)?sampler\.gumbel_temperature",
        0.0,
    ),
    # The demo has a smaller B-AE and a smaller generator, which are trained in less time.
    (
        r"train .*code=digits.*|train experiment=digits_(autoencoder|generator).*",
        r"(.*\b)?autoencoder\.base_channels",
        16,
    ),
    (
        r"train .*code=digits.*|train experiment=digits_(autoencoder|generator).*",
        r"(.*\b)?autoencoder\.norm_groups",
        4,
    ),
    (r"train experiment=digits_autoencoder", r"task\.quantizer_gain", 20.0),
    (r"train experiment=digits_autoencoder", r"task\.optimizer\.lr", 4.0e-3),
    (
        r"train experiment=digits_autoencoder",
        r"trainer\.max_steps|task\.lr_scheduler\.total_steps",
        400,
    ),
    (r"train experiment=digits_autoencoder", r"trainer\.val_check_interval", 200),
    (
        r".*sampler=digits.*|train experiment=digits_generator.*",
        r"(.*\b)?sampler\.guidance_scale",
        1.5,
    ),
    (
        r".*sampler=digits.*|train experiment=digits_generator.*",
        r"(.*\b)?sampler\.temperature",
        1.05,
    ),
    (
        r".*sampler=digits.*|train experiment=digits_generator.*",
        r"(.*\b)?sampler\.guidance_interval",
        [0.0, 0.1],
    ),
    (
        r"train experiment=digits_generator.*",
        r"trainer\.max_steps|task\.lr_scheduler\.total_steps",
        2000,
    ),
    (r"train experiment=digits_generator.*", r"trainer\.val_check_interval", 1000),
    (r"train experiment=digits_generator.*", r"data\.batch_size", 48),
    (r"train experiment=digits_generator.*", r"(.*\b)?model\.(denoiser_)?dim", 96),
    (r"train experiment=digits_generator.*", r"(.*\b)?model\.init_std", 0.1),
    (r"train experiment=digits_generator.*", r"task\.levels_per_token", 4),
)
"""Commands, keys, and values that are others today."""


FROM_THE_MODEL = (
    # These commands have sampler=model.
    (
        r"(sample|evaluate|demo)( sweep=\w+| logger=\w+)?|sample application=generate"
        r"|evaluate evaluation=(digits|digits_fidelity|imagenet|reconstruction)",
        r"sampler\.\w+",
    ),
    # Samplers of applications set a few values and leave the others to the model.
    (
        r"(sample|train) sampler=(inpaint|enrich)|evaluate evaluation=edits"
        r"|sample application=(inpaint|outpaint|edit|enrich)",
        r"(callbacks\.sample_grid\.)?sampler\.(?!gumbel_temperature|mask_schedule)\w+",
    ),
    (r"sample application=interpolate", r"sampler\.(?!gumbel_temperature)\w+"),
    # These commands have resolution=model.
    (
        r"tokenize( (data|trainer|strategy)=\w+)?|probe( data=(digits|imagenet))?"
        r"|evaluate evaluation=(edits|reconstruction)",
        r"(data|resolution)\.image_size",
    ),
    (r"probe data=(digits|imagenet)_codes", r"resolution\.image_size"),
)
"""Commands, and keys that are null today because they follow from the model."""


def follows_the_model(old: str, key: str) -> bool:
    """Return whether a value of the command ``old`` may be null because it follows the model."""
    return any(re.fullmatch(one, old) and re.fullmatch(keys, key) for one, keys in FROM_THE_MODEL)


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
    changed = [(key, value) for names, key, value in CHANGED if re.fullmatch(names, old)]
    found = {}
    for key, value in recorded.items():
        if any(re.fullmatch(pattern, key) for pattern in gone):
            continue
        for pattern, replacement in KEYS:
            new, count = re.subn(f"^{pattern}$", replacement, key)
            if count:
                key = new
                break
        for pattern, new_value in changed:
            if re.fullmatch(pattern, key):
                value = new_value
        found[key] = value
    return found


def comparable(key: str, value: Any) -> Any:
    """Return ``value`` such that equal ones compare equal: targets without their module."""
    if key.endswith("_target_") and str(value).startswith("bigr."):
        name = str(value).rsplit(".", 1)[-1]
        return CLASSES.get(name, name)
    return (type(value), value) if isinstance(value, bool) else value
