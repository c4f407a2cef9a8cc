"""The callback that measures FID and IS of samples during training."""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.distributed as dist
from annotated_types import Ge
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import ModelParallelStrategy

from bigr.data.image_arrays import to_uint8
from bigr.evaluation.fidelity_names import metric_name
from bigr.evaluation.references import load_reference
from bigr.inference.generate import Models, class_labels, generate
from bigr.inference.processes import Processes
from bigr.metrics.feature_networks import load_network
from bigr.metrics.features import Features
from bigr.metrics.statistics import FeatureStatistics, Reference, compare
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig
from bigr.schema import PositiveInt, checked
from bigr.training.generator_module import GeneratorModule
from bigr.training.stopping import CannotStartError


class SampleMetrics(Callback):
    """Compares samples with a reference at validation, when the weights are the averaged ones.

    Logs ``val/fid_5k`` and ``val/is_5k`` for 5,000 samples: the number is part of the name because
    few samples score worse than 50,000. All processes share the samples.

    Args:
        sampler: sampling settings.
        reference: see :class:`~bigr.evaluation.fidelity.FidelityEvaluation`.
        execution: precision and mode of the computation.
        reference_split: split of a reference that is a folder.
        network: name of the network whose features are compared.
        inception_file: weights of Inception; None looks in torch's hub cache.
        count: number of samples.
        batch_size: samples per device.
        every_n_steps: minimum number of steps between two measurements.
    """

    @checked
    def __init__(
        self,
        sampler: SamplerConfig,
        reference: str,
        *,
        execution: ExecutionConfig = DEFAULT_EXECUTION,
        reference_split: str = "val",
        network: str = "inception",
        inception_file: str | None = None,
        count: Annotated[int, Ge(2)] = 5000,
        batch_size: PositiveInt = 64,
        every_n_steps: PositiveInt = 10_000,
    ) -> None:
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
        """Raise ``ValueError`` if this module cannot draw samples with this trainer."""
        _models(pl_module)
        if isinstance(trainer.strategy, ModelParallelStrategy):
            raise ValueError(
                "sample_metrics doesn't work with strategy=fsdp: no process has all weights."
            )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read or compute the reference before training starts.

        Raises:
            CannotStartError: if the reference is damaged or does not fit; see also :meth:`check`.
        """
        if stage != "fit" or self._reference is not None:
            return
        self.check(trainer, pl_module)
        strategy = trainer.strategy
        processes = Processes(
            trainer.global_rank, trainer.world_size, strategy.barrier, strategy.broadcast
        )
        self.network.to(strategy.root_device)
        try:
            self._reference = load_reference(
                self.reference_name,
                self.network,
                _models(pl_module).autoencoder.config.image_size,
                split=self.reference_split,
                processes=processes,
                device=strategy.root_device,
            )
        except (ValueError, OSError) as error:
            raise CannotStartError(f"callbacks.sample_metrics: {error}") from error

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Sample, compare and log, after the first batch if enough steps have passed."""
        step = trainer.global_step
        is_due = self._last_step is None or step - self._last_step >= self.every_n_steps
        if trainer.sanity_checking or batch_idx or dataloader_idx or not is_due:
            return
        self._last_step = step
        figures = self.figures(_models(pl_module), trainer.global_rank, trainer.world_size)
        short = f"{self.count // 1000}k" if self.count % 1000 == 0 else str(self.count)
        for name, value in figures.items():
            # All processes have the same values.
            pl_module.log(f"val/{metric_name(name, self.network)}_{short}", value, batch_size=1)

    @torch.inference_mode()
    def figures(self, models: Models, rank: int, num_ranks: int) -> dict[str, float]:
        """Return FID, sFID and IS of the samples of all processes.

        Args:
            models: the generator and its B-AE.
            rank: index of this process.
            num_ranks: number of processes, all of which have to call it.
        """
        assert self._reference is not None
        # 1. Features of this process's share of the batches.
        labels = class_labels(self.count, models.generator.config.num_classes, "balanced", seed=0)
        starts = range(0, self.count, self.batch_size)
        mine: dict[int, Features] = {}
        for start in starts[rank::num_ranks]:
            images = generate(
                models,
                self.sampler,
                labels[start : start + self.batch_size],
                seed=start,
                batch_size=self.batch_size,
                execution=self.execution,
            )
            features = self.network(to_uint8(images).to(models.generator.device))
            mine[start] = Features._make(part if part is None else part.cpu() for part in features)
        # 2. The features of all processes, in the order of one process.
        parts: list[dict[int, Features]] = [mine]
        if num_ranks > 1:
            parts = [{} for _ in range(num_ranks)]
            dist.all_gather_object(parts, mine)
        whole = {start: features for part in parts for start, features in part.items()}
        statistics = FeatureStatistics(split_size=self.count, keeps_points=False)
        for start in starts:
            statistics.update(whole[start])
        device = models.generator.device
        return compare(statistics, self._reference, with_manifold=False, device=device)


def _models(module: LightningModule) -> Models:
    """Return what draws samples, or raise ``ValueError`` if the module has no B-AE."""
    if not isinstance(module, GeneratorModule) or module.autoencoder is None:
        raise ValueError(
            "sample_metrics needs task.autoencoder: without a B-AE there are no images."
        )
    return Models(module.sampled_model(), module.autoencoder)
