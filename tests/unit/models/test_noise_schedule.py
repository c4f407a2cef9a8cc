"""The closed form against brute force over every path of the Markov chain."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys

import pytest
import torch

from bigr import BiGR, BiGRConfig, Sampler, SamplerConfig
from bigr.models.noise_schedule import (
    LinearSchedule,
    NoiseSchedule,
    noised_bit_probs,
    posterior_bit_probs,
)
from bigr.schema import from_dict
from tests import plain
from tests.models import TINY, tiny_generator

T = 8
SCHEDULE = LinearSchedule(T)


def path_probability(path: tuple[int, ...], p0: float) -> float:
    """P(x_0, x_1, …, x_t) of one bit: x_0 ~ Bernoulli(p0), each step keeps or redraws."""
    probability = p0 if path[0] else 1 - p0
    for t, (before, after) in enumerate(itertools.pairwise(path), start=1):
        kept = 1.0 - 1.0 / (T - t + 1)
        probability *= kept * (before == after) + (1 - kept) / 2
    return probability


def paths(t: int) -> itertools.product[tuple[int, ...]]:
    return itertools.product((0, 1), repeat=t + 1)


@pytest.mark.parametrize("p0", [0.0, 0.03, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("t", range(1, T + 1))
def test_posterior_is_that_of_the_chain(p0: float, t: int) -> None:
    """P(x_{t'} = 1 | x_t) by summing over every path of the bit, for all t' < t."""
    for t_next, x_t in itertools.product(range(t), (0, 1)):
        ending = [path for path in paths(t) if path[-1] == x_t]
        total = sum(path_probability(path, p0) for path in ending)
        if total == 0.0:
            continue
        ones = sum(path_probability(path, p0) for path in ending if path[t_next] == 1)
        actual = posterior_bit_probs(
            torch.tensor([[p0]], dtype=torch.float64),
            torch.tensor([[float(x_t)]], dtype=torch.float64),
            float(SCHEDULE.keep(torch.tensor(t_next))),
            float(SCHEDULE.between(torch.tensor(t_next), torch.tensor(t))),
        )
        assert actual.item() == pytest.approx(ones / total, abs=1e-6)


@pytest.mark.parametrize("t", range(1, T + 1))
def test_noise_is_that_of_the_chain(t: int) -> None:
    for x_0 in (0, 1):
        brute = sum(path_probability(p, float(x_0)) for p in paths(t) if p[-1] == 1)
        actual = noised_bit_probs(torch.tensor([[float(x_0)]]), SCHEDULE.keep(torch.tensor(t)))
        assert actual.item() == pytest.approx(brute, abs=1e-6)


def test_between_is_the_product_of_steps() -> None:
    schedule = LinearSchedule(256)
    for since, until in itertools.combinations(range(257), 2):
        if (since * 7 + until) % 53 == 0:
            expected = plain.keep(since, until, 256)
            assert float(
                schedule.between(torch.tensor(since), torch.tensor(until))
            ) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("count", [2, 3, 10, 25, 30, 50, 100, 255, 256])
def test_even_levels(count: int) -> None:
    steps = LinearSchedule(256).levels(count)
    if count < 256:  # at 256 the formula's rounding would visit a level twice
        assert steps == plain.levels(count, 256)
    assert len(steps) == count
    assert (steps[0], steps[-1]) == (256, 1)
    assert all(before > after for before, after in itertools.pairwise(steps))


@pytest.mark.parametrize("count", [2, 3, 10, 50, 200, 255, 256])
def test_quadratic_levels(count: int) -> None:
    """All distinct; where there is room for them, the squares."""
    steps = LinearSchedule(256).levels(count, "quadratic")
    assert len(set(steps)) == count
    assert steps == sorted(steps, reverse=True)
    assert (steps[0], steps[-1]) == (256, 1)
    if 10 <= count < 255:
        even = LinearSchedule(256).levels(count)
        assert sum(steps) < sum(even) - 20
    if count < 255:
        assert steps == plain.levels(count, 256, "quadratic")


@pytest.mark.parametrize("count", [1, 257])
def test_impossible_step_counts(count: int) -> None:
    with pytest.raises(ValueError, match="num_denoise_steps must be between 2"):
        LinearSchedule(256).levels(count)


@dataclasses.dataclass(frozen=True)
class Power(NoiseSchedule):
    """A user's own schedule: k_t = (1 - t/T)^power."""

    num_steps: int
    power: float = 2.0

    def keep(self, t: torch.Tensor) -> torch.Tensor:
        return (1.0 - t.float() / self.num_steps) ** self.power


def test_own_schedule_is_saved_as_plain_data() -> None:
    config = BiGRConfig(**TINY, num_diffusion_steps=T, noise_schedule=Power(T, 3.0))
    data = json.loads(json.dumps(dataclasses.asdict(config)))
    assert data["noise_schedule"] == {"class": f"{__name__}.Power", "num_steps": T, "power": 3.0}
    loaded = from_dict(BiGRConfig, data)
    assert loaded == config
    assert hash(loaded) == hash(config)
    assert loaded.schedule == Power(T, 3.0)
    assert BiGRConfig(**TINY).schedule == LinearSchedule(256)


def test_own_schedule_is_used() -> None:
    """A power of 1 gives the linear schedule's loss and codes, another one gives others."""
    codes = torch.randint(2, (2, 16, 6), generator=torch.Generator().manual_seed(0)).float()
    classes, found = torch.tensor([0, 1]), []
    for schedule in ("linear", Power(T, 1.0), Power(T, 3.0)):
        model = tiny_generator(num_diffusion_steps=T, noise_schedule=schedule)
        draws = model.draw(2, torch.Generator().manual_seed(1))
        loss = model.loss(codes, classes, draws=draws).loss.item()
        sampler = Sampler(SamplerConfig(num_iterations=3, num_denoise_steps=4))
        found.append((loss, sampler.sample(model, classes, seeds=[1, 2])))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert torch.equal(found[0][1], found[1][1])
    assert found[0][0] != pytest.approx(found[2][0], rel=1e-3)
    assert not torch.equal(found[0][1], found[2][1])


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("cosine", "noise_schedule must be linear, a mapping or a NoiseSchedule"),
        ({"class": "my_lab.noise.Cosine", "num_steps": T}, "import my_lab.noise first"),
        ({"class": "os.system", "num_steps": T}, "noise_schedule=os.system"),
        (Power(T + 1), "num_steps=9, but num_diffusion_steps is 8"),
    ],
    ids=str,
)
def test_schedules_that_are_not_there(schedule: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BiGRConfig(**TINY, num_diffusion_steps=T, noise_schedule=schedule)  # type: ignore[arg-type]
    assert "my_lab" not in sys.modules


def test_a_model_knows_its_schedule() -> None:
    assert BiGR(BiGRConfig(**TINY)).transcoder.schedule == LinearSchedule(256)
