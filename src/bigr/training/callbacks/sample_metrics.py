"""FID and IS of samples while training."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ModelParallelStrategy

from bigr.data.image_arrays import to_uint8
from bigr.evaluation.fidelity import class_labels, metric_name
from bigr.evaluation.references import load_reference
from bigr.inference.generate import Models, generate
from bigr.inference.processes import Processes
from bigr.metrics.feature_networks import Features, load_network
from bigr.metrics.statistics import FeatureStatistics, Reference, compare
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig
from bigr.training.generator_module import GeneratorModule


class SampleMetrics(Callback):
    """Samples at validation, when the weights are the averaged ones, and compares them.

    The figures are logged as ``val/fid_5k`` and ``val/is_5k``: a few samples score worse than
    50,000, so that their number belongs to the name. The samples are shared among the processes.

    Args:
        sampler: settings.
        execution: precision and mode of the computation.
        reference: see :class:`~bigr.evaluation.fidelity.FidelityEvaluation`.
        reference_split: of a folder.
        network: in whose feature space.
        inception_file: Inception's weights; None is torch's hub cache.
        count: samples.
        batch_size: of them, on each device at a time.
        every_n_steps: at the first validation after so many steps since the last time.
    """

    def __init__(
        self,
        sampler: SamplerConfig,
        reference: str,
        *,
        execution: ExecutionConfig = DEFAULT_EXECUTION,
        reference_split: str = "val",
        network: str = "inception",
        inception_file: str | None = None,
        count: int = 5000,
        batch_size: int = 64,
        every_n_steps: int = 10_000,
    ) -> None:
        if count < 2:
            raise ValueError(
                f"callbacks.sample_metrics.count={count}: a covariance needs 2 images."
            )
        self.sampler = sampler
        self.execution = execution
        self.reference_name = reference
        self.reference_split = reference_split
        self.network = load_network(network, inception_file)
        self.count = count
        self.batch_size = batch_size
        self.every_n_steps = every_n_steps
        self._reference: Reference | None = None
        self._last_step: int | None = None

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise ``ValueError`` if this module, in this trainer, can't draw samples."""
        if not isinstance(pl_module, GeneratorModule) or pl_module.autoencoder is None:
            raise ValueError(
                "sample_metrics needs task.autoencoder: without a B-AE there are no images."
            )
        if isinstance(trainer.strategy, ModelParallelStrategy):
            raise ValueError(
                "sample_metrics doesn't go with strategy=fsdp: no process has all the weights."
            )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read or compute the reference, before training starts.

        Raises:
            ValueError: if it doesn't fit; see also :meth:`check`.
        """
        if stage != "fit" or self._reference is not None:
            return
        self.check(trainer, pl_module)
        assert isinstance(pl_module, GeneratorModule)
        assert pl_module.autoencoder is not None
        strategy = trainer.strategy
        processes = Processes(
            trainer.global_rank, trainer.world_size, strategy.barrier, strategy.broadcast
        )
        device = strategy.root_device
        self.network.to(device)
        self._reference = load_reference(
            self.reference_name,
            self.network,
            pl_module.autoencoder.config.image_size,
            split=self.reference_split,
            processes=processes,
            device=device,
        )

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """With the first batch: sample, compare, log."""
        step = trainer.global_step
        is_due = self._last_step is None or step - self._last_step >= self.every_n_steps
        if trainer.sanity_checking or batch_idx or dataloader_idx or not is_due:
            return
        assert isinstance(pl_module, GeneratorModule)
        self._last_step = step
        figures = self.figures(pl_module, trainer.global_rank, trainer.world_size)
        short = f"{self.count // 1000}k" if self.count % 1000 == 0 else str(self.count)
        for name, value in figures.items():
            # The same in all processes already.
            pl_module.log(f"val/{metric_name(name, self.network)}_{short}", value, batch_size=1)

    @torch.inference_mode()
    def figures(self, module: GeneratorModule, rank: int, num_ranks: int) -> dict[str, float]:
        """FID, sFID and IS of the samples of all processes."""
        assert module.autoencoder is not None
        assert self._reference is not None
        labels = class_labels(self.count, module.model.config.num_classes, "balanced", seed=0)
        starts = list(range(0, self.count, self.batch_size))
        mine: dict[int, Features] = {}
        for start in starts[rank::num_ranks]:
            images = generate(
                Models(module.model, module.autoencoder),
                self.sampler,
                labels[start : start + self.batch_size],
                execution=self.execution,
                seed=start,
                batch_size=self.batch_size,
            )
            features = self.network(to_uint8(images).to(module.device))
            spatial = None if features.spatial is None else features.spatial.cpu()
            mine[start] = Features(features.pool.cpu(), features.logits.cpu(), spatial)
        parts = [mine]
        if num_ranks > 1:
            parts = [{} for _ in range(num_ranks)]
            dist.all_gather_object(parts, mine)
        whole = {start: features for part in parts for start, features in part.items()}
        statistics = FeatureStatistics(split_size=self.count, keeps_points=False)
        for start in starts:
            statistics.update(whole[start])
        return compare(statistics, self._reference, with_manifold=False, device=module.device)
