"""Train and score the rows of docs/claims.md, and build its tables and plots.

    python scripts/claims.py run                       # whatever is missing; ends with the tables
    python scripts/claims.py run --rows s1 s3 --seeds 0
    python scripts/claims.py table                     # the tables alone, from the results so far

Each row is a training of ``experiment=claims/ROW`` with one seed. Its result is a small JSON file
in ``docs/claims/DATASET``. An interrupted training is resumed, and finished rows are left out. To
use several devices, start the command once for each of them (``CUDA_VISIBLE_DEVICES=1 python
scripts/claims.py run``): a row is processed by one command at a time. Runs of one comparison should
have the same ``--steps``, and the tables contain only those with the most common number.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from claims_data import DATASETS, ClaimsData
from claims_table import write_tables
from torch import Tensor

import bigr.tokenize
import bigr.train
from bigr.checkpoints.identity import weights_sha256
from bigr.checkpoints.load import load_autoencoder, load_generator
from bigr.data.files import write_atomically
from bigr.data.locks import LockedError, only_writer
from bigr.evaluation.linear_heads import HeadSettings, LinearHeads
from bigr.inference.generate import Models, class_labels, encode, generate_batches
from bigr.models.bigr import BiGR
from bigr.sampling.sampler import Sampler
from bigr.sampling.sampler_config import SamplerConfig

ROOT = Path(__file__).parents[1]
MAIN = ("s3", "s1", "s2", "s0")
TRAINED = (*MAIN, "direct", "x0", "unconditional", "likelier")
ROWS = (*TRAINED, "sampling")
"""The last row samples the generator of S3 in other ways."""
VARIANTS: dict[str, dict[str, Any]] = {
    "random order": {"order": "random"},
    "raster order": {"order": "raster"},
    "raster order, one by one": {"order": "raster", "mask_schedule": "linear"},
    **{f"{n} iterations": {"num_iterations": n} for n in (2, 4, 16)},
    **{f"{n} denoising steps": {"num_denoise_steps": n} for n in (5, 10, 50)},
}
"""Changes of conf/sampler/claims.yaml with which S3 is sampled as well."""
COUNT, BATCH_SIZE = 500, 250
HEADS = HeadSettings(optimizer="sgd", learning_rates=(0.1, 0.3, 1.0), batch_size=128, epochs=40)


def main() -> None:
    """Run what is missing, or write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("--dataset", choices=sorted(DATASETS), default="digits")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--steps", type=int, help="training steps, instead of those of the rows")
    parser.add_argument("--output", type=Path, default=Path("outputs/claims"))
    options = parser.parse_args()
    results = ROOT / "docs" / "claims" / options.dataset
    if options.command == "run":
        data, folder = DATASETS[options.dataset], options.output / options.dataset
        in_child(prepare, data, folder, results)
        pairs = [(row, seed) for seed in options.seeds for row in options.rows]
        # The four rows of the main table come first, with all seeds.
        waiting = collections.deque(sorted(pairs, key=lambda pair: pair[0] not in MAIN))
        while waiting:
            row, seed = waiting.popleft()
            result = results / f"{row}-{seed}.json"
            try:
                with only_writer(folder / "locks" / f"{row}-{seed}", wait_seconds=0):
                    if not result.exists():
                        in_child(process, data, folder, row, seed, options.steps, result)
            except LockedError:  # by the command of another device
                time.sleep(5)
                waiting.append((row, seed))
    write_tables(results, ROOT / "docs" / "claims.md")


def in_child(function: Any, *arguments: Any) -> None:
    """Call a function in a forked process, so that each training starts in the same state."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(process.exitcode)


def bigr_command(module: Any, *arguments: str) -> None:
    """Run a command of the package in this process."""
    sys.argv = [module.__file__, *arguments]
    module.main()


def prepare(data: ClaimsData, folder: Path, results: Path) -> None:
    """Encode the images, and measure what does not depend on a generator."""
    for name, arguments in {"codes": (), "likelier": ("deterministic=true", "num_draws=1")}.items():
        if not (folder / name / "manifest.json").exists():
            bigr_command(
                bigr.tokenize, *data.tokenize, *arguments, f"output={folder / name}",
                f"hydra.run.dir={folder / 'tokenize' / name}",
            )  # fmt: skip
    result = results / "references.json"
    if not result.exists():
        scorer, autoencoder = data.scorer(), load_autoencoder(data.autoencoder)
        train, test = scorer.train.images, scorer.test.images
        flat = {name: images.flatten(1) for name, images in (("train", train), ("test", test))}
        encoded = {
            name: autoencoder.encode(images).flatten(2).mean(dim=2)
            for name, images in (("train", train), ("test", test))
        }
        found = {
            "autoencoder_sha256": weights_sha256(autoencoder),
            "reconstructions": scorer.scores(
                scorer.reconstructions(autoencoder), scorer.test.labels
            ),
            "probe_pixels": best_accuracy(flat, scorer.train.labels, scorer.test.labels),
            "probe_bits": best_accuracy(encoded, scorer.train.labels, scorer.test.labels),
        }
        write_atomically(result, json.dumps(found, indent=1).encode() + b"\n")


def process(
    data: ClaimsData, folder: Path, row: str, seed: int, steps: int | None, result: Path
) -> None:
    """Train a row with a seed, score it, and write its result."""
    trained, codes = (
        "s3" if row == "sampling" else row,
        "likelier" if row == "likelier" else "codes",
    )
    run = folder / f"{trained}-{seed}"
    length = [f"trainer.max_steps={steps}", f"trainer.val_check_interval={steps}"] if steps else []
    bigr_command(
        bigr.train, f"experiment=claims/{trained}", f"data.root={folder / codes}", f"seed={seed}",
        f"hydra.run.dir={run}", "resume=auto", "~callbacks.sample_grid", *length,
    )  # fmt: skip
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = load_generator(run / "generator.safetensors").to(device)
    models = Models(generator, load_autoencoder(data.autoencoder).to(device))
    config, scorer = SamplerConfig.preset("claims"), data.scorer()
    samples = {f"guidance {scale:g}": {"guidance_scale": scale} for scale in data.guidance}
    if row == "unconditional":  # the class has no meaning
        samples = {"guidance 1": {"guidance_scale": 1.0}}
    if row == "sampling":
        samples = {name: dict(changes) for name, changes in VARIANTS.items()}
        samples["raster order, one by one"]["num_iterations"] = generator.config.grid_size**2
    checkpoint = max((run / "checkpoints").glob("step_*.ckpt"))
    found = {
        "row": row,
        "seed": seed,
        "dataset": data.name,
        "steps": int(checkpoint.stem.removeprefix("step_")),
        "commit": subprocess.check_output(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, text=True
        ).strip(),
        "torch": torch.__version__,
        "device": device,
        "model": {k: v for k, v in vars(generator.config).items() if k != "noise_schedule"},
        "parameters": sum(parameter.numel() for parameter in generator.parameters()),
        "sampler": config.to_dict(),
        "count": COUNT,
        "samples": {
            name: sample(models, SamplerConfig.preset("claims", **changes), scorer)
            for name, changes in samples.items()
        },
        "probe": probe(models, scorer),
    }
    if (row, seed) == ("s3", 0):
        untrained = BiGR(generator.config).eval().to(device)
        found["probe_untrained"] = probe(Models(untrained, models.autoencoder), scorer)
    write_atomically(result, json.dumps(found, indent=1).encode() + b"\n")
    print(f"{row}, seed {seed}: {json.dumps(found['samples'])}, probe {found['probe']}")


def sample(models: Models, config: SamplerConfig, scorer: Any) -> dict[str, float]:
    """Sample images of all classes; return their scores and the costs of an image."""
    labels = class_labels(COUNT, models.generator.config.num_classes, "sorted")
    sampler, began = Sampler(config), time.process_time()
    batches = generate_batches(models, sampler, labels, batch_size=BATCH_SIZE)
    images = torch.cat([batch.images for batch in batches])
    seconds = time.process_time() - began
    costs = {"cpu_seconds": seconds / COUNT, "gflop": sampler.flops / COUNT / 1e9}
    return {**scorer.scores(images, labels), **costs}


@torch.inference_mode()
def probe(models: Models, scorer: Any) -> list[float]:
    """Return the accuracy of a linear classifier on the features of each layer."""
    generator, features = models.generator, {}
    for name, images in (("train", scorer.train.images), ("test", scorer.test.images)):
        codes = encode(models.autoencoder, images, BATCH_SIZE)
        null = torch.full((len(codes),), generator.config.null_class, device=codes.device)
        layers = range(generator.config.num_layers)
        features[name] = generator.pooled_features(codes, null, list(layers)).cpu()
    return [
        best_accuracy(
            {name: part[:, layer] for name, part in features.items()},
            scorer.train.labels,
            scorer.test.labels,
        )
        for layer in layers
    ]


def best_accuracy(features: dict[str, Tensor], train_labels: Tensor, test_labels: Tensor) -> float:
    """Train linear classifiers (the probe's) and return the best accuracy on the test split."""
    train, test = (features[name].detach().clone() for name in ("train", "test"))
    num_classes = int(train_labels.max()) + 1
    with torch.inference_mode(mode=False), torch.enable_grad():
        heads = LinearHeads(train.shape[1], num_classes, HEADS, torch.device("cpu"))
        heads.fit(train, train_labels)
    scores = heads.score(test, test_labels)
    return scores.top1[scores.best]


if __name__ == "__main__":
    main()
