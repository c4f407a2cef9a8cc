"""A record of when each token is decided in sampling, and with which confidence."""

from __future__ import annotations

import torch
from torch import Tensor

from bigr.sampling.sampler import Progress


class Recorder:
    """A callback for ``on_iteration`` that covers B images in any number of batches.

    Example::

        recorder = Recorder()
        pipeline.generate([3, 8], on_iteration=recorder)
        recorder.order[0].view(4, 4)
    """

    def __init__(self) -> None:
        self._orders: list[Tensor] = []
        self._confidences: list[Tensor] = []
        self._is_finished = True

    def __call__(self, progress: Progress) -> None:
        """Record what was decided in this iteration."""
        confidence = progress.confidence.float().cpu()
        if progress.iteration == 1 or not self._orders:
            if self._orders and not self._is_finished:  # out of memory; the batch starts again
                del self._orders[-1], self._confidences[-1]
            self._orders.append(torch.zeros(confidence.shape, dtype=torch.int64))
            self._confidences.append(torch.full_like(confidence, float("nan")))
        # NaN, the confidence of a token that is masked or known, differs from everything.
        is_new = ~confidence.isnan() & (confidence != self._confidences[-1])
        self._orders[-1][is_new] = progress.iteration
        self._confidences[-1] = confidence
        self._is_finished = progress.iteration == progress.num_iterations

    @property
    def order(self) -> Tensor:
        """The iteration 1..n that decided each token last, (B, N) int64; 0 for known tokens."""
        return torch.cat(self._orders)

    @property
    def confidence(self) -> Tensor:
        """``mean_k |2 p_k - 1|`` in [0, 1] at that time, (B, N); NaN for known tokens."""
        return torch.cat(self._confidences)
