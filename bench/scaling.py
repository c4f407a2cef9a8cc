"""Training time, memory and cost on many GPUs, computed on paper: ``python bench/scaling.py``.

It prints the tables of ``docs/scaling.md``. Nothing is measured: the arithmetic comes from
``bigr.models.flops``, the memory from ``bigr.training.step_memory``, and the rates from data
sheets. ``tests/gpuless`` compares memory and communication with a run of one of 32 processes on
tensors that have no values.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bigr import BiGR, BiGRConfig  # noqa: E402
from bigr.models.flops import training_flops  # noqa: E402
from bigr.training.step_memory import step_memory  # noqa: E402

MFU = 0.4
"""Assumed share of the peak that a step's matrix products reach."""
LINK_SHARE = 0.8
"""Assumed share of a link's rate that a collective reaches."""
BACKWARD = 2 / 3
"""Share of the arithmetic in the backward pass, during which gradients are communicated."""
GPUS_PER_NODE = 8
UPDATE_BYTES = {"AdamW": 28, "moving average": 12, "norm and clipping of the gradient": 12}
"""Memory traffic per parameter: seven, three and three accesses of 4 bytes."""
IMAGENET = 1_281_167
EPOCHS = 400
BYTES_PER_IMAGE = 774.3
"""Size of a d24 code in a store, with labels and checksums."""
CHECKPOINT_BYTES = 16
DISK = 1e9
"""Assumed bytes per second of a shared file system for one file."""
GIGA = 1e9
COUNTS = (1, 8, 32, 256)
BATCHES = {"l": 1024, "xl": 512, "xxl": 512}
"""The paper's images per step."""
FAKE_RUN = {"ddp": 55.6, "fsdp": 27.4}
"""Peak memory (GB) of XXL on one of 32 devices with 16 images each, of the run on fake tensors."""


@dataclasses.dataclass(frozen=True)
class Gpu:
    """Figures of a data sheet, and an assumed price."""

    name: str
    flops: float
    """Dense bfloat16 operations per second."""
    memory: float
    """Bytes."""
    memory_rate: float
    """Bytes per second."""
    link: float
    """Bytes per second and direction to the GPUs of the same node."""
    network: float
    """Bytes per second and direction to other nodes."""
    price: float
    """Assumed US dollars per hour."""


GPUS = (
    Gpu("A100", 312e12, 80e9, 2.0e12, 300e9, 25e9, 1.5),
    Gpu("H100", 989e12, 80e9, 3.35e12, 450e9, 50e9, 2.5),
    Gpu("H200", 989e12, 141e9, 4.8e12, 450e9, 50e9, 3.0),
    Gpu("B200", 2250e12, 180e9, 8.0e12, 900e9, 50e9, 4.5),
)


@dataclasses.dataclass(frozen=True)
class Model:
    """A generator of the paper, with d24 codes at 256x256 pixels."""

    name: str
    config: BiGRConfig
    num_weights: int
    layer_weights: int

    @classmethod
    def named(cls, name: str) -> Model:
        """Return the model ``l``, ``xl`` or ``xxl``."""
        config = BiGRConfig.preset(name, grid_size=16, code_dim=24, num_classes=1000)
        with torch.device("meta"):
            model = BiGR(config)
        layer = sum(p.numel() for p in model.transformer.layers[0].parameters())
        return cls(name, config, sum(p.numel() for p in model.parameters()), layer)


def communicated(model: Model, strategy: str) -> dict[str, float]:
    """Return the bytes of the tensors that a step communicates, by kind.

    DDP adds up all gradients. FSDP gathers the weights before the forward pass, and those of the
    layers again before the backward pass; all others stay gathered.
    """
    if strategy == "ddp":
        return {"allreduce": 4.0 * model.num_weights}
    layers = model.config.num_layers * model.layer_weights
    return {
        "allgather": 4.0 * (model.num_weights + layers),
        "reduce_scatter": 4.0 * model.num_weights,
    }


def communication_seconds(model: Model, gpu: Gpu, count: int, strategy: str = "ddp") -> float:
    """Return the time of a step's communication, if nothing hides it.

    A ring passes (n - 1)/n of a tensor through each link to gather or to reduce-scatter it, and
    twice as much to all-reduce it. Between nodes, eight rings run at once, each of which leaves a
    node through the network card of another GPU.
    """
    if count == 1:
        return 0.0
    sizes = communicated(model, strategy)
    total = sum(size * (2 if kind == "allreduce" else 1) for kind, size in sizes.items())
    rate = gpu.link
    if count > GPUS_PER_NODE:
        rate = min(rate, GPUS_PER_NODE * gpu.network)
    return total * (count - 1) / count / (rate * LINK_SHARE)


def step_seconds(model: Model, gpu: Gpu, count: int, batch: int) -> tuple[float, float]:
    """Return the time of a step of ``batch`` images, and the part that waits for the network.

    Communication overlaps with the backward pass; what takes longer than that is waited for.
    """
    arithmetic = training_flops(model.config) * batch / count / (gpu.flops * MFU)
    optimiser = sum(UPDATE_BYTES.values()) * model.num_weights / gpu.memory_rate
    waiting = max(0.0, communication_seconds(model, gpu, count) - BACKWARD * arithmetic)
    return arithmetic + optimiser + waiting, waiting


def largest_count(model: Model, gpu: Gpu, batch: int) -> int:
    """Return the most GPUs, a power of two, that wait for at most 10% of a step."""
    count = 1
    while 2 * count <= batch:
        seconds, waiting = step_seconds(model, gpu, 2 * count, batch)
        if waiting > 0.1 * seconds:
            break
        count *= 2
    return count


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return [f"| {' | '.join(cells)} |" for cells in lines]


def significant(value: float, digits: int = 3) -> str:
    """Return a number with this many significant digits, without an exponent."""
    return f"{float(f'{value:.{digits}g}'):,.10g}"


def tables() -> dict[str, list[str]]:
    """Return the tables of the page by their names."""
    models = [Model.named(name) for name in BATCHES]
    steps, runs, limits = [], [], []
    for model in models:
        batch, name = BATCHES[model.name], f"{model.name.upper()}, {BATCHES[model.name]}"
        for gpu in GPUS:
            times = [step_seconds(model, gpu, count, batch) for count in COUNTS]
            steps.append([name, gpu.name, *(
                f"{significant(1000 * total)} ms, {significant(batch / total)}/s"
                + (f" ({100 * waiting / total:.0f}% waiting)" if waiting > 0.005 * total else "")
                for total, waiting in times
            )])  # fmt: skip
            days = [EPOCHS * IMAGENET / batch * total / 86400 for total, _ in times]
            runs.append([name, gpu.name, *(
                f"{significant(day)} days, ${significant(day * 24 * count * gpu.price, 2)}"
                for day, count in zip(days, COUNTS, strict=True)
            )])  # fmt: skip
        limits.append([name, *(f"{largest_count(model, gpu, batch):,}" for gpu in GPUS)])
    xxl, h100 = models[-1], GPUS[1]
    memory = []
    for strategy in ("ddp", "fsdp"):
        need = step_memory(
            xxl.config, 16, num_weights=xxl.num_weights, layer_weights=xxl.layer_weights,
            num_devices=32, is_sharded=strategy == "fsdp",
        )  # fmt: skip
        sizes = communicated(xxl, strategy)
        seconds = communication_seconds(xxl, h100, 32, strategy)
        memory.append([
            strategy.upper(), f"{FAKE_RUN[strategy]:.1f} GB", f"{need.peak / GIGA:.1f} GB",
            f"{sum(sizes.values()) / GIGA:.1f} GB", f"{significant(1000 * seconds)} ms",
        ])  # fmt: skip
    fastest = max(
        BATCHES[m.name] / step_seconds(m, g, n, BATCHES[m.name])[0]
        for m in models for g in GPUS for n in COUNTS
    )  # fmt: skip
    day = step_seconds(xxl, h100, 32, 512)[0] / 512 / 86400
    data = [
        [f"10{'⁶⁷⁸⁹'[power - 6]}", f"{significant(10**power * BYTES_PER_IMAGE / GIGA)} GB",
         f"{significant(10**power * day)} days", f"{significant(EPOCHS * 10**power * day)} days"]
        for power in range(6, 10)
    ]  # fmt: skip
    checkpoints = [
        [m.name.upper(), f"{m.num_weights / 1e6:,.0f} M",
         f"{m.num_weights * CHECKPOINT_BYTES / GIGA:.1f} GB",
         f"{significant(m.num_weights * CHECKPOINT_BYTES / DISK, 2)} s"]
        for m in models
    ]  # fmt: skip
    devices = [
        [g.name, f"{g.flops / 1e12:,.0f} TFLOP/s", f"{g.memory / GIGA:.0f} GB",
         f"{g.memory_rate / 1e12:.3g} TB/s", f"{g.link / GIGA:.0f} GB/s",
         f"{g.network / GIGA:.0f} GB/s", f"${g.price:.2f}"]
        for g in GPUS
    ]  # fmt: skip
    counts = [f"{count} GPU{'s' if count > 1 else ''}" for count in COUNTS]
    return {
        "devices": table(
            ["GPU", "bf16", "memory", "its rate", "link", "network", "price per hour"], devices
        ),
        "steps": table(["model, images per step", "GPU", *counts], steps),
        "runs": table(["model, images per step", "GPU", *counts], runs),
        "limits": table(["model, images per step", *(gpu.name for gpu in GPUS)], limits),
        "memory": table(
            ["strategy", "peak memory, fake run", "estimate of the log", "communicated tensors",
             "their time if nothing hid it"], memory,
        ),
        "data": table(
            ["images", "codes of one view", "an epoch of XXL on 32 H100", "400 epochs"], data
        ),
        "checkpoints": table(["model", "parameters", "size", "writing it at 1 GB/s"], checkpoints),
        "rate": [
            f"The fastest row above needs {significant(fastest)} images/s, which is "
            f"{significant(fastest * BYTES_PER_IMAGE / 1e6)} MB/s of codes in total."
        ],
    }  # fmt: skip


def main() -> None:
    for name, lines in tables().items():
        print(f"<!-- {name} -->", *lines, "", sep="\n")


if __name__ == "__main__":
    main()
