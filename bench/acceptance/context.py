"""What every stage gets: the device, the sizes, the earlier results, and clocks."""

from __future__ import annotations

import contextlib
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bench.common import confident
from bigr.models.bigr import BiGR
from bigr.models.config import BiGRConfig
from bigr.sampling.sampler_config import SamplerConfig

Values = dict[str, Any]
"""Results of a stage: numbers and texts. A boolean is a condition, which has to be true."""
TINY = BiGRConfig(
    dim=64, num_layers=2, num_heads=2, grid_size=4, code_dim=8, num_classes=10, denoiser_dim=32,
    denoiser_blocks=2, feed_forward_multiple=32,
)  # fmt: skip
SIZES = {"l": (16, 24), "xl": (16, 24), "xxl": (16, 32), "l_512": (32, 32)}
"""Side of the token grid and bits per token, by the name of the generator."""


@dataclass(frozen=True)
class Context:
    """Everything a stage depends on.

    Args:
        device: where to compute.
        is_tiny: use networks and batches that take a CPU milliseconds.
        results: values of the stages before this one, by name.
    """

    device: torch.device
    is_tiny: bool
    results: Mapping[str, Values]

    def config(self, size: str) -> BiGRConfig:
        """Return the configuration of one of ``SIZES`` for ImageNet, or a tiny one."""
        if self.is_tiny:
            return TINY
        grid, bits = SIZES[size]
        return BiGRConfig.preset(size, grid_size=grid, code_dim=bits, num_classes=1000)

    def model(self, config: BiGRConfig) -> BiGR:
        """Return a generator with random weights that is as certain as a trained one."""
        with self.device:
            model = confident(config)
        return model.to(self.device).eval()

    def sampler(self) -> SamplerConfig:
        """Return the paper's settings for L, or a few steps."""
        few = {"num_iterations": 3, "num_denoise_steps": 4} if self.is_tiny else {}
        return SamplerConfig(**few)

    def count(self, full: int, tiny: int) -> int:
        """Return the number for this kind of run."""
        return tiny if self.is_tiny else full

    def synchronize(self) -> None:
        """Wait until the device has finished."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, function: Callable[[], object], rounds: int = 3, warm_up: int = 1) -> float:
        """Return the median time of ``rounds`` calls, after ``warm_up`` calls that do not count.

        A tiny run times a single call.
        """
        for _ in range(warm_up):
            function()
        times = []
        for _ in range(self.count(rounds, 1)):
            self.synchronize()
            began = time.perf_counter()
            function()
            self.synchronize()
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    def peak_memory(self) -> float:
        """Return the most memory that was in use on the GPU since the stage began, in GB."""
        return torch.cuda.max_memory_allocated(self.device) / 1e9 if self.is_cuda else 0.0

    @property
    def is_cuda(self) -> bool:
        """Whether the device is a CUDA GPU."""
        return self.device.type == "cuda"

    def rate(self, name: str) -> float:
        """Return a ceiling from the stage ``machine``, such as ``bfloat16_tflops``, or NaN."""
        return float(self.results.get("machine", {}).get(name, float("nan")))

    def release(self) -> None:
        """Free what earlier stages have left.

        Raises:
            RuntimeError: if the device is a CUDA GPU and there is none.
        """
        gc.collect()
        if "torch._dynamo" in sys.modules:  # which takes a second to import
            torch.compiler.reset()
        if self.is_cuda:
            if not torch.cuda.is_available():
                raise RuntimeError(
                    f"PyTorch {torch.__version__} finds no CUDA GPU: check its driver, or try this "
                    "run on the CPU with --tiny."
                )
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)


@contextlib.contextmanager
def exact_products(is_exact: bool = True) -> Iterator[None]:
    """Multiply float32 matrices and convolutions with or without TF32 within a block."""
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = not is_exact
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def largest(batches: list[int], function: Callable[[int], Values]) -> Values:
    """Return the result of ``function`` for the first of ``batches`` that fits into memory.

    Raises:
        torch.OutOfMemoryError: if not even the last one fits.
    """
    for batch in batches[:-1]:
        try:
            return function(batch)
        except torch.OutOfMemoryError:
            gc.collect()
            torch.cuda.empty_cache()
    return function(batches[-1])
