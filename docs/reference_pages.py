"""Writes the reference pages: of the configuration from ``conf/``, of the API from the package."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bigr.cli.help import COMMANDS

INTRODUCTION = """# Configuration reference

This page is generated from the files in `conf/`. Every command composes its configuration from
groups: `group=option` selects a file, and `key=value` replaces a single value. A comment at the
beginning of a file says what it is for.

Values that a file does not state are the defaults of the class that its `_target_` names; the
[API reference](api/index.md) describes them. `python -m bigr.train --cfg job` prints the complete
configuration of a command without running it.

"""

PACKAGES = {
    "pipeline": "Images in, images out: generation and all applications.",
    "sampling": "The sampling loop, the denoising chain, and their schedules, orders and guidance.",
    "models": "The networks, the noise schedule and the losses of the generator.",
    "checkpoints": "Reading and writing weights.",
    "data": "Images, codes, and the files that hold them.",
    "training": "Lightning modules, data modules, callbacks and checkpoints of a run.",
    "evaluation": "Evaluators, references and reports.",
    "metrics": "Feature networks and the metrics that are computed from features.",
    "losses": "The losses of the B-AE.",
    "inference": "Labels and seeds in, images out, on one or several devices.",
}
API_INTRODUCTION = """# API reference

`import bigr` offers these names, which are loaded on first use:

```{{eval-rst}}
.. currentmodule:: bigr

.. autosummary::

{names}
```

The pages below describe all modules, package by package.

```{{toctree}}
:maxdepth: 2

{toc}
```
"""


def write_configuration(conf: Path, target: Path) -> None:
    """Write one page about all commands, groups and options.

    Args:
        conf: the folder with the configuration files.
        target: the Markdown file to write; it is only touched if its content changes.
    """
    parts = [INTRODUCTION, "## Commands\n\n"]
    parts += [_command(conf / f"{name}.yaml", about.purpose) for name, about in COMMANDS.items()]
    for file in sorted(file for file in conf.glob("*.yaml") if file.stem not in COMMANDS):
        content = file.read_text()
        parts.append(f"### `{file.stem}`, in several commands\n\n```yaml\n{content}```\n\n")
    for folder in sorted(path for path in conf.iterdir() if path.is_dir()):
        parts.append(_group(folder, conf))
    _write(target, "".join(parts))


def write_api(package: Path, public: Sequence[str], folder: Path) -> None:
    """Write an overview of the API, and one page for each package in :data:`PACKAGES`.

    Args:
        package: the folder of the package ``bigr``.
        public: the names that ``bigr`` itself offers.
        folder: where to write the pages.
    """
    names = "\n".join(f"   {name}" for name in public)
    toc = "\n".join(PACKAGES)
    _write(folder / "index.md", API_INTRODUCTION.format(names=names, toc=toc))
    for name, purpose in PACKAGES.items():
        modules = sorted(file for file in (package / name).rglob("*.py") if file.stem != "__init__")
        parts = [f"# bigr.{name}\n\n{purpose}\n\n"]
        for file in modules:
            dotted = ".".join(["bigr", *file.relative_to(package).with_suffix("").parts])
            parts.append(
                f"## {dotted.removeprefix('bigr.')}\n\n"
                f"```{{eval-rst}}\n.. automodule:: {dotted}\n```\n\n"
            )
        _write(folder / f"{name}.md", "".join(parts))


def _write(target: Path, text: str) -> None:
    """Write ``text``, unless the file has this content already: Sphinx would read it again."""
    if not target.is_file() or target.read_text() != text:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def _command(file: Path, purpose: str) -> str:
    content = file.read_text().strip()
    return f"### `python -m bigr.{file.stem}`\n\n{purpose}\n\n```yaml\n{content}\n```\n\n"


def _group(folder: Path, conf: Path) -> str:
    files = sorted(folder.rglob("*.yaml"))
    rows, details = [], []
    for file in files:
        option = file.relative_to(folder).with_suffix("").as_posix()
        comment, content = _split(file.read_text())
        first = re.split(r"(?<=[.]) ", comment, maxsplit=1)[0] if comment else ""
        rows.append(f"| `{folder.name}={option}` | {first.replace('|', chr(92) + '|')} |\n")
        details.append(f"**`{option}`** {comment}\n\n```yaml\n{content}\n```\n\n")
    table = "| option | purpose |\n|---|---|\n" + "".join(rows)
    return (
        f"## {folder.name}\n\n{table}\n:::{{dropdown}} Content of the files in "
        f"`{folder.relative_to(conf.parent)}`\n\n{''.join(details)}:::\n\n"
    )


def _split(text: str) -> tuple[str, str]:
    """Return the comment at the beginning of a file as one paragraph, and the rest."""
    lines = text.strip().splitlines()
    comment: list[str] = []
    while lines and lines[0].startswith("#"):
        line = lines.pop(0)
        if "@package" not in line:
            comment.append(line.lstrip("# "))
    return " ".join(comment), "\n".join(lines).strip()
