"""Runs through the command line that are killed, asked to stop, or spread over nodes."""

from __future__ import annotations

import csv
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bigr.checkpoints.native import save_autoencoder
from bigr.training.checkpoint_files import newest_whole, saved_checkpoints
from tests.models import tiny_autoencoder
from tests.processes import ReadyProcess, environment

pytestmark = pytest.mark.slow

STEPS = 160


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_autoencoder(tiny_autoencoder(), tmp_path_factory.mktemp("codes") / "a.safetensors")


# The digits as they are, of 8x8 pixels: encoding them is most of the work of a step.
SMALL_CODE = (
    *("resolution.image_size=8", "autoencoder.base_channels=32"),
    *("autoencoder.channel_multipliers=[1,1]", "autoencoder.embed_dim=32"),
)


def overrides(codes: Path, run: Path, *more: str) -> list[str]:
    return [
        "experiment=digits_generator",
        f"task.autoencoder={codes}",
        *SMALL_CODE,
        *("autoencoder.code_dim=6", "model.dim=32", "model.num_layers=1", "model.denoiser_dim=32"),
        *("model.denoiser_blocks=1", "model.dropout=0.1", "data.batch_size=128"),
        *("trainer.val_check_interval=7", "trainer.limit_val_batches=1"),
        *(f"trainer.max_steps={STEPS}", "trainer.log_every_n_steps=1"),
        *("callbacks.sample_grid=null", "callbacks.checkpoint.every_n_steps=1"),
        f"hydra.run.dir={run}",
        *more,
    ]


def start(run: Path, arguments: list[str]) -> ReadyProcess:
    run.parent.mkdir(parents=True, exist_ok=True)
    words = ("-m", "bigr.train", *arguments)
    return ReadyProcess(*words, cwd=run.parent, stdout=run.parent / f"{run.name}.log")


def finish(run: Path, arguments: list[str]) -> None:
    code = start(run, arguments).wait(240)
    assert code == 0, (run.parent / f"{run.name}.log").read_text()


def newest_step(run: Path) -> int:
    saved = saved_checkpoints(run / "checkpoints")
    return int(saved[0].stem[5:]) if saved else 0


def wait_for(run: Path, step: int, process: ReadyProcess) -> None:
    deadline = time.monotonic() + 120
    while newest_step(run) < step:
        assert process.poll() is None, (run.parent / f"{run.name}.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.003)


def end_state(run: Path, steps: int = STEPS) -> dict[str, torch.Tensor]:
    """Average, weights, moments and counts of the last checkpoint."""
    path = newest_whole(run / "checkpoints")
    assert path is not None
    assert path.name == f"step_{steps:08d}.ckpt"
    saved = torch.load(path, weights_only=True)
    state = {f"average {name}": value for name, value in saved["state_dict"].items()}
    state.update({f"raw {name}": value for name, value in saved["current_model_state"].items()})
    for number, optimizer in enumerate(saved["optimizer_states"]):
        for index, moments in optimizer["state"].items():
            state.update({f"{number} {index} {name}": value for name, value in moments.items()})
    assert saved["lr_schedulers"][0]["last_epoch"] == steps
    return state


@pytest.fixture(scope="module")
def undisturbed(codes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(run, overrides(codes, run))
    return end_state(run)


def assert_same(run: Path, expected: dict[str, torch.Tensor], steps: int = STEPS) -> None:
    state = end_state(run, steps)
    assert state.keys() == expected.keys()
    different = [name for name in state if not torch.equal(state[name], expected[name])]
    assert not different


def test_killed_thirty_times(
    codes: Path, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    """SIGKILL at random moments, resumed each time, with other numbers of workers: bit for bit."""
    run, chance = tmp_path / "run", random.Random(0)
    steps: list[int] = []
    for kill in range(30):
        more = () if kill == 0 else ("resume=auto", f"data.num_workers={kill % 3}")
        process = start(run, overrides(codes, run, *more))
        wait_for(run, newest_step(run) + 1, process)
        time.sleep(chance.random() * 0.1)
        process.kill()
        steps.append(newest_step(run))
        assert steps[-1] < STEPS, "too few steps for so many kills"
    assert steps == sorted(set(steps))  # every start got on
    assert any(step % 11 == 0 for step in steps), "no epoch's boundary was met"
    finish(run, overrides(codes, run, "resume=auto"))
    assert_same(run, undisturbed)
    assert sorted(losses(run)) == list(range(STEPS))


def test_gan_killed(tmp_path: Path) -> None:
    """Both networks, both optimisers, average and losses, before and after the GAN starts."""

    def settings(run: Path, *more: str) -> list[str]:
        return [
            *("experiment=digits_gan", "trainer.max_steps=40", *SMALL_CODE),
            *("task.gan.start_step=15", "task.gan.discriminator.base_channels=8"),
            *("task.gan.discriminator.num_layers=1", "task.lr_scheduler.warmup_steps=5"),
            *("callbacks.checkpoint.every_n_steps=1", "trainer.limit_val_batches=1"),
            *("trainer.val_check_interval=10", "trainer.log_every_n_steps=1"),
            *("callbacks.reconstruction_grid=null", f"hydra.run.dir={run}", *more),
        ]

    left_alone, run = tmp_path / "left_alone", tmp_path / "run"
    finish(left_alone, settings(left_alone))
    expected = end_state(left_alone, 40)
    assert any(name.startswith("1 ") for name in expected)
    for target in (5, 14, 16, 27):
        process = start(run, settings(run, *(["resume=auto"] if target > 5 else [])))
        wait_for(run, target, process)
        process.kill()
    finish(run, settings(run, "resume=auto"))
    assert_same(run, expected, 40)
    ours, theirs = losses(run), losses(left_alone)
    assert len(theirs) == 40
    assert ours == theirs


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
def test_asked_to_stop(
    codes: Path, tmp_path: Path, undisturbed: dict[str, torch.Tensor], signum: signal.Signals
) -> None:
    """It saves between two steps, says how to go on, and does."""
    run = tmp_path / "run"
    arguments = overrides(codes, run, "callbacks.checkpoint.every_n_steps=50")
    process = start(run, arguments)
    wait_for(run, 50, process)
    process.send_signal(signum)
    code = process.wait(60)
    log = (tmp_path / "run.log").read_text()
    assert code == 128 + signum, log
    assert 50 < newest_step(run) < STEPS
    assert f"stopped by {signum.name} at step {newest_step(run)}; resume with the same" in log
    assert "Traceback" not in log
    finish(run, [*arguments, "resume=auto"])
    assert_same(run, undisturbed)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def two_nodes(arguments: list[str], cwd: Path) -> list[subprocess.Popen[str]]:
    """One process on each of two nodes, which meet on the loopback device."""
    port = free_port()
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2"),
                *("--nproc_per_node=1", f"--node_rank={rank}", "--master_addr=127.0.0.1"),
                *(f"--master_port={port}", "-m", "bigr.train", *arguments),
                *("trainer.num_nodes=2", "trainer.devices=1"),
            ],
            cwd=cwd,
            env=environment(OMP_NUM_THREADS="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]


def losses(run: Path) -> dict[int, float]:
    """By step."""
    with (run / "csv" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    return {int(row["step"]): float(row["train/loss"]) for row in rows}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_nodes_learn_as_one(codes: Path, tmp_path: Path, strategy: str) -> None:
    """50 steps: the same losses to 1e-5, images encoded on the fly; stopped on one node alone."""
    alike = [
        *("model.dropout=0", "trainer.max_steps=50", "global_batch_size=128"),
        # One process accumulates four batches, and each of two processes accumulates two.
        *("task.lr_scheduler.warmup_steps=5", "data.batch_size=32"),
    ]
    one = tmp_path / "one"
    finish(one, overrides(codes, one, *alike))
    run = tmp_path / "two"
    # In no hurry, so that the signal comes before the end.
    alike.append("callbacks.checkpoint.every_n_steps=10")
    arguments = overrides(codes, run, *alike, f"strategy={strategy}")
    nodes = two_nodes(arguments, tmp_path)
    deadline = time.monotonic() + 200
    while newest_step(run) < 10:
        assert time.monotonic() < deadline
        assert all(node.poll() is None for node in nodes), nodes[0].communicate()[0]
        time.sleep(0.01)
    nodes[1].send_signal(signal.SIGTERM)
    outputs = [node.communicate(timeout=120)[0] for node in nodes]
    stopped = newest_step(run)
    assert 10 < stopped < 50, outputs
    assert stopped % 10 == 0, "both stop where they agreed to"
    assert f"stopped by SIGTERM at step {stopped}" in outputs[0]
    if strategy == "ddp":
        again = two_nodes([*arguments, "resume=auto"], tmp_path)
        outputs = [node.communicate(timeout=200)[0] for node in again]
        assert [node.returncode for node in again] == [0, 0], outputs
    else:  # on one device, and in other portions
        finish(run, overrides(codes, run, *alike, "data.batch_size=64", "resume=auto"))
    ours, theirs = losses(run), losses(one)
    assert ours.keys() == theirs.keys() == set(range(50))
    assert max(abs(ours[step] / theirs[step] - 1) for step in ours) < 1e-5
    averages = [load_file(folder / "generator.safetensors") for folder in (run, one)]
    for name, tensor in averages[0].items():
        torch.testing.assert_close(tensor, averages[1][name], rtol=1e-3, atol=1e-4)
