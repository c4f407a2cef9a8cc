"""A LightningModule and a DataModule as a user of the package might write them, and a Trainer."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

COUNT = 24
BATCH_SIZE = 4


class LinearModule(lightning.LightningModule):
    """One weight matrix; nothing of this package."""

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = lr
        self.layer = nn.Linear(3, 2, bias=False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.layer(batch[0].flatten(2).mean(2)).square().mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.layer(batch[0].flatten(2).mean(2)).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def train_dataloader(self) -> DataLoader[Any]:
        return PairsDataModule().train_dataloader()

    def val_dataloader(self) -> DataLoader[Any]:
        return PairsDataModule().val_dataloader()


class PairsDataModule(lightning.LightningDataModule):
    """Pairs (inputs, label), as torchvision's datasets have them.

    Args:
        kind: ``bytes`` are uint8 images, ``floats`` images in [0, 1], ``codes`` are bits.
        size: side of the images.
    """

    def __init__(self, kind: str = "floats", size: int = 16) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(COUNT, 3, size, size, generator=generator)
        codes = torch.randint(0, 2, (COUNT, 16, 6), generator=generator)
        inputs = {"bytes": (images * 255).byte(), "floats": images, "codes": codes}[kind]
        self.dataset = TensorDataset(inputs, torch.arange(COUNT) % 3)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.dataset, BATCH_SIZE, collate_fn=_as_list)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.dataset, BATCH_SIZE, collate_fn=_as_list)


def _as_list(pairs: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [torch.stack(column) for column in zip(*pairs, strict=True)]


def tiny_trainer(max_steps: int, *callbacks: lightning.Callback, **settings: Any) -> Any:
    """Return a Trainer on the CPU that writes nothing and does not validate."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": -1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
        "use_distributed_sampler": False,
    }
    if settings.get("limit_val_batches"):
        defaults.update(val_check_interval=max_steps, check_val_every_n_epoch=None)
    return lightning.Trainer(
        max_steps=max_steps, callbacks=list(callbacks), **{**defaults, **settings}
    )


class QuadraticModule(lightning.LightningModule):
    """Losses that depend on the step alone, whatever the batches are.

    Args:
        is_manual: whether the module runs its optimiser, as one with two optimisers does.
    """

    def __init__(self, *, is_manual: bool = False) -> None:
        super().__init__()
        self.automatic_optimization = not is_manual
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.weight.square().sum()
        self.log("train/loss", loss)
        if self.trainer.global_step >= 3:
            self.log("train/late", loss)  # a column that is added to the file
        if not self.automatic_optimization:
            optimizer: Any = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.weight.sum() + batch.sum(), batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(range(6))  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(range(3))  # type: ignore[arg-type]
