"""Repeats a step over fixed buffers: eagerly, as a CUDA graph, or compiled.

A denoising step is about seventy small operations, so that a GPU would wait for the host most of
the time. A step that only reads and writes buffers in place can be recorded once and replayed
instead.
Recorded programs are padded to a short list of sizes.
"""

from __future__ import annotations

import bisect
import logging
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

log = logging.getLogger(__name__)

SIZES = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
"""Numbers of rows for which a step is recorded."""
CPU_ROWS = 256
"""Number of rows at a time on a CPU: activations then stay in the second-level cache."""
WARM_UP = 3
MIN_AGREEMENT = 0.99
"""Share of the results, rounded to 0 or 1, in which a recording must agree with the eager run."""

Step = Callable[[], None]
Record = Callable[[Step], Step]
"""Turns a step into a function that does the same to the same buffers."""


def padded(count: int) -> int:
    """Return the size of the recording for ``count`` rows, at most the largest of ``SIZES``."""
    return SIZES[min(bisect.bisect_left(SIZES, count), len(SIZES) - 1)]


class Program(Protocol):
    """A step and the buffers that it works on; the result is probabilities."""

    num_steps: int
    result: Tensor

    def reset(self) -> None:
        """Bring the buffers into the state before the first step."""

    def step(self) -> None:
        """Read and write the buffers. Recording it may run more than ``num_steps`` steps."""


def cuda_graph(step: Step) -> Step:
    """Record ``step`` as a CUDA graph, after a few runs on a side stream."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def compiled(step: Step) -> Step:
    """Fuse the operations of ``step`` with ``torch.compile``."""
    fused = torch.compile(step, dynamic=True)
    fused()
    return fused


def compiled_cuda_graph(step: Step) -> Step:
    """Compile ``step`` and record the result as a CUDA graph."""
    return cuda_graph(compiled(step))


RECORDERS: dict[tuple[str, str], Record] = {
    ("auto", "cuda"): cuda_graph,
    ("compiled", "cuda"): compiled_cuda_graph,
    ("compiled", "cpu"): compiled,
}
"""How steps are recorded, by execution mode and device; in all other cases they run eagerly."""


class Player:
    """Runs programs from the first step to the last.

    Args:
        mode: see :class:`bigr.ExecutionConfig`.
        device: where the buffers are.
    """

    def __init__(self, mode: str, device: torch.device) -> None:
        self.record = RECORDERS.get((mode, device.type))
        """None in eager mode, and after a recording failed."""
        self.recordings: dict[Program, Step] = {}
        is_eager_cpu = device.type == "cpu" and self.record is None
        self.max_rows = CPU_ROWS if is_eager_cpu else SIZES[-1]
        """Rows to process at a time."""

    def play(self, program: Program) -> Tensor:
        """Run all steps of ``program`` and return its result.

        The first time, the step is recorded and the recording is checked against an eager run. If
        it fails, a warning is logged and everything runs eagerly from then on.

        Raises:
            torch.OutOfMemoryError: if there is not enough memory to record the step.
        """
        if self.record is not None and program not in self.recordings:
            return self._play_first(program, self.record)
        step = self.recordings.get(program, program.step)
        program.reset()
        for _ in range(program.num_steps):
            step()
        return program.result

    def _play_first(self, program: Program, record: Record) -> Tensor:
        """Run ``program`` eagerly, record its step, and check the recording."""
        self.recordings[program] = program.step
        expected = self.play(program).clone()
        try:
            with torch.no_grad():
                self.recordings[program] = record(program.step)
            actual = self.play(program)
            is_same = ((expected > 0.5) == (actual > 0.5)) & actual.isfinite()
            agreement = is_same.float().mean().item()
            problem = f"a recorded chain gives other bits than the eager one: {agreement:.1%} agree"
        except torch.OutOfMemoryError:
            del self.recordings[program]
            raise
        except Exception as error:
            agreement = 0.0
            lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
            problem = f"a denoising step cannot be recorded: {lines[0]}"
        if agreement < MIN_AGREEMENT:
            log.warning("%s; sampling continues without recordings, which is slower", problem)
            self.record = None
            self.recordings.clear()
        return expected
