"""The help texts of the commands: purpose, examples, configuration groups, and where results go."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from bigr import __version__
from bigr.presets import config_dir

MAX_WIDTH = 80
NAME_WIDTH = 22
"""Width of the column with the names of groups and keys."""
MODELS = "pretrained=outputs/demo"


class Command(NamedTuple):
    """What ``--help`` says about a command."""

    purpose: str
    examples: tuple[str, ...]
    """Arguments of three typical calls."""
    results: str
    """Where the results are written."""
    keys: dict[str, str] = {}  # noqa: RUF012  # of a tuple, which cannot be changed
    """Important keys of groups, and what they mean."""
    unused: tuple[str, ...] = ()
    """Groups and keys that the command inherits from another one, but does not use."""


COMMANDS = {
    "train": Command(
        "Train a generator or a B-AE.",
        (
            "experiment=digits_autoencoder",
            "model=l data=codes data.root=/data/codes_d24",
            "experiment=digits_autoencoder hydra.run.dir=outputs/mine resume=auto",
        ),
        "outputs/train/<time>: weights, checkpoints, metrics, pictures and the configuration.",
        {
            "data.root": "the folder with the images or codes",
            "data.batch_size": "images per device and step",
            "task.autoencoder": "the B-AE of a generator: encodes images, draws pictures",
            "task.optimizer.lr": "learning rate",
            "trainer.max_steps": "number of optimiser steps",
            "trainer.devices": "number of devices per node",
        },
    ),
    "tokenize": Command(
        "Encode images once, as packed codes from which generators train faster.",
        (
            "autoencoder=binaryae_ema_1000000.th data.root=/data/imagenet output=/data/codes_d24",
            "autoencoder=binaryae_ema_1000000.th data.root=photos output=codes 'splits=[train]'",
            "experiment=digits autoencoder=outputs/demo/autoencoder output=outputs/digits_codes",
        ),
        "the folder output=…: shards of codes, their manifest, and the list of broken images.",
        {"data.root": "the folder with the images"},
    ),
    "fit": Command(
        "Train a B-AE and a generator on your images in one command, and write a report.",
        (
            "images=photos resolution=32",
            "images=photos resolution=32 hydra.run.dir=outputs/photos",
            "images=photos resolution=32 autoencoder_steps=2000 generator_steps=5000",
        ),
        "outputs/fit: report.md, both models, codes, samples and scores. The same command "
        "continues an unfinished run.",
    ),
    "sample": Command(
        "Generate, inpaint, outpaint, edit, interpolate or enrich images.",
        (
            f"{MODELS} 'application.classes=[3,8]'",
            "generator=bigr_L_d24.pt autoencoder=binaryae_ema_1000000.th seed=7",
            f"application=inpaint application.image=digit.png {MODELS}",
        ),
        "outputs/sample/<time>: images, a grid of the first ones, and the configuration.",
        {
            "application.classes": "classes to generate, by number or name",
            "application.num_per_class": "number of images of each class",
            "application.image": "the picture to edit, unless application=generate",
            "sampler.guidance_scale": "strength of the guidance by the class; 1 means none",
            "sampler.num_iterations": "number of iterations, each of which decides some tokens",
        },
    ),
    "evaluate": Command(
        "Score a generator, a B-AE or a set of images: FID, IS, precision, recall, edits.",
        (
            "samples=samples reference=photos",
            f"evaluation=digits_fidelity {MODELS}",
            "experiment=reproduce/bigr_l_d24 generator=bigr_L_d24.pt "
            "autoencoder=binaryae_ema_1000000.th reference=imagenet256.npz",
            f"-m evaluation=digits_fidelity {MODELS} sampler.guidance_scale=1,2",
        ),
        "outputs/evaluate/<time>: report.md, metrics.json, pictures and plots. A sweep: "
        "multirun/evaluate. python -m bigr.evaluate compare RUN RUN … makes one table of several.",
        {
            "evaluation.count": "number of images to generate or to compare",
            "data.root": "the images of evaluation=reconstruction and edits",
            "sampler.guidance_scale": "strength of the guidance by the class; 1 means none",
        },
    ),
    "probe": Command(
        "Train linear classifiers on the features of a frozen generator.",
        (
            f"experiment=digits_probe {MODELS}",
            "generator=bigr_L_d24.pt autoencoder=binaryae_ema_1000000.th data.root=/data/imagenet",
            f"experiment=digits_probe {MODELS} 'probe.layers=[3]'",
        ),
        "outputs/probe/<time>: accuracies by layer, plots, and the configuration.",
        {
            "data.root": "the folder with the images or codes",
            "probe.layers": "numbers of the layers to measure, middle or all",
        },
        unused=("evaluation", "sampler", "samples", "against", "reference"),
    ),
    "demo": Command(
        "Serve a web app to generate and edit pictures in the browser.",
        (
            "",
            "pretrained=haoosz/BiGR sampler=demo",
            f"{MODELS} port=8000",
        ),
        "pictures in the browser, to be downloaded there. Only this computer can open the app.",
    ),
}
OTHER_COMMANDS = {
    "fetch": "Download weights of metrics and references, and verify them.",
    "convert": "Convert weights between formats, or codes to the released trainer's files.",
    "sweep": "Summarise the folder of a sweep as a table and plots.",
}
GROUPS = {
    "alignment": "an additional loss of the generator",
    "application": "what to do",
    "autoencoder": "size of the B-AE",
    "data": "where images or codes come from",
    "debug": "short runs to find mistakes",
    "evaluation": "what to measure",
    "experiment": "prepared settings of a run",
    "features": "what is stored with codes for alignment",
    "logger": "where metrics are logged",
    "lr_scheduler": "learning rate over time",
    "model": "size of the generator",
    "resolution": "image size",
    "sample_metrics": "metrics of samples during training",
    "sampler": "sampling settings",
    "strategy": "how devices work together",
    "sweep": "prepared sweeps",
    "task": "which network to train",
    "trainer": "devices and precision",
}


OPTIONS = {
    "hydra.run.dir=FOLDER": "write the results to this folder",
    "--cfg job": "show all settings without running anything",
    "-m key=1,2": "run once for each value",
    "--hydra-help": "show the options of Hydra itself",
}


def command_help(name: str) -> str:
    """Return the help text of a command, wrapped to the width of the terminal."""
    command = COMMANDS[name]
    width = min(shutil.get_terminal_size().columns, MAX_WIDTH)
    lines = [f"python -m bigr.{name} [group=option …] [key=value …]", "", command.purpose, ""]
    # 1. Examples can be copied, so the lines of a long one end in a backslash.
    lines.append("Examples:")
    for example in command.examples:
        words = f"python -m bigr.{name} {example}".split()
        lines += _command_line(words, width)
    # 2. The groups of this command, with their options.
    lines += ["", "Groups, with their options:"]
    for group, options in _groups(name).items():
        if group not in command.unused:
            lines += _entry(group, f"{GROUPS[group]}: {', '.join(options)}", width)
    # 3. The keys at the top level with their comments, and the important ones of groups.
    lines += ["", "Keys:"]
    for key, comment in (*_keys(config_dir() / f"{name}.yaml"), *command.keys.items()):
        if key not in command.unused:
            lines += _entry(key, comment, width)
    # 4. Where to look next.
    lines += ["", *textwrap.wrap(f"Results: {command.results}", width, subsequent_indent="  ")]
    lines += ["", "Options:"]
    for option, meaning in OPTIONS.items():
        lines += _entry(option, meaning, width)
    return "\n".join(lines)


def overview() -> str:
    """Return the list of all commands, for ``python -m bigr``."""
    purposes = {name: command.purpose for name, command in COMMANDS.items()} | OTHER_COMMANDS
    lines = [f"bigr-lightning {__version__}", "", "Commands:"]
    for name, purpose in purposes.items():
        lines += _entry(f"python -m bigr.{name}", purpose, MAX_WIDTH, 26)
    lines += ["", "Start with: python -m bigr.sample pretrained=digits"]
    return "\n".join([*lines, "Help on a command: python -m bigr.train --help"])


def _entry(name: str, text: str, width: int, name_width: int = NAME_WIDTH) -> list[str]:
    """Return lines with a name on the left, and a wrapped text on the right."""
    column = " " * name_width
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=column,
        subsequent_indent=column,
        break_on_hyphens=False,
        break_long_words=False,
    )
    if len(name) + 3 > name_width:
        return [f"  {name}", *lines]
    return [f"  {name:<{name_width - 2}}{lines[0].removeprefix(column)}", *lines[1:]]


def _keys(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the keys at the top level of a command's configuration, with comment and default.

    The comment is in the same line, or in the lines above.
    """
    text = file.read_text(encoding="utf-8")
    above: list[str] = []
    for line in text.splitlines():
        if line.startswith("# "):
            above.append(line.removeprefix("# "))
            continue
        found = re.match(r"(\w+):(?: ([^#\n]*?))?(?: +# (.*))?$", line)
        if found and found[1] not in ("defaults", "hydra"):
            name, default, comment = found.groups()
            comment = comment or " ".join(above).removesuffix(".")
            is_short = default and not default.startswith(("?", "null", "{", "$"))
            yield name, f"{comment} (default: {default})" if is_short else comment
        above = []
    base = re.search(r"^defaults:\n  - ([a-z]\w*)$", text, flags=re.MULTILINE)
    if base:  # the configuration that this one is derived from
        yield from _keys(file.with_name(f"{base[1]}.yaml"))


def _groups(name: str) -> dict[str, list[str]]:
    """Return the configuration groups of a command, with the names of their files."""
    # 1. The groups in the defaults of the command, and of the command that it is derived from.
    defaults = _defaults(config_dir() / f"{name}.yaml")
    groups: dict[str, None] = {}
    # Some evaluations add groups of their own.
    for file in (config_dir() / "evaluation").glob("*.yaml") if name == "evaluate" else ():
        defaults += [entry for entry in _defaults(file) if str(next(iter(entry))).startswith("/")]
    for entry in defaults:
        if isinstance(entry, DictConfig):
            groups.update(
                dict.fromkeys(str(key).split("@")[0].split()[-1].lstrip("/") for key in entry)
            )
        elif entry in COMMANDS:
            groups.update(dict.fromkeys(_groups(str(entry))))
    # 2. Their options; groups without a description are internal.
    found = {}
    for group in (group for group in groups if group in GROUPS):
        files = sorted((config_dir() / group).rglob("*.yaml"))
        if group == "experiment":  # the comment of an experiment names its command
            files = [file for file in files if _is_of(name, file)]
        names = (file.relative_to(config_dir() / group).with_suffix("") for file in files)
        options = dict.fromkeys(f"{n.parent}/…" if n.parent.name else n.name for n in names)
        found[group] = sorted(options, key=_natural)
    return {group: options for group, options in found.items() if options}


def _defaults(file: Path) -> list[Any]:
    """Return the defaults list of a configuration file."""
    content: Any = OmegaConf.load(file)
    return list(content.get("defaults", []))


def _is_of(name: str, experiment: Path) -> bool:
    """Return whether the comment of an experiment names this command."""
    option = rf"([\w/]+/)?{experiment.stem}\b"
    return bool(re.search(rf"bigr\.{name} experiment={option}", experiment.read_text()))


def _natural(option: str) -> tuple[int, str]:
    """Sort numbers by their value, before words."""
    return (int(option), "") if option.isdigit() else (10**9, option)


def _command_line(words: list[str], width: int) -> list[str]:
    """Return a command as lines of at most ``width`` characters that a shell can read."""
    lines, current = [], " "
    for word in words:
        if len(current) + len(word) + 3 > width and current.strip():
            lines.append(f"{current} \\")
            current = "     "
        current += f" {word}"
    return [*lines, current]
