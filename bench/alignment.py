"""Alignment with the features of a classifier, on digits: ``python bench/alignment.py FOLDER``.

The generator of digits is trained without alignment, with it, and with it in the first half of the
steps. Each run is scored by the loss of held-out digits, with the same draws for all runs, and by
the accuracy of logistic regression on the mean hidden states of each layer. Finished runs are kept
in FOLDER, so that the command can be repeated after an interruption.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bigr import BiGR, BiGRConfig, load_autoencoder  # noqa: E402
from bigr.data.digits import load_digits  # noqa: E402
from bigr.losses.alignment import AlignmentConfig  # noqa: E402
from bigr.metrics.patch_features import DigitPatches  # noqa: E402
from bigr.models.codes import grid_to_tokens  # noqa: E402
from bigr.training.aligned_module import AlignedGeneratorModule  # noqa: E402
from bigr.training.callbacks.ema import EMA  # noqa: E402
from bigr.training.data.batch import Batch  # noqa: E402
from bigr.training.generator_module import GeneratorModule  # noqa: E402
from bigr.training.optimizers import adamw, warmup_cosine  # noqa: E402

CONFIG = BiGRConfig.preset("digits", code_dim=12, grid_size=4, num_classes=10, dropout=0.0)
IMAGE_SIZE = 16
BATCH_SIZE = 64
MODES = {"off": 0.0, "all steps": 1.0, "first half": 0.5}
"""Shares of the steps that are aligned."""
NUM_VALIDATIONS = 12


@functools.cache
def digits(split: Literal["train", "test"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the probabilities of the bits, the labels and the features of a split."""
    loaded = load_digits(split, IMAGE_SIZE)
    with torch.no_grad():
        bit_probs = grid_to_tokens(load_autoencoder("digits").encode(loaded.images))
    return bit_probs, loaded.labels, DigitPatches()(loaded.images, CONFIG.grid_size)


class Batches(torch.utils.data.IterableDataset[Batch]):
    """Endless batches of digits, whose bits are drawn anew each time."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self.seed)
        bit_probs, labels, features = digits("train")
        while True:
            chosen = torch.randint(len(labels), (BATCH_SIZE,), generator=generator)
            codes = torch.bernoulli(bit_probs[chosen], generator=generator)
            yield Batch(labels[chosen], codes=codes, features=features[chosen])


def train(share: float, seed: int, steps: int) -> BiGR:
    """Return the averaged generator of a run with alignment in a share of the steps."""
    torch.manual_seed(seed)
    common: dict[str, Any] = {
        "optimizer": functools.partial(adamw, lr=3e-3),
        "lr_scheduler": functools.partial(
            warmup_cosine, total_steps=steps, warmup_steps=min(50, steps // 4), final_factor=0.05
        ),
        "seed": seed,
    }
    if share == 0:
        module = GeneratorModule(CONFIG, **common)
    else:
        alignment = AlignmentConfig(
            feature_dim=DigitPatches.dim,
            layer=1,
            weight=0.5,
            hidden_dim=128,
            until_step=None if share == 1 else round(share * steps),
        )
        module = AlignedGeneratorModule(CONFIG, alignment=alignment, **common)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        max_epochs=-1,
        gradient_clip_val=1.0,
        callbacks=[EMA(0.99)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(module, torch.utils.data.DataLoader(Batches(seed), batch_size=None))
    return module.model.eval()


@torch.no_grad()
def score(model: BiGR) -> dict[str, float]:
    """Return the loss of held-out digits, and the accuracy of the probe of each layer in %."""
    found, labels = {}, {}
    for split in ("train", "test"):
        bit_probs, labels[split], _ = digits(split)
        codes = (bit_probs > 0.5).float()
        nothing = torch.full((len(codes),), CONFIG.null_class)
        found[split] = model.pooled_features(codes, nothing, range(CONFIG.num_layers)).numpy()
    generator = torch.Generator().manual_seed(0)
    losses = [
        model.loss(codes, labels["test"], draws=model.draw(len(codes), generator), masked_only=True)
        for _ in range(NUM_VALIDATIONS)
    ]
    scores = {"loss": statistics.fmean(float(outcome.loss) for outcome in losses)}
    for layer in range(CONFIG.num_layers):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
        probe.fit(found["train"][:, layer], labels["train"].numpy())
        accuracy = probe.score(found["test"][:, layer], labels["test"].numpy())
        scores[f"layer {layer}"] = 100 * float(accuracy)
    return scores


def main() -> None:
    """Train and score all runs, and print the means and the spread over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    results: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for seed in range(options.seeds):
        for mode, share in MODES.items():
            file = options.folder / f"{mode.replace(' ', '_')}_{options.steps}_{seed}.json"
            if not file.exists():
                file.write_text(json.dumps(score(train(share, seed, options.steps))))
            results[mode].append(json.loads(file.read_text()))
            print(mode, seed, results[mode][-1], flush=True)
    for mode, runs in results.items():
        for name in runs[0]:
            values = [run[name] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            print(f"{mode:12} {name:8} {statistics.fmean(values):.4g} ± {spread:.2g}")


if __name__ == "__main__":
    main()
