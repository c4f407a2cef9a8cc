"""Records the values of the configuration from before each was defined once.

It was run once, with the package of commit cfc16c0: ``PYTHONPATH=<checkout>/src:. python
tests/configs/record_compositions.py <checkout>/conf tests/configs/data/compositions.json``. It is
kept as the explanation of the file: ``{"nodes": [...], "compositions": {"train model=l": {"model":
3}}}``, where the numbers are positions in ``nodes``, which are pairs:
values by dotted key that YAML stated, and values that were Python defaults.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra

from tests.configs.effective import compose_effective


def main(conf: Path, output: Path) -> None:
    """Compose everything in ``conf`` and write the values to ``output``."""
    nodes: dict[str, int] = {}
    compositions: dict[str, dict[str, int]] = {}
    for command in dict.fromkeys(commands(conf)):
        groups: dict[str, list[dict[str, Any]]] = {}
        for part, values in enumerate(compose_effective(command)):
            for key, value in values.items():
                node, _, rest = key.partition(".")
                groups.setdefault(node, [{}, {}])[part][rest] = value
        compositions[command] = {
            node: nodes.setdefault(json.dumps(leaves, sort_keys=True, default=str), len(nodes))
            for node, leaves in groups.items()
        }
    lines = ",\n".join(nodes)
    tables = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in compositions.items())
    output.write_text(f'{{"nodes": [\n{lines}\n],\n"compositions": {{\n{tables}\n}}}}\n')
    print(len(compositions), "compositions,", len(nodes), "nodes")  # noqa: T201


def commands(conf: Path) -> Iterator[str]:
    """Yield the commands, in the words of cfc16c0."""

    def options(group: str) -> list[str]:
        return sorted(path.stem for path in (conf / group).glob("*.yaml"))

    yield from ("train", "tokenize", "sample", "evaluate", "probe", "demo")
    yield from ("train task=autoencoder", "train task=autoencoder model=digits")
    for model, code, resolution in itertools.product(
        *(options(group) for group in ("model", "code", "resolution"))
    ):
        if (model, code, resolution).count("digits") != 2:
            yield f"train model={model} code={code} resolution={resolution}"
    for code, resolution in itertools.product(options("code"), options("resolution")):
        yield f"train task=autoencoder code={code} resolution={resolution}"
    groups = ("task", "data", "sampler", "trainer", "strategy", "callbacks", "logger", "sweep")
    for group in (*groups, "lr_scheduler", "sample_metrics", "debug"):
        for option in options(group):
            yield f"train {group}={option}"
    for task, data in itertools.product(options("task"), options("data")):
        yield f"train task={task} data={data}"
    for task, scheduler in itertools.product(options("task"), options("lr_scheduler")):
        yield f"train task={task} lr_scheduler={scheduler}"
    for option in options("sampler"):
        yield f"sample sampler={option}"
    yield from ("evaluate sampler=paper_xl", "demo sampler=demo", "demo sampler=paper_xxl")
    for resolution in options("resolution"):
        yield f"tokenize resolution={resolution}"
    for data in ("imagenet", "digits"):
        yield f"tokenize data={data}"
    for group in ("trainer", "strategy"):
        for option in options(group):
            yield f"tokenize {group}={option}"
    for data in options("data"):
        yield f"probe data={data}"
    for option in options("application"):
        yield f"sample application={option}"
    for option in options("evaluation"):
        yield f"evaluate evaluation={option}"
    for name, sweep in itertools.product(("sample", "evaluate"), options("sweep")):
        if (name, sweep) != ("sample", "optuna"):
            yield f"{name} sweep={sweep}"
    for option in options("logger"):
        yield f"evaluate logger={option}"
    for path in sorted((conf / "experiment").rglob("*.yaml")):
        option = str(path.relative_to(conf / "experiment").with_suffix(""))
        found = re.search(rf"python -m bigr\.(\w+) experiment={option}[\s\n]", path.read_text())
        assert found, option
        yield f"{found[1]} experiment={option}"
    yield from ("probe code=digits resolution=512", "evaluate evaluation=digits sampler=digits")
    yield "train experiment=digits_generator debug=fast"
    yield "train experiment=digits_generator data=digits_codes"
    yield "train experiment=digits_generator sample_metrics=digits"
    yield "train experiment=bigr_xxl_256 trainer=multi_node strategy=fsdp"
    yield "train experiment=bigr_l_256 data=imagenet_codes"


if __name__ == "__main__":
    from bigr.config import register_resolvers  # where it was at cfc16c0

    register_resolvers()
    folder = Path(sys.argv[1]).absolute()
    with hydra.initialize_config_dir(str(folder), version_base="1.3"):
        main(folder, Path(sys.argv[2]))
