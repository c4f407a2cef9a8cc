"""Recorded steps: the same codes as plain ones, recorded once, given up when they aren't right.

A CUDA graph is stood in for by a function that calls the step itself, on the same buffers.
"""

from __future__ import annotations

import logging
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor

from bigr import BiGR, ExecutionConfig, Sampler, SamplerConfig
from bigr.sampling import player
from bigr.sampling.player import RECORDERS, SIZES, Player, Program, Step, padded
from bigr.sampling.random_numbers import SeededNoise
from tests import plain
from tests.models import tiny_generator

BASE: dict[str, Any] = {
    "guidance_scale": 2.0, "num_iterations": 4, "gumbel_temperature": 0.3, "num_denoise_steps": 6,
}  # fmt: skip
CLASSES = torch.tensor([0, 2, 1])


class Recordings:
    """Stands in for CUDA graphs, and counts them."""

    def __init__(self, wrong: Step | None = None, error: Exception | None = None) -> None:
        self.count = 0
        self.played = 0
        self.programs: list[Any] = []
        self.wrong = wrong
        self.error = error

    def __call__(self, step: Step) -> Step:
        self.count += 1
        self.programs.append(step.__self__)  # type: ignore[attr-defined]
        if self.error is not None:
            raise self.error
        for _ in range(3):  # to warm up
            step()

        def play() -> None:
            self.played += 1
            (self.wrong or step)()

        return play


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> Recordings:
    found = Recordings()
    monkeypatch.setitem(RECORDERS, ("auto", "cpu"), found)
    return found


def plain_codes(model: BiGR, config: SamplerConfig, seeds: list[int]) -> Tensor:
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    noise = SeededNoise(torch.tensor(seeds), 16, 6, torch.device("cpu"))
    return plain.sample(weights, model.config, config, CLASSES, noise)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"guidance_scale": 1.0},
        {"guidance_schedule": "linear", "temperature": 1.7},
        {"order": "random"},
        {"num_denoise_steps": 2},
        {"denoise_spacing": "quadratic"},
        {"guidance_levels": (0.3, 0.7)},
    ],
    ids=str,
)
@pytest.mark.parametrize("objective", ["flip", "x0", "direct"])
def test_same_codes(recordings: Recordings, changes: dict[str, Any], objective: str) -> None:
    """As the plain sampler in float64, at first and when the recordings are played again."""
    model = tiny_generator(objective=objective)
    config = SamplerConfig(**{**BASE, **changes})
    sampler = Sampler(config)
    for seeds in ([3, 4, 5], [6, 7, 8]):
        actual = sampler.sample(model, CLASSES, seeds=seeds)
        eager = Sampler(config, ExecutionConfig(mode="eager"))
        assert torch.equal(actual.double(), plain_codes(model, config, seeds))
        assert torch.equal(actual, eager.sample(model, CLASSES, seeds=seeds))
    assert recordings.played > 0


def test_recorded_once_for_each_size(recordings: Recordings) -> None:
    """Of at most 48 tokens: 16, 32 and 48, whatever the batches; nothing moves in memory."""
    sampler = Sampler(SamplerConfig(**BASE))
    model = tiny_generator()
    sampler.sample(model, CLASSES, seeds=[1, 2, 3])
    once = recordings.count
    assert 1 <= once <= 3
    assert {len(program.result) for program in recordings.programs} <= {16, 32, 48}
    before = [places(program) for program in recordings.programs]
    with torch.inference_mode():
        sampler.sample(model, CLASSES, seeds=[4, 5, 6])
        sampler.sample(model, CLASSES, seeds=[7, 8, 9])
    assert recordings.count <= 3
    assert [places(program) for program in recordings.programs[:once]] == before


def places(program: Program) -> dict[str, int]:
    return {
        name: value.data_ptr() for name, value in vars(program).items() if isinstance(value, Tensor)
    }


def test_other_weights_are_recorded_anew(recordings: Recordings) -> None:
    """Changed in place, as training and averaging do, even behind autograd's back."""
    sampler = Sampler(SamplerConfig(**BASE))
    model = tiny_generator()
    sampler.sample(model, CLASSES, seeds=[3, 4, 5])
    once = recordings.count
    model.transcoder.denoiser.output.weight.data.mul_(-1.0)
    changed = sampler.sample(model, CLASSES, seeds=[3, 4, 5])
    assert recordings.count == 2 * once
    assert torch.equal(changed.double(), plain_codes(model, sampler.config, [3, 4, 5]))
    other = tiny_generator(seed=1)
    codes = sampler.sample(other, CLASSES, seeds=[3, 4, 5])
    assert torch.equal(codes.double(), plain_codes(other, sampler.config, [3, 4, 5]))


@pytest.mark.parametrize(
    "broken",
    [Recordings(wrong=lambda: None), Recordings(error=RuntimeError("operation not permitted"))],
    ids=["does nothing", "fails"],
)
def test_a_recording_that_is_not_right_is_given_up(
    broken: Recordings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning, and the codes are right."""
    monkeypatch.setitem(RECORDERS, ("auto", "cpu"), broken)
    sampler = Sampler(SamplerConfig(**BASE))
    model = tiny_generator()
    with caplog.at_level(logging.WARNING):
        actual = sampler.sample(model, CLASSES, seeds=[3, 4, 5])
        sampler.sample(model, CLASSES, seeds=[3, 4, 5])
    assert torch.equal(actual.double(), plain_codes(model, sampler.config, [3, 4, 5]))
    assert broken.count == 1
    (record,) = caplog.records
    assert "continues without recordings" in record.message


def test_want_of_memory_is_for_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Recordings(error=torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setitem(RECORDERS, ("auto", "cpu"), broken)
    with pytest.raises(torch.OutOfMemoryError):
        Sampler(SamplerConfig(**BASE)).sample(tiny_generator(), CLASSES, seeds=[3, 4, 5])


def test_more_tokens_than_the_largest_size(
    recordings: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts."""
    monkeypatch.setattr(player, "SIZES", (4, 8))
    model = tiny_generator()
    config = SamplerConfig(**BASE)
    actual = Sampler(config).sample(model, CLASSES, seeds=[3, 4, 5])
    assert torch.equal(actual.double(), plain_codes(model, config, [3, 4, 5]))
    assert recordings.count == 2


def test_sizes() -> None:
    """A third of the rows is padding at most, above 16."""
    assert [padded(count) for count in (1, 16, 17, 65, 4096, 9000)] == [
        *(16, 16, 32, 96, 4096, 4096)
    ]
    waste = max(1 - count / padded(count) for count in range(33, SIZES[-1] + 1))
    assert waste < 0.34


@pytest.mark.parametrize(
    ("mode", "device", "expected"),
    [
        ("auto", "cpu", None),
        ("eager", "cpu", None),
        ("compiled", "cpu", player.compiled),
        ("auto", "cuda", player.cuda_graph),
        ("eager", "cuda", None),
        ("compiled", "cuda", player.compiled_cuda_graph),
    ],
)
def test_which_recorder(mode: str, device: str, expected: object) -> None:
    assert Player(mode, torch.device(device)).record is expected


class Countdown:
    """A program that knows nothing of sampling: halves a number three times."""

    num_steps = 3

    def __init__(self) -> None:
        self.result = torch.zeros(1)

    def reset(self) -> None:
        self.result.fill_(0.8)

    def step(self) -> None:
        self.result.mul_(0.5)


@pytest.mark.parametrize("mode", ["eager", "auto"])
def test_any_program(mode: str, recordings: Recordings) -> None:
    """Played from the start each time, recorded or not."""
    chosen, program = Player(mode, torch.device("cpu")), Countdown()
    for _ in range(3):
        assert chosen.play(program).item() == pytest.approx(0.1)
    assert recordings.count == (mode == "auto")
    assert recordings.played == 9 * (mode == "auto")


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("mode", ["auto", "compiled"])
def test_on_a_gpu(mode: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The same codes as on the CPU, from recordings."""
    model = tiny_generator()
    config = SamplerConfig(**BASE)
    expected = Sampler(config).sample(model, CLASSES, seeds=[3, 4, 5])
    sampler = Sampler(config, ExecutionConfig(precision="float32", mode=mode))
    for _ in range(2):
        codes = sampler.sample(model.cuda(), CLASSES, seeds=[3, 4, 5])
        assert (codes.cpu() == expected).float().mean() > 0.99
    assert not warnings_of(caplog)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled(caplog: pytest.LogCaptureFixture) -> None:
    """The same codes, fused; batches of other sizes need no more compiling."""
    model = tiny_generator()
    config = SamplerConfig(**BASE)
    sampler = Sampler(config, ExecutionConfig(mode="compiled"))
    first = sampler.sample(model, CLASSES, seeds=[3, 4, 5])
    own = [record for record in warnings_of(caplog) if record.name.startswith("bigr")]
    assert own == []  # the recording was not given up
    same = (first.double() == plain_codes(model, config, [3, 4, 5])).double().mean()
    assert same > 0.98
    alone = sampler.sample(model, CLASSES[:1], seeds=[3])
    assert (alone[0] == first[0]).float().mean() > 0.98
