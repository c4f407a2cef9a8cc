"""A transcoder for few denoising steps, distilled from its own chain, on the installed models.

    python bench/distillation.py FOLDER

The transformer is frozen. The teacher is the transcoder of an installed model. For tokens that are
masked as in training, it goes through a long chain from noise to clean bits, and its bits are kept
at the few levels that the student visits. The student is a copy of the transcoder that learns each
of its long steps: the binary cross-entropy between P(x_s = 1 | x_t), which it computes with the
posterior of the sampler, and the bits of the teacher at level s.

Samples of the student are compared with samples of the teacher with as few steps and with all of
the model's steps, over several seeds, of training and of sampling. Results are kept in FOLDER, so
that the command can be repeated after an interruption.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.recipes import COUNTS, FASHION, Task, load, score_task  # noqa: E402
from bigr import BiGR  # noqa: E402
from bigr.data.digits import load_digits  # noqa: E402
from bigr.data.image_arrays import to_float  # noqa: E402
from bigr.evaluation.report_text import markdown_table  # noqa: E402
from bigr.evaluation.stored_images import find_images  # noqa: E402
from bigr.inference.generate import Models, encode  # noqa: E402
from bigr.models.noise_schedule import posterior_bit_probs  # noqa: E402
from bigr.models.training_draws import draw_num_masked, draw_training  # noqa: E402
from bigr.models.transcoder import BinaryTranscoder  # noqa: E402

NUM_IMAGES = 10_000
"""Most training images; there are fewer digits."""
BATCH_SIZE = 16
CLAMP = 1e-6
FIGURES = ("accuracy", "frechet", "precision", "recall")


def training_codes(dataset: str, task: Task) -> tuple[Tensor, Tensor]:
    """Return the more likely bits (n, N, K) of training images, and their classes (n,)."""
    if dataset == "digits":
        found = load_digits("train", 16)
        images, labels = found.images, found.labels
    else:
        stored = find_images(FASHION, "data.root", image_size=32, split="train")
        images = to_float(stored.batch(range(NUM_IMAGES)))
        known = stored.labels()
        assert known is not None
        labels = known[:NUM_IMAGES]
    return encode(task.models.autoencoder, images, 250).clone(), labels


def clean_probs(
    transcoder: BinaryTranscoder, bits: Tensor, level: int, condition: Tensor
) -> Tensor:
    """Return P(x_0 = 1 | x_t) of bits (M, K) at a noise level, given embedded conditions."""
    signs = transcoder.signed_input(bits)
    embedding = condition + transcoder.denoiser.embed_time(torch.tensor([level]))
    logits = transcoder.denoiser.predict(signs, embedding).float()
    return transcoder.clean_logits(logits, signs).sigmoid()


def step_probs(transcoder: BinaryTranscoder, clean: Tensor, bits: Tensor, t: int, s: int) -> Tensor:
    """Return P(x_s = 1 | x_t) from the prediction of the clean bits, as the sampler does."""
    earlier, later = torch.tensor([s]), torch.tensor([t])
    keep_next, between = (
        transcoder.schedule.keep(earlier),
        transcoder.schedule.between(earlier, later),
    )
    return posterior_bit_probs(clean, bits, keep_next, between)


@torch.no_grad()
def trajectory(
    teacher: BinaryTranscoder, condition: Tensor, long: list[int], few: list[int]
) -> Any:
    """Return the teacher's bits (M, K) at each level of ``few``, and at level 0."""
    levels = sorted({*long, *few}, reverse=True)
    embedded = teacher.denoiser.condition(condition)
    probs, found = torch.full((len(condition), teacher.config.code_dim), 0.5), {}
    for t, s in zip(levels, [*levels[1:], 0], strict=True):
        bits = torch.bernoulli(probs)
        if t in few:
            found[t] = bits
        clean = clean_probs(teacher, bits, t, embedded)
        probs = clean if s == 0 else step_probs(teacher, clean, bits, t, s)
    return {**found, 0: torch.bernoulli(probs)}


def distil(
    model: BiGR,
    codes: Tensor,
    labels: Tensor,
    few: list[int],
    long: list[int],
    steps: int,
    seed: int,
) -> BiGR:
    """Return a copy of a generator whose transcoder has learnt the long steps between ``few``."""
    torch.manual_seed(seed)
    student = copy.deepcopy(model)
    teacher, head = model.transcoder, student.transcoder
    assert isinstance(teacher, BinaryTranscoder)
    assert isinstance(head, BinaryTranscoder)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    average = torch.optim.swa_utils.AveragedModel(
        head, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99)
    )
    for _ in range(steps):
        # 1. Conditions of masked tokens, from the frozen transformer.
        rows = torch.randint(len(codes), (BATCH_SIZE,))
        draws = draw_training(model.config, BATCH_SIZE, num_masked=draw_num_masked(model.config))
        classes = torch.where(draws.is_unconditional, model.config.null_class, labels[rows])
        with torch.no_grad():
            condition = model.condition(codes[rows], classes, draws.is_masked)[draws.is_masked]
        # 2. The teacher's chain.
        bits = trajectory(teacher, condition, long, few)
        # 3. The student's loss of every long step.
        losses = []
        embedded = head.denoiser.condition(condition)
        for t, s in zip(few, [*few[1:], 0], strict=True):
            clean = clean_probs(head, bits[t], t, embedded)
            probs = clean if s == 0 else step_probs(head, clean, bits[t], t, s)
            losses.append(F.binary_cross_entropy(probs.clamp(CLAMP, 1 - CLAMP), bits[s]))
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(head)
    head.load_state_dict(average.module.state_dict())
    return student.eval()


def run(dataset: str, seed: int, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the figures of one seed, and compute those that the folder does not have yet."""
    task = load(dataset)
    model, settings = task.models.generator, task.sampler
    long = model.config.schedule.levels(settings.num_denoise_steps)
    found, codes = {}, None
    for name, few in [("all steps", None), *((f"{n} steps", n) for n in options.few)]:
        sampler = settings if few is None else dataclasses.replace(settings, num_denoise_steps=few)
        for kind in ("teacher",) if few is None else ("teacher", "student"):
            path = options.folder / f"{dataset}-{kind}-{name.split()[0]}-{seed}.json"
            if not path.exists():
                chosen = task
                if kind == "student":
                    codes = codes or training_codes(dataset, task)
                    visited = model.config.schedule.levels(sampler.num_denoise_steps)
                    student = distil(model, *codes, visited, long, options.steps, seed)
                    chosen = task._replace(models=Models(student, task.models.autoencoder))
                count = options.count or COUNTS[dataset]
                figures = score_task(chosen, sampler, count, 300_000 + 10_000 * seed)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(figures))
                print(path.stem, figures, flush=True)
            found[f"{kind}, {name}"] = json.loads(path.read_text())
    return found


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--datasets", nargs="+", choices=COUNTS, default=list(COUNTS))
    parser.add_argument("--few", type=int, nargs="+", default=[4, 8], help="steps of the student")
    parser.add_argument("--steps", type=int, default=600, help="training steps")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--count", type=int, help="samples per score")
    options = parser.parse_args()
    for dataset in options.datasets:
        results = [run(dataset, seed, options) for seed in options.seeds]
        rows = []
        for name in results[0]:
            cells = []
            for figure in FIGURES:
                values = [result[name][figure] for result in results]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                cells.append(f"{statistics.mean(values):.3g} ± {spread:.2g}")
            rows.append((name, *cells))
        print(f"\n{dataset}\n{markdown_table(('', *FIGURES), rows)}")


if __name__ == "__main__":
    main()
