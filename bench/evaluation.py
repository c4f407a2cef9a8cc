"""What scoring 50,000 images of 256x256 costs beside sampling them, from rates measured here."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bigr import BiGR, BiGRConfig, SamplerConfig  # noqa: E402
from bigr.inference.devices import pick_device  # noqa: E402
from bigr.metrics.frechet import frechet_distance  # noqa: E402
from bigr.metrics.manifold import squared_distances  # noqa: E402
from bigr.metrics.moments import Moments  # noqa: E402
from bigr.sampling.denoising_chain import TokenDenoiser  # noqa: E402
from bigr.sampling.mask_schedules import CosineMaskSchedule  # noqa: E402
from bigr.sampling.random_numbers import SeededNoise  # noqa: E402

COUNT = 50_000
REAL = 10_000
WIDTHS = (2048, 2023)
L = BiGRConfig.preset("l", grid_size=16, code_dim=24, num_classes=1000)
PAPER = SamplerConfig()
DENOISED_SHARE = 0.11
"""Of the masked tokens, that a trained L has to denoise (bench/README.md)."""


def seconds(function: Callable[[], object], device: torch.device, rounds: int = 3) -> float:
    """Median of ``rounds`` after a first one."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[rounds // 2]


@torch.inference_mode()
def sampling(device: torch.device) -> float:
    """Seconds per image at L, from one pass of the transformer and a few steps of the denoiser."""
    with device:
        model = BiGR(L).eval()
    batch, few = (8, 64) if device.type == "cuda" else (1, 6)
    codes = torch.zeros(2 * batch, L.seq_len, L.code_dim, device=device)
    classes = torch.zeros(2 * batch, dtype=torch.long, device=device)
    mask = torch.ones(2 * batch, L.seq_len, dtype=torch.bool, device=device)
    per_pass = seconds(lambda: model.condition(codes, classes, mask), device) / batch
    rows = 256
    denoiser = TokenDenoiser(model.transcoder, few)
    noise = SeededNoise(torch.zeros(1, dtype=torch.long), rows, L.code_dim, device)
    conditions = torch.randn(2, rows, L.dim, device=device)
    tokens = torch.arange(rows, device=device)
    chain = seconds(
        lambda: denoiser.bit_probs(
            conditions, tokens, noise, iteration=1, guidance_scale=2.5, temperature=1.0
        ),
        device,
    )
    count, schedule = PAPER.num_iterations, CosineMaskSchedule()
    masked = [schedule.num_masked(i, count, L.seq_len) for i in range(count)]
    steps = sum(masked) * DENOISED_SHARE * PAPER.num_denoise_steps
    return PAPER.num_iterations * per_pass + steps * chain / few / rows


@torch.inference_mode()
def features(device: torch.device) -> float:
    """Seconds per image of Inception; drawn weights take as long as the published ones."""
    import tempfile

    from bigr.metrics.feature_networks import InceptionNetwork
    from tests.inception import accept_any_inception, save_random_inception

    accept_any_inception()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inception.pth"
        save_random_inception(path)
        network = InceptionNetwork(str(path)).to(device)
    batch = 64 if device.type == "cuda" else 4
    images = torch.randint(0, 256, (batch, 3, 256, 256), dtype=torch.uint8, device=device)
    return seconds(lambda: network(images), device) / batch


def statistics(device: torch.device) -> dict[str, float]:
    """Seconds for all 50,000."""
    place = device if device.type == "cuda" else torch.device("cpu")
    found = {"moments": 0.0, "FID and sFID": 0.0}
    for width in WIDTHS:
        part = torch.randn(2048, width, device=place)
        moments = Moments(width, place)
        found["moments"] += seconds(lambda m=moments, p=part: m.update(p), device) * COUNT / 2048
        mean, covariance = moments.mean, moments.covariance
        start = time.perf_counter()
        frechet_distance(mean, covariance, mean + 0.1, covariance * 1.1)
        found["FID and sFID"] += time.perf_counter() - start
    found["FID and sFID"] += 3 * found["FID and sFID"] / 2  # of fewer images, for the plot
    queries = torch.randn(1024, WIDTHS[0], device=place)
    points = torch.randn(8192, WIDTHS[0], device=place)
    block = seconds(lambda: [d.sum() for d in squared_distances(queries, points)], device)
    pairs = COUNT * COUNT + REAL * REAL + 2 * COUNT * REAL
    found["precision and recall"] = block * pairs / (1024 * 8192)
    return found


def main() -> None:
    device = pick_device("auto")
    torch.manual_seed(0)
    per_sample, per_image = sampling(device), features(device)
    parts = {"sampling": per_sample * COUNT, "Inception": per_image * COUNT, **statistics(device)}
    for name, value in parts.items():
        print(f"{name:22} {value:12.1f} s {value / parts['sampling']:8.2%} of sampling")
    rest = sum(parts.values()) - parts["sampling"]
    print(f"{'scoring, all of it':22} {rest:12.1f} s {rest / parts['sampling']:8.2%} of sampling")


if __name__ == "__main__":
    main()
