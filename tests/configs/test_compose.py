"""Every combination of the configuration groups composes, and has the sizes it should have."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from bigr.checkpoints.released import autoencoder_to_released, generator_to_released
from bigr.cli.configuration import config_dir
from bigr.cli.entry import quote_numbers
from bigr.cli.validation import leaves
from bigr.data.codes_writer import StoreWriter
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from tests.codes_stores import SETTINGS, fill
from tests.configs import renamed
from tests.configs.effective import compose_effective

MODELS = ("l", "xl", "xxl")
AUTOENCODERS = ("d16", "d20", "d24", "d32")
GRIDS = {"32": 8, "64": 8, "128": 16, "256": 16, "512": 32}
RELEASED = {
    ("l", "d24", "256"): "bigr_L_d24",
    ("xl", "d24", "256"): "bigr_XL_d24",
    ("xxl", "d24", "256"): "bigr_XXL_d24",
    ("xxl", "d32", "256"): "bigr_XXL_d32",
    ("l", "d32", "512"): "bigr_L_d32_512",
}
RELEASED_AUTOENCODERS = {
    ("d24", "256"): "bae_d24",
    ("d32", "256"): "bae_d32",
    ("d32", "512"): "bae_d32_512",
}
PATHS = ["paths.output=out"]


pytestmark = pytest.mark.usefixtures("composing")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    writer = StoreWriter(tmp_path_factory.mktemp("codes"), SETTINGS)
    fill(writer)
    writer.finish()
    return writer.folder


def compose(name: str, *overrides: str) -> DictConfig:
    return hydra.compose(name, quote_numbers([*overrides, *PATHS]))


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


EXPERIMENTS = sorted(
    str(path.relative_to(config_dir() / "experiment").with_suffix(""))
    for path in (config_dir() / "experiment").rglob("*.yaml")
)
NEEDS_A_SAMPLER = ("guidance", "optuna")


def header(experiment: str) -> str:
    text = (config_dir() / "experiment" / f"{experiment}.yaml").read_text()
    return (
        "\n".join(itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())) + "\n"
    )


def program(experiment: str) -> str:
    """The one that its own command names."""
    found = re.search(rf"python -m bigr\.(\w+) experiment={experiment}[\s\n]", header(experiment))
    assert found, experiment
    return found[1]


def shapes(weights: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


RECORDED = json.loads((Path(__file__).parent / "data" / "compositions.json").read_text())


@pytest.mark.parametrize("old", RECORDED["compositions"])
def test_values_are_those_before_each_was_defined_once(old: str) -> None:
    """Every composition of commit cfc16c0 comes to the same values, YAML and defaults together."""
    stated, left = (
        renamed.values(
            old,
            {
                f"{node}.{key}" if key else node: value
                for node, index in RECORDED["compositions"][old].items()
                for key, value in RECORDED["nodes"][index][part].items()
            },
        )
        for part in range(2)
    )
    stated_now, left_now = compose_effective(renamed.command(old))
    # What could be overridden on the command line can be overridden still.
    assert sorted(stated.keys() - stated_now.keys()) == []
    expected, found = {**left, **stated}, {**left_now, **stated_now}
    assert sorted(expected.keys() - found.keys()) == []
    differences = {
        key: (expected[key], found[key])
        for key in expected
        if renamed.comparable(key, expected[key]) != renamed.comparable(key, found[key])
        and not (found[key] is None and renamed.follows_the_model(old, key))
    }
    assert differences == {}


@pytest.mark.parametrize(
    ("model", "code", "resolution"),
    [("l", *choice) for choice in itertools.product(AUTOENCODERS, GRIDS)]
    + [
        (model, "d24", resolution)
        for model in ("s", "b", "xl", "xxl")
        for resolution in ("256", "512")
    ],
)
def test_model_code_resolution(model: str, code: str, resolution: str) -> None:
    config = compose("train", f"model={model}", f"autoencoder={code}", f"resolution={resolution}")
    sizes, code_sizes = instantiate(config.model), instantiate(config.autoencoder)
    with torch.device("meta"):
        generator = BiGR(sizes)
        BinaryAutoencoder(code_sizes)
    side = GRIDS[resolution]
    assert sizes.code_dim == code_sizes.code_dim == int(code[1:])
    assert sizes.grid_size == code_sizes.grid_size == side
    assert generator.transformer.position_table.shape == (1, side**2, sizes.dim)
    assert config.data.image_size == int(resolution)
    assert sizes.num_classes == 1000


@pytest.mark.parametrize("choice", RELEASED, ids="-".join)
def test_generators_are_the_released_ones(conformance: Path, choice: tuple[str, str, str]) -> None:
    model, code, resolution = choice
    table = json.loads((conformance / "released_checkpoint_shapes.json").read_text())
    config = compose("train", f"model={model}", f"autoencoder={code}", f"resolution={resolution}")
    with torch.device("meta"):
        generator = BiGR(instantiate(config.model))
        released = generator_to_released(generator.state_dict(), 256)
    expected = {name: tuple(shape) for name, shape in table[RELEASED[choice]].items()}
    assert shapes(released) == expected


@pytest.mark.parametrize("choice", RELEASED_AUTOENCODERS, ids="-".join)
def test_autoencoders_are_the_released_ones(conformance: Path, choice: tuple[str, str]) -> None:
    code, resolution = choice
    table = json.loads((conformance / "released_checkpoint_shapes.json").read_text())
    config = compose("train", f"autoencoder={code}", f"resolution={resolution}")
    with torch.device("meta"):
        autoencoder = BinaryAutoencoder(instantiate(config.autoencoder))
        released = autoencoder_to_released(autoencoder.state_dict())
    expected = {name: tuple(shape) for name, shape in table[RELEASED_AUTOENCODERS[choice]].items()}
    assert shapes(released) == expected


def test_only_the_512_l_has_a_wider_transcoder() -> None:
    wide = compose("train", "model=l", "resolution=512").model
    assert (wide.denoiser_blocks, wide.denoiser_dim) == (6, 1280)
    plain = compose("train", "model=l", "resolution=256").model
    assert (plain.denoiser_blocks, plain.denoiser_dim) == (3, 1024)
    assert compose("train", "model=xl", "resolution=512").model.denoiser_blocks == 6


GROUPS = [
    ("train", group, option)
    for group in [
        "model",
        "autoencoder",
        "resolution",
        "task",
        "data",
        "sampler",
        "trainer",
        "strategy",
        "callbacks",
        "logger",
        "lr_scheduler",
        "paths",
        "hydra",
        "debug",
        "sample_metrics",
        "alignment",
    ]
    for option in options(group)
    if (group, option) != ("resolution", "model")  # training has no B-AE to follow
]
GROUPS += [
    ("tokenize", group, option)
    for group in ("resolution", "trainer", "strategy", "paths", "hydra", "features")
    for option in options(group)
]
GROUPS += [("tokenize", "data", o) for o in ("images", "digits")]
GROUPS += [(program(option), "experiment", option) for option in EXPERIMENTS]
GROUPS += [
    ("probe", group, option)
    for group in ("resolution", "data", "paths", "hydra", "logger", "sweep")
    for option in options(group)
    if group != "sweep" or option not in NEEDS_A_SAMPLER
]
GROUPS += [("evaluate", "logger", o) for o in options("logger")]
GROUPS += [
    (name, group, option)
    for name in ("sample", "evaluate")
    for group in ("sampler", "paths", "hydra", "sweep")
    for option in options(group)
    if (name, option) != ("sample", "optuna")
]
GROUPS += [("sample", "application", o) for o in options("application")]
GROUPS += [("evaluate", "evaluation", o) for o in options("evaluation")]


@pytest.mark.parametrize(("name", "group", "option"), GROUPS, ids=lambda part: str(part))
def test_every_option_of_every_group_composes(name: str, group: str, option: str) -> None:
    config = compose(name, f"{group}={option}")
    for key, value in leaves(OmegaConf.to_container(config)):
        if value == "???":
            OmegaConf.update(config, key, "given")
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    for target in targets(resolved):
        assert callable(hydra.utils.get_object(target)), target


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def test_every_group_is_covered() -> None:
    folders = {path.name for path in config_dir().iterdir() if path.is_dir()}
    assert folders - {group for _, group, _ in GROUPS} == {"variant", "recipe"}


@pytest.mark.parametrize("option", EXPERIMENTS)
def test_experiments_name_their_command(option: str) -> None:
    assert "# Expected:" in header(option)
    assert program(option) in ("train", "tokenize", "evaluate", "probe")


@pytest.mark.parametrize("option", [o for o in EXPERIMENTS if o.startswith("reproduce/")])
def test_reproductions_are_the_papers(option: str) -> None:
    """Their figures are those of the header, their settings those of the paper."""
    config = compose("evaluate", f"experiment={option}", "evaluation.reference=x")
    evaluation = config.evaluation
    assert (evaluation.count, evaluation.network) == (50_000, "inception")
    expected = re.search(r"# Expected: (.*) \(50,000 samples\)", header(option))
    assert expected is not None
    titles = {"fid": "FID", "is": "IS", "sfid": "sFID"}
    figures = [f"{titles.get(k, k)} {v:g}" for k, v in evaluation.published.items()]
    said = re.sub(r"(\.\d)0\b", r"\1", expected[1])
    assert said == (", ".join(figures) or "not published")
    assert set(evaluation.tolerance) == set(evaluation.published)
    sampler = instantiate(config.sampler)
    size = option.split("_")[1] if "bigr" in option else "l"
    assert sampler.num_iterations == {"l": 20, "xl": 25, "xxl": 25}[size]
    if option == "reproduce/bigr_xl_d24":
        assert dict(evaluation.published) == {
            **{"fid": 2.49, "is": 278.8},
            **{"precision": 0.84, "recall": 0.55},
        }


@pytest.mark.parametrize("size", MODELS)
def test_paper_samplers(size: str) -> None:
    sampler = instantiate(compose("sample", f"sampler=paper_{size}").sampler)
    expected = {"l": (20, 0.17), "xl": (25, 0.25), "xxl": (25, 0.30)}[size]
    assert (sampler.num_iterations, sampler.gumbel_temperature) == expected
    assert (sampler.guidance_scale, sampler.num_denoise_steps) == (2.5, 100)


@pytest.mark.parametrize(
    ("option", "per_gpu", "gpus"),
    [("bigr_l_256", 128, 8), ("bigr_xl_256", 64, 8), ("bigr_xxl_256", 16, 32)],
)
def test_global_batch_is_the_papers(option: str, per_gpu: int, gpus: int) -> None:
    config = compose("train", f"experiment={option}")
    assert config.data.batch_size == per_gpu
    assert config.trainer.devices * config.trainer.num_nodes == gpus
    assert per_gpu * gpus == (1024 if option == "bigr_l_256" else 512)
    assert config.callbacks.ema.decay == 0.9999
    assert config.trainer.gradient_clip_val == 1.0
    assert config.task.optimizer.lr == 1e-4


def test_numbers_of_groups_are_quoted() -> None:
    assert quote_numbers(["resolution=512", "seed=3", "model=l"]) == [
        "resolution='512'",
        "seed=3",
        "model=l",
    ]
    assert quote_numbers(["resolution=256,512"]) == ["resolution='256','512'"]


@pytest.mark.parametrize("choice", ["model=l", "experiment=crops_generator"])
def test_a_generator_follows_its_codes(store: Path, choice: str) -> None:
    """``data=codes data.root=…`` says everything about the codes."""
    config = compose("train", choice, "data=codes", f"data.root={store}")
    model, data = config.task.model, config.data
    assert (model.code_dim, model.grid_size, model.num_classes) == (6, 4, 5)
    assert (data.code_dim, data.grid_size, data.num_classes) == (6, 4, 5)
    instantiate(data)
