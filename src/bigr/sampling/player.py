"""The denoising chain as one recorded step, played again for every noise level.

A step is some sixty small operations, and a chain a hundred steps: a GPU waits for the host most of
that time. Here a step reads and writes buffers that stay where they are, so that a CUDA graph, a
function of ``torch.compile``, or both can take its place. Rows are padded to a short list of
sizes, each recorded once.

Shapes: M tokens, R = M padded, K bits, W width.
"""

from __future__ import annotations

import bisect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from bigr.models.noise_schedule import keep_probability
from bigr.sampling.random_numbers import SeededNoise, draw_offset, uniforms_of

if TYPE_CHECKING:
    from bigr.sampling.chain import PreparedDenoiser

log = logging.getLogger(__name__)

SIZES = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
"""Numbers of tokens for which a step is recorded; more are done in parts."""
WARM_UP = 3
MIN_AGREEMENT = 0.99
"""Share of bits that a recorded chain must have in common with the plain one, when checked."""

Step = Callable[[], None]
Record = Callable[[Step], Step]
"""Makes of a step a function that does the same to the same buffers."""


class RecordingError(RuntimeError):
    """A recorded step doesn't do what the plain one does, or can't be recorded."""


def size_for(num_tokens: int) -> int:
    """The smallest recorded size that holds ``num_tokens``, the largest one for more."""
    return SIZES[min(bisect.bisect_left(SIZES, num_tokens), len(SIZES) - 1)]


def cuda_graph(step: Step) -> Step:
    """Record ``step`` as a CUDA graph, after a few runs beside the main stream."""
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
    """Both."""
    return cuda_graph(compiled(step))


def recorder(mode: str, device: torch.device) -> Record | None:
    """How steps are recorded, or None if they aren't.

    Args:
        mode: of :class:`bigr.ExecutionConfig`.
        device: where they run.
    """
    if mode == "compiled":
        return compiled_cuda_graph if device.type == "cuda" else compiled
    return cuda_graph if mode == "auto" and device.type == "cuda" else None


class Guidance(NamedTuple):
    """What else a chain depends on, the same for all its tokens."""

    iteration: int
    scale: float
    temperature: float


class RecordedChain:
    """All noise levels for up to R tokens.

    Args:
        denoiser: whose steps are recorded.
        size: R.
        code_dim: K.
        is_guided: whether there is an unconditional half.
        record: makes the recording.
    """

    def __init__(
        self,
        denoiser: PreparedDenoiser,
        size: int,
        code_dim: int,
        *,
        is_guided: bool,
        record: Record,
    ) -> None:
        self.denoiser = denoiser
        self.size = size
        self.is_guided = is_guided
        steps, device = denoiser.steps, denoiser.time_embeddings.device
        width = denoiser.time_embeddings.shape[-1]
        # Normal tensors even within inference_mode: they are written in other modes, too.
        with torch.inference_mode(False), torch.no_grad():
            rows = size * (2 if is_guided else 1)
            self.embedding = torch.zeros(rows, width, device=device)
            self.keys = torch.zeros(size, dtype=torch.int64, device=device)
            self.bit_offsets = torch.zeros(code_dim, dtype=torch.int64, device=device)
            self.offsets = torch.zeros(len(steps), dtype=torch.int64, device=device)
            self.scale = torch.ones((), device=device)
            self.temperature = torch.ones((), device=device)
            self.index = torch.zeros(1, dtype=torch.int64, device=device)
            self.bits = torch.zeros(size, code_dim, device=device)
            self.probs = torch.zeros(size, code_dim, device=device)
            num_steps = denoiser.num_steps
            following = [*steps[1:], 0]
            self.keep_next = torch.tensor(
                [float(keep_probability(t, num_steps)) for t in following], device=device
            )
            self.keep_between = torch.tensor(
                [
                    float(keep_probability(t, num_steps, since=t_next))
                    for t, t_next in zip(steps, following, strict=True)
                ],
                device=device,
            )
            self.times = denoiser.time_embeddings.detach().clone()
        self.play: Step | None = None
        self.record = record

    def run(
        self,
        embedding: list[Tensor],
        tokens: Tensor,
        noise: SeededNoise,
        guidance: Guidance,
    ) -> Tensor:
        """P(x_0 = 1) of the last level, (M, K).

        Args:
            embedding: (M, W) of the conditions, conditional half first.
            tokens: (M,) indices into B*N.
            noise: their random numbers.
            guidance: iteration, scale, temperature.

        Raises:
            RecordingError: if the recording fails, or doesn't do what the plain steps do.
        """
        if self.play is not None:
            return self._chain(self.play, embedding, tokens, noise, guidance)
        plain = self._chain(self._step, embedding, tokens, noise, guidance)
        try:
            with torch.no_grad():
                self.play = self.record(self._step)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
            raise RecordingError(f"a step of the denoiser can't be recorded: {reason}") from error
        played = self._chain(self.play, embedding, tokens, noise, guidance)
        agreement = ((plain > 0.5) == (played > 0.5)).float().mean()
        if not played.isfinite().all() or agreement < MIN_AGREEMENT:
            raise RecordingError(
                f"a recorded chain gives other bits than a plain one ({agreement:.1%} agree)"
            )
        return plain

    def _chain(
        self,
        step: Step,
        embedding: list[Tensor],
        tokens: Tensor,
        noise: SeededNoise,
        guidance: Guidance,
    ) -> Tensor:
        count = len(tokens)
        for half, part in enumerate(embedding):
            self.embedding[half * self.size : half * self.size + count] = part
        self.keys[:count] = noise.token_keys.flatten()[tokens]
        self.bit_offsets.copy_(noise.bit_offsets)
        # Draw 0 is that of the final bits, 1 of those that the chain begins with.
        draws = range(2, len(self.denoiser.steps) + 2)
        offsets = [draw_offset(guidance.iteration, draw) for draw in draws]
        self.offsets.copy_(torch.tensor(offsets))
        self.scale.fill_(guidance.scale)
        self.temperature.fill_(guidance.temperature)
        self.index.zero_()
        begin = uniforms_of(self.keys + draw_offset(guidance.iteration, 1), self.bit_offsets)
        self.bits.copy_(begin < 0.5)
        for _ in self.denoiser.steps:
            step()
        return self.probs[:count].clone()

    def _step(self) -> None:
        """One noise level, from ``bits`` to ``bits``; after the last one comes the first again."""
        probs, posterior = self.denoiser.step(
            self.bits,
            self.embedding + self.times.index_select(0, self.index),
            self.keep_next.index_select(0, self.index),
            self.keep_between.index_select(0, self.index),
            self.scale if self.is_guided else None,
            self.temperature,
        )
        self.probs.copy_(probs)
        keys = self.keys + self.offsets.index_select(0, self.index)
        self.bits.copy_(uniforms_of(keys, self.bit_offsets) < posterior)
        self.index.add_(1).remainder_(len(self.denoiser.steps))
