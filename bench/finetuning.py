"""Fine-tuning against training from scratch, on digits and on clothes.

    python bench/finetuning.py FOLDER
    python bench/finetuning.py FOLDER --dataset fashion

A generator is trained on the classes 0 to 4. Then, the classes 5 to 9 are learnt in three ways:
from scratch, by fine-tuning all weights in a third of the steps, and by LoRA in half of the steps.
The new classes start as the null class. Samples are scored as in ``evaluation=digits`` and
``evaluation=fashion``, with the held-out images of the classes 5 to 9 as the reference, for several
guidance scales, because a higher scale raises the accuracy and lowers the recall. Trained models
and scores are kept in FOLDER, so that the command can be repeated after an interruption.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import logging
import statistics
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import lightning
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.recipes import FASHION, scoring_network  # noqa: E402
from bigr import BiGR, SamplerConfig, load_autoencoder, load_generator  # noqa: E402
from bigr.checkpoints.lora import LoRAConfig  # noqa: E402
from bigr.checkpoints.native import save_generator  # noqa: E402
from bigr.data.digits import load_digits  # noqa: E402
from bigr.data.image_arrays import to_float, to_uint8  # noqa: E402
from bigr.evaluation.stored_images import find_images  # noqa: E402
from bigr.inference.generate import Models, encode, generate  # noqa: E402
from bigr.metrics.digit_classifier import DigitClassifier  # noqa: E402
from bigr.metrics.digit_scores import NUM_NEIGHBOURS, pixel_features, reconstruct  # noqa: E402
from bigr.metrics.manifold import precision_recall  # noqa: E402
from bigr.models.codes import grid_to_tokens  # noqa: E402
from bigr.training.callbacks.ema import EMA  # noqa: E402
from bigr.training.generator_module import GeneratorModule  # noqa: E402
from bigr.training.optimizers import adamw, warmup_cosine  # noqa: E402

NUM_CLASSES = 5
IMAGE_SIZE = 16
CLOTHES_SIZE = 32


class Data(Protocol):
    """Images of ten classes with an installed B-AE and generator, and how samples are scored."""

    @property
    def name(self) -> str:
        """Name of the installed models, and of the settings of the sampler."""

    def bit_probs(self) -> tuple[Tensor, Tensor]:
        """Return the probabilities of the bits of all training images, and their labels."""

    def score(self, images: Tensor, labels: Tensor, first: int) -> dict[str, float]:
        """Return accuracy, precision and recall of samples of the classes from ``first`` on.

        Args:
            images: (n, 3, H, W) in [0, 1].
            labels: (n,) classes of the samples, from 0 on.
            first: class of the images that the label 0 stands for.
        """


class Digits:
    """Digits at 16x16 pixels, with features and a classifier of pixels."""

    name = "digits"

    def bit_probs(self) -> tuple[Tensor, Tensor]:
        """Return the probabilities of the bits of all training images, and their labels."""
        digits = load_digits("train", IMAGE_SIZE)
        with torch.inference_mode():
            probs = load_autoencoder("digits").encode(digits.images)
        return grid_to_tokens(probs).clone(), digits.labels

    def score(self, images: Tensor, labels: Tensor, first: int) -> dict[str, float]:
        """Compare samples with the reconstructions of held-out digits."""
        test = load_digits("test", IMAGE_SIZE)
        chosen = (test.labels >= first) & (test.labels < first + NUM_CLASSES)
        reference = reconstruct(load_autoencoder("digits"), test.images[chosen])
        manifold = precision_recall(
            pixel_features(images), pixel_features(reference), NUM_NEIGHBOURS
        )
        classifier = DigitClassifier(load_digits("train", IMAGE_SIZE))
        return {
            "accuracy": classifier.accuracy(images, labels + first),
            "precision": manifold.precision,
            "recall": manifold.recall,
        }


class Clothes:
    """Fashion-MNIST at 32x32 pixels, with a classifier that is trained once and cached."""

    name = "fashion"

    def bit_probs(self) -> tuple[Tensor, Tensor]:
        """Return the more likely bits of all training images, and their labels."""
        images = find_images(FASHION, "root", image_size=CLOTHES_SIZE, split="train")
        autoencoder = load_autoencoder("fashion")
        with torch.inference_mode():
            codes = [
                encode(autoencoder, to_float(images.batch(range(first, first + 500))), 500)
                for first in range(0, len(images), 500)
            ]
        labels = images.labels()
        assert labels is not None
        return torch.cat(codes).clone(), labels

    def score(self, images: Tensor, labels: Tensor, first: int) -> dict[str, float]:
        """Compare samples with held-out images, in the features of the classifier."""
        test = find_images(FASHION, "root", image_size=CLOTHES_SIZE, split="val")
        known = test.labels()
        assert known is not None
        chosen = (known >= first) & (known < first + NUM_CLASSES)
        network = scoring_network(self.name, CLOTHES_SIZE)
        reference = network(test.batch(range(len(test)))[chosen])
        found = network(to_uint8(images))
        assert found.logits is not None
        manifold = precision_recall(found.pool, reference.pool, NUM_NEIGHBOURS)
        return {
            "accuracy": float((found.logits.argmax(dim=1) == labels + first).double().mean()),
            "precision": manifold.precision,
            "recall": manifold.recall,
        }


DATA: dict[str, Data] = {"digits": Digits(), "fashion": Clothes()}


@functools.cache
def bit_probs(dataset: str) -> tuple[Tensor, Tensor]:
    """Return the probabilities of the bits of all training images, computed once."""
    return DATA[dataset].bit_probs()


class Codes(torch.utils.data.IterableDataset[tuple[Tensor, Tensor]]):
    """Endless batches of codes of five of the classes, whose bits are drawn anew each time."""

    def __init__(self, dataset: str, first: int, seed: int, batch_size: int) -> None:
        probs, labels = bit_probs(dataset)
        chosen = (labels >= first) & (labels < first + NUM_CLASSES)
        self.labels = labels[chosen] - first
        self.bit_probs = probs[chosen]
        self.seed = seed
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            rows = torch.randint(len(self.labels), (self.batch_size,), generator=generator)
            probs = self.bit_probs[rows]
            yield (torch.rand(probs.shape, generator=generator) < probs).float(), self.labels[rows]


def train(
    dataset: str,
    first: int,
    steps: int,
    seed: int,
    lr: float,
    *,
    batch_size: int = 64,
    precision: Any = "32-true",
    **settings: Any,
) -> GeneratorModule:
    """Train a generator on five classes, and return the module with its averaged weights."""
    torch.manual_seed(seed)
    config = dataclasses.replace(
        load_generator(dataset).config, num_classes=NUM_CLASSES, dropout=0.0
    )
    schedule = functools.partial(
        warmup_cosine, total_steps=steps, warmup_steps=min(50, steps // 4), final_factor=0.05
    )
    module = GeneratorModule(
        config,
        functools.partial(adamw, lr=lr),
        lr_scheduler=schedule,
        seed=seed,
        **settings,
    )
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        max_epochs=-1,
        precision=precision,
        callbacks=[EMA(decay=0.99)],
        gradient_clip_val=1.0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    loader: Any = torch.utils.data.DataLoader(
        Codes(dataset, first, seed, batch_size), batch_size=None
    )
    trainer.fit(module, loader)
    return module


def score(dataset: str, model: BiGR, first: int, count: int, scale: float) -> dict[str, float]:
    """Return accuracy, precision and recall of samples of a generator of five classes."""
    labels = torch.arange(count) % NUM_CLASSES
    sampler = dataclasses.replace(SamplerConfig.preset(dataset), guidance_scale=scale)
    with torch.inference_mode():
        models = Models(model.eval(), load_autoencoder(dataset))
        images = generate(models, sampler, labels, seed=0, batch_size=100)
    return DATA[dataset].score(images, labels, first)


class Parts:
    """Ends the command after some parts, as a batch system with a time limit needs it."""

    def __init__(self, text: str) -> None:
        self.left = int(text)

    def take(self) -> None:
        """Count a part that is about to be computed."""
        if self.left == 0:
            sys.exit("repeat the command to continue")
        self.left -= 1


def run(folder: Path, seed: int, options: argparse.Namespace) -> dict[tuple[str, float], Any]:
    """Return the scores of one seed, and compute those that ``folder`` does not have yet."""
    place = folder / f"seed_{seed}"
    place.mkdir(parents=True, exist_ok=True)
    base_seed = seed if options.base_seed is None else options.base_seed
    base = folder / f"seed_{base_seed}" / "zero_to_four.safetensors"
    base.parent.mkdir(exist_ok=True)
    common = {
        "batch_size": options.batch_size,
        "precision": options.precision,
        "levels_per_token": options.levels_per_token,
    }
    dataset = options.dataset
    if not base.exists():
        options.parts.take()
        steps = options.base_steps or options.steps
        trained = train(dataset, 0, steps, base_seed, options.lr, **common)
        save_generator(trained.model, base)
    from_base = {"init_from": str(base), "class_rows": "new"}
    lora = LoRAConfig(rank=options.rank, alpha=options.alpha, targets=tuple(options.targets))
    ways: dict[str, tuple[int, float, dict[str, Any]]] = {
        "from scratch": (options.steps, options.lr, {}),
        "from scratch, a third": (options.steps // 3, options.lr, {}),
        "fine-tuning": (options.steps // 3, options.finetune_lr, from_base),
        "LoRA": (options.steps // 2, options.lora_lr, {**from_base, "lora": lora}),
    }
    results = {}
    for name, (steps, lr, settings) in ways.items():
        # 1. Train.
        model = place / f"{name.replace(' ', '_').replace(',', '')}.safetensors"
        about = model.with_suffix(".json")
        if not about.exists():
            options.parts.take()
            module = train(dataset, 5, steps, seed + 100, lr, **common, **settings)
            trained_sizes = [p.numel() for p in module.model.parameters() if p.requires_grad]
            save_generator(module.sampled_model(), model)
            about.write_text(json.dumps({"steps": steps, "trained": sum(trained_sizes)}))
        # 2. Sample with each guidance scale.
        for scale in options.scales:
            file = model.with_name(f"{model.stem}_{scale:g}_{options.count}.json")
            if not file.exists():
                options.parts.take()
                found = score(dataset, load_generator(model), 5, options.count, scale)
                file.write_text(json.dumps(found))
            results[name, scale] = {**json.loads(file.read_text()), **json.loads(about.read_text())}
            print(seed, name, scale, results[name, scale], flush=True)
    return results


def markdown(results: list[dict[tuple[str, float], Any]]) -> str:
    """Return a table with the mean and the standard deviation over the seeds."""
    header = ["", "steps", "trained parameters", "guidance", "accuracy", "recall", "precision"]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for name, scale in results[0]:
        rows = [result[name, scale] for result in results]
        cells = []
        for metric in ("accuracy", "recall", "precision"):
            values = [row[metric] for row in rows]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}")
        first = rows[0]
        sizes = f"{first['steps']} | {first['trained']:,} | {scale:g}"
        lines.append(f"| {name} | {sizes} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dataset", choices=list(DATA), default="digits")
    parser.add_argument("--steps", type=int, default=2400, help="steps of training from scratch")
    parser.add_argument("--base-steps", type=int, help="steps of the first training, if others")
    parser.add_argument("--base-seed", type=int, help="one first training for all seeds")
    parser.add_argument("--precision", default="32-true", help="bf16-mixed is faster on some CPUs")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--levels-per-token", type=int, default=4, help="as in make demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parts", type=Parts, default=Parts("1000"), help="parts to compute now")
    parser.add_argument("--count", type=int, default=500, help="samples per score")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.5, 2.5])
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--finetune-lr", type=float, default=6e-3)
    parser.add_argument("--lora-lr", type=float, default=2e-2)
    parser.add_argument("--rank", type=int, default=5)
    parser.add_argument("--alpha", type=int, default=5)
    parser.add_argument("--targets", nargs="+", default=["transformer.layers.*"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    results = [run(options.folder, seed, options) for seed in options.seeds]
    print(markdown(results))


if __name__ == "__main__":
    main()
