"""The tables of sizes in the documentation, and the hours of the experiments, are computed again.

All networks are on the meta device, which counts without computing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import hydra
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bigr.cli.configuration import config_dir
from bigr.cli.entry import quote_numbers
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.models.config import BiGRConfig, BinaryAutoencoderConfig
from bigr.models.flops import chain_flops, mean_masked_share, training_flops, transformer_flops
from bigr.training.step_memory import kept_bytes
from tests.conftest import REPOSITORY

ZOO = (REPOSITORY / "docs" / "model_zoo.md").read_text()
PEAK = 312e12
"""FLOP/s of an A100 in bf16, without sparsity."""
UTILISATION = 0.4
IMAGENET = 1_281_167
NUM_SAMPLES = 50_000
HOURS = re.compile(
    r"^# GPU-hours: (?:none(?:; .+)?|depends on .+|about (?P<hours>[\d,.]+) "
    r"\(an estimate for an A100 at 40% of its bf16 peak\))\.$",
    flags=re.MULTILINE,
)
EXPERIMENTS = sorted((config_dir() / "experiment").rglob("*.yaml"))


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table in the section ``title`` of the model zoo."""
    section = ZOO.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip("` ") for cell in line.strip("|").split("|")] for line in lines[1:]]


GENERATORS = rows("Sizes of generators")
AUTOENCODERS = rows("Sizes of binary autoencoders")


pytestmark = pytest.mark.usefixtures("composing")


def compose(name: str, *overrides: str) -> DictConfig:
    return hydra.compose(name, quote_numbers([*overrides, "paths.output=out"]))


def number(cell: str) -> float:
    return float(cell.split()[0].replace(",", ""))


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def counted_flops(function: Callable[[], Any]) -> float:
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        function()
    return float(counter.get_total_flops())


@functools.cache
def encoding_and_training_flops(config: BinaryAutoencoderConfig) -> tuple[float, float]:
    """Return the operations for one image: of the encoder, and of a training step of the B-AE."""
    with torch.device("meta"):
        network = BinaryAutoencoder(config).to("meta")
        image = torch.zeros(1, 3, config.image_size, config.image_size)
        encoding = counted_flops(lambda: network.encode(image))
        training = counted_flops(lambda: network(image).reconstruction.sum().backward())
    return encoding, training


def autoencoder_bytes(config: BinaryAutoencoderConfig) -> int:
    """Return the bytes of float32 that autograd keeps for one image."""
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept.append(tensor)
        return tensor

    with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        network = BinaryAutoencoder(config).to("meta")
        network(torch.zeros(1, 3, config.image_size, config.image_size))
    return sum({id(s): s.nbytes() for s in (t.untyped_storage() for t in kept)}.values())


@pytest.mark.parametrize("row", GENERATORS, ids=lambda row: "-".join(row[:3]))
def test_generators(row: list[str]) -> None:
    """Their sizes, and one training step, which changes every parameter."""
    model, code, resolution, *cells = row
    words = [f"model={model}", f"autoencoder={code}", f"resolution={resolution}", "data.root=x"]
    config = compose("train", *words)
    sizes = instantiate(config.model)
    with torch.device("meta"):
        network = BiGR(sizes).to("meta")
        optimizer = instantiate(config.task.optimizer)(network, fused=False)
        codes = torch.zeros(1, sizes.seq_len, sizes.code_dim)
        draws = network.draw(1)._replace(num_masked=sizes.seq_len // 2)
        classes = torch.zeros(1, dtype=torch.int64)
        network.loss(codes, classes, draws=draws, masked_only=True).loss.backward()
    optimizer.step()
    assert len(optimizer.state) == len(list(network.parameters()))
    count = num_parameters(network)
    expected = (
        sizes.seq_len,
        count,
        training_flops(sizes) / 1e12,
        transformer_flops(sizes) / 1e9,
        20 * count / 1e9,
        kept_bytes(sizes, torch.bfloat16).per_image / 1e9,
        kept_bytes(sizes, torch.bfloat16, recomputes=True).per_image / 1e9,
        16 * count / 1e9,
    )
    assert [number(cell) for cell in cells] == pytest.approx(expected, rel=0.06)
    assert [number(cell) for cell in cells[:2]] == [sizes.seq_len, count]


@pytest.mark.parametrize("row", AUTOENCODERS, ids=lambda row: "-".join(row[:2]))
def test_autoencoders(row: list[str]) -> None:
    """Their sizes, and one training step."""
    code, resolution, grid, *cells = row
    config = compose("train", f"autoencoder={code}", f"resolution={resolution}")
    sizes, side = instantiate(config.autoencoder), int(resolution)
    with torch.device("meta"):
        network = BinaryAutoencoder(sizes).to("meta")
        optimizer = torch.optim.Adam(network.parameters())
        output = network(torch.zeros(1, 3, side, side))
        output.reconstruction.abs().mean().backward()
    optimizer.step()
    assert output.reconstruction.shape == (1, 3, side, side)
    assert output.codes.shape == (1, int(code[1:]), sizes.grid_size, sizes.grid_size)
    assert number(grid.replace("×", " ")) == sizes.grid_size  # noqa: RUF001
    count = num_parameters(network)
    encoding, training = encoding_and_training_flops(sizes)
    expected = (
        count,
        encoding / 1e9,
        training / 1e9,
        20 * count / 1e9,
        autoencoder_bytes(sizes) / 1e9,
    )
    assert [number(cell) for cell in cells] == pytest.approx(expected, rel=0.06)
    assert number(cells[0]) == count


def test_every_size_is_in_the_tables() -> None:
    def options(group: str) -> set[str]:
        return {path.stem for path in (config_dir() / group).glob("*.yaml")}

    models = options("model") - {"digits", "l_512", "pretrained"}
    assert {row[0] for row in GENERATORS} == models
    assert {row[0] for row in AUTOENCODERS} == options("autoencoder") - {"digits", "fashion"}
    assert {row[1] for row in AUTOENCODERS} == options("resolution") - {"16", "model"}


@pytest.mark.parametrize("name", ["s", "b", "l", "xl", "xxl", "l_512", "digits"])
def test_headers_state_the_number_of_parameters(name: str) -> None:
    """As ``conf/model`` and the README do."""
    text = (config_dir() / "model" / f"{name}.yaml").read_text()
    stated = re.search(r"([\d.,]+) M parameters", text)
    assert stated is not None
    code = {"s": "d16", "b": "d16", "l_512": "d32", "digits": "digits"}.get(name, "d24")
    resolution = {"s": "64", "b": "64", "l_512": "512", "digits": "16"}.get(name, "256")
    data = ["data=digits"] if name == "digits" else []
    words = [f"model={name}", f"autoencoder={code}", f"resolution={resolution}", *data]
    with torch.device("meta"):
        count = num_parameters(BiGR(instantiate(compose("train", *words).model)))
    assert number(stated[1]) == pytest.approx(count / 1e6, rel=0.02)


def test_a_small_generator_learns_in_a_few_real_steps() -> None:
    """The loss of one image with fixed draws falls in every one of them."""
    config = compose("train", "model=s", "autoencoder=d16", "resolution=32", "data.root=x")
    torch.manual_seed(0)
    network = BiGR(instantiate(config.model)).eval()
    optimizer = instantiate(config.task.optimizer)(network, lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    draws = network.draw(1, generator)
    codes = torch.randint(0, 2, (1, 64, 16), generator=generator).float()
    losses = []
    for _ in range(4):
        loss = network.loss(codes, torch.tensor([7]), draws=draws, masked_only=True).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_headers_state_the_gpu_hours(path: Any) -> None:
    """The hours are those of the arithmetic; experiments for a CPU need none."""
    name = str(path.relative_to(config_dir() / "experiment").with_suffix(""))
    text = path.read_text()
    found = HOURS.findall(text)
    assert len(found) == 1, f"the header of {name} has no line of the form {HOURS.pattern}"
    command = re.search(rf"python -m bigr\.(\w+) experiment={name}\b", text)
    assert command is not None
    flops = 0.0
    if "GPU-hours: depends on" in text:
        return
    if command[1] == "train":
        config = compose("train", f"experiment={name}")
        if config.trainer.accelerator != "cpu":
            flops = flops_of_training(config)
    elif name.startswith("reproduce/"):
        flops = flops_of_sampling(text, compose("evaluate", f"experiment={name}").sampler)
    hours = flops / (PEAK * UTILISATION) / 3600
    stated = float(found[0].replace(",", "") or 0)
    assert stated == pytest.approx(hours, rel=0.1), f"{name}: {hours:.3g} GPU-hours"


def flops_of_training(config: DictConfig) -> float:
    """Return the operations of a run on ImageNet's codes, or of a B-AE without its losses."""
    batch = config.global_batch_size
    if batch is None:
        batch = config.data.batch_size * config.trainer.devices * config.trainer.num_nodes
    epochs = config.trainer.max_epochs
    images = config.trainer.max_steps * batch if epochs < 0 else epochs * IMAGENET
    if config.task._target_.endswith("AutoencoderModule"):
        return images * encoding_and_training_flops(instantiate(config.autoencoder))[1]
    sizes = instantiate(config.task.model)
    return images * training_flops(sizes, masked_share=mean_masked_share(sizes))


def flops_of_sampling(text: str, sampler: DictConfig) -> float:
    """Return the operations of 50,000 guided samples of the released model in the command."""
    found = re.search(r"generator=bigr_(\w+?)_(d\d+)(_512)?\.pt", text)
    size, code, suffix = ("L", "d24", None) if found is None else found.groups()
    sizes = BiGRConfig.preset(
        size.lower() + (suffix or ""),
        code_dim=int(code[1:]),
        grid_size=32 if suffix else 16,
        num_classes=1000,
    )
    passes = 2 * (sampler.num_iterations or 20) * transformer_flops(sizes)
    num_steps = 1 if "without diffusion" in text else sampler.num_denoise_steps or 100
    chains = 2 * sizes.seq_len * chain_flops(sizes, num_steps)
    return NUM_SAMPLES * (passes + chains)
