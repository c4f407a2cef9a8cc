"""``python -m bigr.evaluate``: shared work, interruptions, sweeps, through the command line."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bigr import BiGRPipeline
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.data.digits import load_digits
from bigr.evaluation.evaluator import EvaluationContext
from bigr.evaluation.fidelity import FidelityEvaluation
from tests.inception import accept_any_inception
from tests.models import tiny_autoencoder, tiny_generator
from tests.processes import ReadyProcess, python, spawn

pytestmark = pytest.mark.slow
FAST = ("sampler.num_iterations=4", "sampler.num_denoise_steps=6", "sampler.guidance_scale=2.0")
MODELS = ("generator=generator.safetensors", "autoencoder=autoencoder.safetensors")
COMMON = ("evaluation=digits_fidelity", *MODELS, *FAST, "device=cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models of ten classes, 8x8 pixels."""
    place = tmp_path_factory.mktemp("evaluate")
    save_generator(tiny_generator(num_classes=10), place / "generator.safetensors")
    save_autoencoder(tiny_autoencoder(), place / "autoencoder.safetensors")
    return place


def evaluate(folder: Path, *overrides: str, expected: int = 0) -> str:
    result = python(
        *("-m", "bigr.evaluate", *overrides),
        cwd=folder,
        BIGR_CACHE=str(folder / "cache"),
        OMP_NUM_THREADS="1",
    )
    assert result.returncode == expected, result.stdout + result.stderr
    return result.stdout + result.stderr


def kill_when(folder: Path, overrides: list[str], is_time: Callable[[], bool]) -> None:
    """Start an evaluation and end it by SIGKILL."""
    words = ("-m", "bigr.evaluate", *overrides)
    process = ReadyProcess(*words, cwd=folder, BIGR_CACHE=str(folder / "cache"))
    deadline = time.monotonic() + 120
    while not is_time() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()


def metrics(place: Path) -> dict[str, Any]:
    return dict(json.loads((place / "metrics.json").read_text()))


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    """1,000 images in one process, 64 at a time."""
    more = ("evaluation.save_images=true", "evaluation.keep_features=true")
    out = evaluate(folder, *COMMON, *more, "evaluation.batch_size=64", "hydra.run.dir=alone")
    assert "1000/1000 images" in out
    assert "Frechet distance" in out
    assert "FID" not in out
    return folder / "alone"


@pytest.mark.parametrize("how", ["batch of 7", "torchrun", "devices=2"])
def test_the_same_1000_images(folder: Path, alone: Path, how: str) -> None:
    """Bit for bit, whatever the batch and the number of processes; and so the figures."""
    run = how.replace(" ", "_").replace("=", "_")
    more = [*COMMON, "evaluation.save_images=true", f"hydra.run.dir={run}"]
    if how == "batch of 7":
        evaluate(folder, *more, "evaluation.batch_size=7")
    elif how == "devices=2":
        evaluate(folder, *more, "evaluation.batch_size=50", "devices=2")
    else:
        result = python(
            *("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29611"),
            *("-m", "bigr.evaluate", *more),
            cwd=folder,
            BIGR_CACHE=str(folder / "cache"),
            OMP_NUM_THREADS="1",
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("accuracy") == 1  # one process prints
    with np.load(alone / "samples.npz") as first, np.load(folder / run / "samples.npz") as second:
        assert first["arr_0"].shape == (1000, 8, 8, 3)
        assert first["arr_0"].dtype == np.uint8
        assert np.unique(first["arr_0"].reshape(1000, -1), axis=0).shape[0] > 900
        assert np.array_equal(first["arr_0"], second["arr_0"])
        assert np.array_equal(first["arr_1"], second["arr_1"])
        assert np.bincount(first["arr_1"]).tolist() == [100] * 10
    expected, actual = metrics(alone)["figures"], metrics(folder / run)["figures"]
    assert actual == pytest.approx(expected, rel=1e-6)
    assert not (folder / run / "features").exists()


def test_samples_in_one_and_two_processes(folder: Path) -> None:
    """Identical figures of images in files, without a generator."""
    words = ("evaluation=digits_fidelity", "samples=digits", "evaluation.count=null", "device=cpu")
    out = evaluate(folder, *words, "evaluation.samples_split=train", "hydra.run.dir=samples_1")
    assert "Frechet distance-1437" in out
    more = ("evaluation.batch_size=7", "devices=2", "hydra.run.dir=samples_2")
    evaluate(folder, *words, "evaluation.samples_split=train", *more)
    first, second = (metrics(folder / f"samples_{count}") for count in (1, 2))
    assert first["figures"] == second["figures"]
    assert first["count"] == 1437
    assert first["figures"]["digits_accuracy"] > 0.93


def test_finished_is_left_alone_and_other_settings_are_refused(folder: Path, alone: Path) -> None:
    before = (alone / "metrics.json").stat().st_mtime_ns
    more = ("evaluation.save_images=true", "evaluation.keep_features=true")
    same = (*COMMON, *more, "evaluation.batch_size=64", "hydra.run.dir=alone")
    assert "exist" in evaluate(folder, *same)
    assert (alone / "metrics.json").stat().st_mtime_ns == before
    out = evaluate(folder, *same, "sampler.temperature=1.5", expected=2)
    assert "contains the features of another evaluation (sampler was" in out


def test_killed_and_gone_on_with(folder: Path, alone: Path) -> None:
    """What was done before the SIGKILL isn't done again, and the figures are the same."""
    run = folder / "killed"
    overrides = [*COMMON, "evaluation.chunk_size=50", "hydra.run.dir=killed"]
    kill_when(folder, overrides, lambda: len(list(run.glob("features/images_*.npz"))) >= 2)
    done = {path: path.stat().st_mtime_ns for path in run.glob("features/images_*.npz")}
    assert 2 <= len(done) < 20
    assert not (run / "metrics.json").exists()
    kept = "evaluation.keep_features=true"
    evaluate(folder, *overrides, kept)
    for path, time_ns in done.items():
        assert path.stat().st_mtime_ns == time_ns
    expected = metrics(alone)["figures"]
    assert metrics(run)["figures"] == pytest.approx(expected, rel=1e-6)


def table(place: Path) -> list[dict[str, str]]:
    with (place / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


GRID = (
    *("-m", *COMMON, "evaluation.count=40", "hydra.sweep.dir=sweep"),
    "sampler.guidance_scale=1.0,2.0,3.0",
)


def test_sweep_with_failing_jobs_and_resumed(folder: Path) -> None:
    """3x3 jobs, three of which can't run: the others finish, one table; then only those run."""
    bad = "sampler.gumbel_temperature=0.0,0.5,-1"
    out = evaluate(folder, *GRID, bad, expected=2)
    assert out.count("failed: sampler.gumbel_temperature must be a number of at least 0") == 3
    rows = table(folder / "sweep")
    assert [row["state"] for row in rows] == ["done", "done", "not finished"] * 3
    assert rows[1]["sampler.guidance_scale"] == "1.0"
    assert rows[1]["sampler.gumbel_temperature"] == "0.5"
    figures = metrics(folder / "sweep" / "1")["figures"]
    assert float(rows[1]["digits_frechet"]) == pytest.approx(figures["digits_frechet"], rel=1e-5)
    assert "not finished: 2, 5, 8" in out
    names = {path.name for path in (folder / "sweep").glob("sweep*")}
    assert names >= {
        *("sweep.csv", "sweep.md", "sweep_front.png"),
        *("sweep_digits_frechet.png", "sweep_digits_frechet_map.png"),
    }
    first = (folder / "sweep" / "1" / "metrics.json").stat().st_mtime_ns
    confirm = ("confirm=60", "optimized_metric=digits_frechet")
    out = evaluate(folder, *GRID, "sampler.gumbel_temperature=0.0,0.5,1.0", *confirm)
    assert [row["state"] for row in table(folder / "sweep")] == ["done"] * 9
    assert (folder / "sweep" / "1" / "metrics.json").stat().st_mtime_ns == first
    confirmed = metrics(folder / "sweep" / "confirmed")
    assert confirmed["count"] == 60
    best = min(table(folder / "sweep"), key=lambda row: float(row["digits_frechet"]))
    assert confirmed["sampler"]["guidance_scale"] == float(best["sampler.guidance_scale"])
    result = python("-m", "bigr.sweep", "sweep", "--best", "digits_score", cwd=folder)
    score = max(table(folder / "sweep"), key=lambda row: float(row["digits_score"]))
    assert f"sampler.guidance_scale={score['sampler.guidance_scale']} " in result.stdout
    result = python("-m", "bigr.sweep", "sweep", "--best", "fid", cwd=folder)
    assert result.returncode == 2
    assert "no finished job has the score fid; available are digits_" in result.stderr


def test_a_job_killed_costs_only_itself(folder: Path) -> None:
    """SIGKILL in the middle of a sweep, which then goes on where it was."""
    overrides = [
        *("-m", *COMMON, "evaluation.count=400", "hydra.sweep.dir=killed_sweep"),
        "sampler.guidance_scale=1.0,2.0,3.0",
    ]
    place = folder / "killed_sweep"
    second = place / "1" / ".hydra" / "overrides.yaml"
    kill_when(folder, overrides, second.is_file)
    assert not (place / "1" / "metrics.json").exists()
    first = (place / "0" / "metrics.json").stat().st_mtime_ns
    python("-m", "bigr.sweep", str(place), cwd=folder)
    assert [row["state"] for row in table(place)][:2] == ["done", "not finished"]
    evaluate(folder, *overrides)
    assert [row["state"] for row in table(place)] == ["done"] * 3
    assert (place / "0" / "metrics.json").stat().st_mtime_ns == first


def test_search(folder: Path) -> None:
    """Optuna's search, on its own settings of the sampler."""
    evaluate(
        folder,
        *(*COMMON, "sweep=optuna", "evaluation.count=30", "hydra.sweep.dir=search"),
        *("optimized_metric=digits_frechet", "hydra.sweeper.n_trials=3", "confirm=50"),
    )
    rows = table(folder / "search")
    assert len({row["sampler.gumbel_temperature"] for row in rows}) == 3
    assert metrics(folder / "search" / "confirmed")["count"] == 50


def real_images(place: Path) -> None:
    from PIL import Image

    digits = load_digits("test", 8)
    for index in range(16):
        path = place / "val" / "digit" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (digits.images[index].permute(1, 2, 0) * 255).byte().numpy()
        Image.fromarray(pixels).save(path)


def inception_figures(rank: int, count: int, folder: Path, weights: Path, port: int) -> None:
    """One of ``count`` processes; the first one writes the figures."""
    import torch.distributed as dist

    from bigr.checkpoints.load import load_autoencoder, load_generator
    from bigr.inference.processes import Processes
    from bigr.sampling.sampler_config import SamplerConfig

    torch.set_num_threads(1)
    accept_any_inception()
    os.environ["BIGR_CACHE"] = str(folder / f"cache_{count}")
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count
    )

    def broadcast(value: Any) -> Any:
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    evaluation = FidelityEvaluation(
        reference=str(folder / "real"),
        inception_file=str(weights),
        count=12,
        batch_size=4,
        chunk_size=4,
        save_images=True,
        published={"fid": 1.0, "is": 2.0},
        tolerance={"fid": 0.1},
    )
    context = EvaluationContext(
        load_generator(folder / "generator.safetensors"),
        load_autoencoder(folder / "autoencoder.safetensors"),
        sampler=SamplerConfig(num_iterations=4, num_denoise_steps=6),
        output=folder / f"inception_{count}",
        processes=Processes(rank, count, dist.barrier, broadcast),
    )
    result = evaluation(context)
    if result is not None:
        (folder / f"inception_{count}.json").write_text(json.dumps(result.figures))
        assert [row[0] for row in result.rows][:3] == ["FID-12", "sFID-12", "IS-12"]
        assert result.rows[0][2:] == ("1", "0.1", "NO")
        assert result.rows[2][2:] == ("2", "", "")
    dist.destroy_process_group()


def test_inception_in_one_and_two_processes(folder: Path, inception_weights: Path) -> None:
    """Real images against generated ones through an InceptionV3 with drawn weights."""
    real_images(folder / "real")
    figures = []
    for count in (1, 2):
        spawn(inception_figures, count, folder, inception_weights, 29620 + count, count=count)
        figures.append(json.loads((folder / f"inception_{count}.json").read_text()))
    assert list(figures[0]) == [
        *("fid", "sfid", "is", "precision", "recall", "density", "coverage", "kid")
    ]
    assert figures[1] == pytest.approx(figures[0], rel=1e-6)
    from bigr.metrics.feature_networks import InceptionNetwork

    with pytest.MonkeyPatch.context() as patch:
        accept_any_inception(patch.setattr)
        network = InceptionNetwork(str(inception_weights))
    chunks = sorted((folder / "inception_1" / "features").glob("images_*.npz"))
    images = np.concatenate([np.load(path)["images"] for path in chunks])
    digits = (load_digits("test", 8).images[:16] * 255).byte()
    x, y = (network(part).pool.double() for part in (torch.from_numpy(images), digits))
    # Of so few images the trace is the nuclear norm of the product of the centred features.
    centred = [(part - part.mean(0)) / (len(part) - 1) ** 0.5 for part in (x, y)]
    expected = (x.mean(0) - y.mean(0)).square().sum()
    expected += sum(part.square().sum() for part in centred)
    expected -= 2 * torch.linalg.svdvals(centred[0] @ centred[1].T).sum()
    assert figures[0]["fid"] == pytest.approx(float(expected), rel=1e-5)


LAB = """
from pathlib import Path

from bigr.evaluation.report import Report


class MeanBrightness:
    is_shared = False

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def check(self, context):
        if self.scale < 0:
            raise ValueError(f"evaluation.scale={self.scale}: it must be positive.")

    def num_images(self, context):
        return 4

    def __call__(self, context, on_batch):
        pictures = context.pipeline(4).generate([0, 1, 2, 3], sampler=context.sampler)
        on_batch(4)
        values = [self.scale * sum(p.convert("L").tobytes()) / 64 for p in pictures]
        return Report({"values": values}, {"brightness": sum(values) / 4}, [("mean", "?")])


class Ranks:
    is_shared = True

    def check(self, context):
        context.models

    def num_images(self, context):
        return context.processes.count

    def __call__(self, context, on_batch):
        on_batch(1)
        ranks = context.processes.gather(context.processes.rank)
        return Report({"ranks": ranks}) if context.processes.is_first else None
"""


def test_evaluations_of_others(folder: Path) -> None:
    """One Python file and one YAML file: checked, run, not repeated, shared if it can be."""
    (folder / "lab.py").write_text(LAB)
    for name, text in (
        ("brightness", "_target_: lab.MeanBrightness\nscale: 2.0\n"),
        ("ranks", "_target_: lab.Ranks\n"),
    ):
        path = folder / "lab_conf" / "evaluation" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    lab = (f"hydra.searchpath=[file://{folder}/lab_conf]", *MODELS, "device=cpu")
    own = (*lab, *FAST, "evaluation=brightness", "hydra.run.dir=brightness")
    assert "4/4 images" in evaluate(folder, *own)
    found = metrics(folder / "brightness")
    pipeline = BiGRPipeline(tiny_generator(num_classes=10), tiny_autoencoder(), device="cpu")
    expected = pipeline.generate(
        [0, 1, 2, 3], num_iterations=4, num_denoise_steps=6, guidance_scale=2.0
    )
    values = [2 * np.array(picture.convert("L")).mean() for picture in expected]
    assert found["values"] == pytest.approx(values)
    assert found["figures"]["brightness"] == pytest.approx(np.mean(values))
    assert "already exists for the same settings" in evaluate(folder, *own)
    out = evaluate(folder, *own, "evaluation.scale=-1.0", "hydra.run.dir=bad", expected=2)
    assert "evaluation.scale=-1.0: it must be positive." in out
    assert "use one" in evaluate(folder, *own, "devices=2", "hydra.run.dir=two", expected=2)
    evaluate(folder, *lab, "evaluation=ranks", "devices=2", "hydra.run.dir=ranks")
    assert metrics(folder / "ranks")["ranks"] == [0, 1]


def test_bad_settings(folder: Path) -> None:
    for override, message in (
        ("evaluation.reference=nowhere.npz", "there is no such file or folder"),
        ("evaluation.labels=some", "labels must be balanced or random, got 'some'"),
        ("evaluation.network=clip", "evaluation.network=clip: there is no such network"),
        ("+evaluation.published.fd=3", "there is no score fd"),
        ("optimized_metric=fid", "optimized_metric=fid: there is no such figure"),
    ):
        place = override.split("=")[0].strip("+").replace(".", "_")
        out = evaluate(
            folder, *COMMON, "evaluation.count=10", override, f"hydra.run.dir={place}", expected=2
        )
        assert message in out
        assert "Traceback" not in out
    out = evaluate(folder, *MODELS, "evaluation.reference=generator.safetensors", expected=2)
    assert "FID needs weights-inception" in out
