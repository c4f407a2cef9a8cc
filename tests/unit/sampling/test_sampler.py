"""The sampler against the plain one: the same numbers give the same codes; free, the same law."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from bigr import BiGR, ExecutionConfig, Sampler, SamplerConfig
from bigr.models.denoiser import DenoiserLayers
from bigr.models.flops import chain_flops, transformer_flops
from bigr.sampling.guidance import GuidanceSchedule
from bigr.sampling.gumbel import GumbelSchedule
from bigr.sampling.mask_schedules import MaskSchedule
from bigr.sampling.orders import SamplingOrder
from bigr.sampling.random_numbers import SeededNoise
from bigr.sampling.sampler import Progress
from bigr.sampling.sampler_config import Precision
from tests import plain
from tests.models import tiny_generator

BASE = SamplerConfig(
    guidance_scale=2.0, num_iterations=4, gumbel_temperature=0.3, num_denoise_steps=6
)
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "no guidance": {"guidance_scale": 1.0},
    "unconditional": {"guidance_scale": 0.0},
    "weak guidance": {"guidance_scale": 0.5},
    "linear guidance": {"guidance_schedule": "linear"},
    "cosine guidance": {"guidance_schedule": "cosine"},
    "power-cosine guidance": {"guidance_schedule": "cosine", "guidance_power": 2.75},
    "piecewise guidance": {"guidance_schedule": (0.5, 2.0, 0.0), "num_iterations": 6},
    "one weight": {"guidance_schedule": (0.5,)},
    "guided high levels": {"guidance_levels": (0.5, 1.0)},
    "guided middle levels": {"guidance_levels": (0.2, 0.7), "guidance_schedule": "cosine"},
    "no guided level": {"guidance_levels": (0.0, 0.0)},
    "unconditional middle levels": {"guidance_levels": (0.2, 0.7), "guidance_scale": 0.0},
    "gumbel up": {"gumbel_schedule": "up"},
    "gumbel down": {"gumbel_schedule": "down"},
    "greedy": {"gumbel_temperature": 0.0},
    "linear mask": {"mask_schedule": "linear"},
    "hot": {"temperature": 1.7},
    "random order": {"order": "random"},
    "raster order": {"order": "raster"},
    "halton order": {"order": "halton"},
    "orders one after another": {"order": ("halton", "confidence", "random")},
    "more orders than iterations": {"order": ("raster", "random") * 4, "mask_schedule": "linear"},
    "mask power": {"mask_power": 1.7},
    "linear mask power": {"mask_schedule": "linear", "mask_power": 0.6},
    "gumbel factors": {"gumbel_schedule": (2.0, 0.0, 1.0)},
    "cooling": {"temperature_schedule": (1.3, 0.5), "temperature": 1.1},
    "deterministic bits": {"deterministic_bits": True},
    "one iteration": {"num_iterations": 1},
    "token by token": {"num_iterations": 16, "mask_schedule": "linear"},
    "more iterations than tokens": {"num_iterations": 23},
    "guidance interval": {"guidance_interval": (0.3, 0.8)},
    "interval and schedule": {"guidance_interval": (0.3, 1.0), "guidance_schedule": "linear"},
    "quadratic spacing": {"denoise_spacing": "quadratic", "num_denoise_steps": 20},
    "reuse decided": {"reuse_decided": True},
    "corrector": {"corrector_share": 0.3},
    "corrector in the middle": {"corrector_share": 0.5, "corrector_interval": (0.2, 0.8)},
    "corrector of everything": {"corrector_share": 1.0, "corrector_rounds": 2},
    "corrector, random order": {"corrector_share": 0.4, "corrector_rounds": 3, "order": "random"},
    "corrector and reuse": {"corrector_share": 0.4, "reuse_decided": True, "num_iterations": 6},
    "reuse decided, unguided": {"reuse_decided": True, "guidance_scale": 1.0},
}

BFLOAT16 = ExecutionConfig(precision="bfloat16")
FLOAT8 = ExecutionConfig(precision="float8")


def with_settings(**changes: Any) -> SamplerConfig:
    return dataclasses.replace(BASE, **changes)


def double(model: BiGR) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("objective", ["flip", "x0", "direct"])
def test_same_numbers_same_codes(name: str, objective: str) -> None:
    """Bit for bit, from the same random numbers, although the plain one computes in float64."""
    model = tiny_generator(objective=objective)
    config = with_settings(**SETTINGS[name])
    classes = torch.tensor([0, 2, 1])
    noise = SeededNoise(torch.tensor([3, 4, 5]), 16, 6, torch.device("cpu"))
    expected = plain.sample(double(model), model.config, config, classes, noise)
    actual = Sampler(config).sample(model, classes, seeds=[3, 4, 5])
    assert 0.2 < expected.mean() < 0.8
    assert torch.equal(actual.double(), expected)


@pytest.mark.parametrize(
    "name", ["default", "unconditional", "piecewise guidance", "deterministic bits", "cooling"]
)
@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "causal"},
        {"attention": "causal", "objective": "direct"},
        {"attention": "causal", "objective": "categorical"},
        {"objective": "categorical"},
        {"objective": "categorical", "code_dim": 14},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_baselines_from_the_same_numbers(name: str, changes: dict[str, Any]) -> None:
    """The plain one computes all positions for every token of a causal model, without a memory."""
    model = tiny_generator(**changes)
    config = with_settings(**SETTINGS[name])
    bits, device = model.config.code_dim, torch.device("cpu")
    noise = SeededNoise(torch.tensor([3, 4, 5]), 16, bits, device)
    classes = torch.tensor([0, 2, 1])
    expected = plain.sample(double(model), model.config, config, classes, noise)
    actual = Sampler(config).sample(model, classes, seeds=[3, 4, 5])
    assert 0.2 < expected.mean() < 0.8
    assert torch.equal(actual.double(), expected)


def test_a_causal_model_decides_one_token_after_the_other() -> None:
    model, seen = tiny_generator(attention="causal"), list[Progress]()
    Sampler(BASE).sample(model, torch.tensor([0, 1]), seeds=[1, 2], on_iteration=seen.append)
    assert [state.iteration for state in seen] == list(range(1, 17))
    for state in seen:
        assert state.num_iterations == 16
        assert state.is_masked.tolist() == [[n >= state.iteration for n in range(16)]] * 2


def test_a_causal_model_keeps_no_known_tokens() -> None:
    model = tiny_generator(attention="causal")
    is_masked = torch.rand(1, 16) < 0.5
    with pytest.raises(ValueError, match="attention=causal cannot keep known tokens"):
        Sampler(BASE).sample(
            model, torch.tensor([0]), known_codes=torch.zeros(1, 16, 6), is_masked=is_masked
        )


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("corrector_share", [0.0, 0.6])
def test_same_numbers_same_codes_with_known_tokens(schedule: str, corrector_share: float) -> None:
    """Masks of different sizes in one batch, one image with nothing to do."""
    model = tiny_generator()
    config = with_settings(mask_schedule=schedule, corrector_share=corrector_share)
    known = torch.randint(0, 2, (4, 16, 6)).float()
    is_masked = torch.rand(4, 16) < torch.tensor([0.0, 0.1, 0.5, 1.0])[:, None]
    is_masked[1, 7] = True
    classes = torch.tensor([0, 1, 2, 3])
    noise = SeededNoise(torch.arange(4), 16, 6, torch.device("cpu"))
    expected = plain.sample(
        double(model), model.config, config, classes, noise, known.double(), is_masked
    )
    actual = Sampler(config).sample(
        model, classes, known_codes=known, is_masked=is_masked, seeds=range(4)
    )
    assert torch.equal(actual.double(), expected)
    assert torch.equal(actual[~is_masked], known[~is_masked])
    assert not torch.equal(actual[is_masked], known[is_masked])


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gumbel_temperature": 0.0},
        {"order": "random"},
        {"order": "raster", "mask_schedule": "linear"},
        {"guidance_scale": 1.0, "num_iterations": 2},
        {"guidance_schedule": "linear", "gumbel_schedule": "down", "temperature": 0.7},
        {"guidance_schedule": "cosine", "guidance_power": 0.5, "guidance_scale": 4.0},
        {"guidance_schedule": (2.0, 0.0), "guidance_levels": (0.3, 0.9)},
        {"order": ("halton", "confidence"), "mask_power": 1.5},
        {"gumbel_schedule": (0.0, 2.0), "temperature_schedule": (1.5, 0.5)},
        # At a lower temperature, rounding makes most tokens equally certain, and ties decide.
        {"corrector_share": 0.7, "corrector_rounds": 2, "temperature": 20.0},
        {"corrector_share": 1.0, "corrector_interval": (0.4, 1.0), "order": "random"},
    ],
    ids=str,
)
def test_same_distribution(changes: dict[str, Any]) -> None:
    """2 x 2 tokens of one bit: how often each of the 16 outcomes comes, chi-squared."""
    model = tiny_generator(grid_size=2, code_dim=1, num_diffusion_steps=8, std=0.4)
    config = with_settings(**{"num_iterations": 3, "num_denoise_steps": 4, **changes})
    images = 4000
    classes = torch.ones(images, dtype=torch.int64)
    noise = plain.RandomNoise(images, 4, 1, torch.Generator().manual_seed(11))
    expected = plain.sample(dict(model.state_dict()), model.config, config, classes, noise)
    actual = Sampler(config).sample(model, classes, generator=torch.Generator().manual_seed(12))
    places = 2 ** torch.arange(4)
    counts = torch.stack(
        [
            torch.bincount((codes[..., 0].long() * places).sum(1), minlength=16)
            for codes in (actual, expected)
        ]
    )
    counts = counts[:, counts.sum(0) >= 10]
    assert counts.shape[1] >= 4
    assert stats.chi2_contingency(counts.numpy()).pvalue > 1e-3


def test_distribution_test_has_power() -> None:
    """The same comparison tells a guidance scale of 2 from one of 1."""
    model = tiny_generator(grid_size=2, code_dim=1, num_diffusion_steps=8, std=0.4)
    outcomes = []
    for scale in (1.0, 2.0):
        config = with_settings(num_iterations=3, num_denoise_steps=4, guidance_scale=scale)
        classes = torch.ones(6000, dtype=torch.int64)
        codes = Sampler(config).sample(model, classes, generator=torch.Generator().manual_seed(1))
        places = 2 ** torch.arange(4)
        outcomes.append(torch.bincount((codes[..., 0].long() * places).sum(1), minlength=16))
    counts = torch.stack(outcomes)
    counts = counts[:, counts.sum(0) >= 10]
    assert stats.chi2_contingency(counts.numpy()).pvalue < 1e-6


@pytest.mark.parametrize(
    "order", ["confidence", "random", "raster", "halton", ("random", "confidence")]
)
def test_image_depends_on_its_seed_not_on_the_batch(order: str | tuple[str, ...]) -> None:
    model = tiny_generator()
    sampler = Sampler(with_settings(order=order))
    classes = torch.tensor([0, 1, 2, 0, 1])
    together = sampler.sample(model, classes, seeds=range(10, 15))
    for index in range(5):
        alone = sampler.sample(model, classes[index : index + 1], seeds=[10 + index])
        assert torch.equal(alone[0], together[index])
    again = sampler.sample(model, classes, seeds=range(10, 15))
    assert torch.equal(again, together)
    other = sampler.sample(model, classes, seeds=range(20, 25))
    assert not torch.equal(other, together)


def test_generator_decides_and_global_state_is_left_alone() -> None:
    model = tiny_generator()
    sampler = Sampler(BASE)
    classes = torch.tensor([0, 1])
    state = torch.get_rng_state()
    first = sampler.sample(model, classes, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), state)
    again = sampler.sample(model, classes, generator=torch.Generator().manual_seed(1))
    other = sampler.sample(model, classes, generator=torch.Generator().manual_seed(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_scale_one_skips_the_unconditional_half(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_generator()
    sizes: list[int] = []
    forward = model.transformer.forward
    monkeypatch.setattr(
        model.transformer,
        "forward",
        lambda codes, *rest: sizes.append(len(codes)) or forward(codes, *rest),
    )
    for scale, expected in ((1.0, [3, 3, 3, 3]), (0.0, [3, 3, 3, 3]), (2.0, [4, 6, 6, 6])):
        sizes.clear()
        config = with_settings(guidance_scale=scale)
        Sampler(config).sample(model, torch.tensor([0, 1, 2]), seeds=range(3))
        # With everything masked all images have the same unconditional half.
        assert sizes == expected


def test_only_masked_tokens_are_denoised() -> None:
    model = tiny_generator()
    rows: list[int] = []
    layer = model.transcoder.denoiser.condition
    layer.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    config = with_settings(mask_schedule="linear", guidance_scale=1.0, gumbel_temperature=0.0)
    Sampler(config).sample(model, torch.tensor([0]), seeds=[1])
    assert rows == [16, 12, 8, 4]
    rows.clear()
    config = with_settings(mask_schedule="linear", guidance_scale=1.0, order="random")
    Sampler(config).sample(model, torch.tensor([0]), seeds=[1])
    assert rows == [4, 4, 4, 4]


@pytest.mark.parametrize("flip_logit", [-4.0, -1.0])
def test_tokens_that_cannot_win_are_not_denoised(flip_logit: float) -> None:
    """Sure of its bits, as trained models are, most tokens needn't be denoised; same codes."""
    model = tiny_generator(grid_size=8, std=0.1)
    with torch.no_grad():
        model.transcoder.denoiser.output.bias.fill_(flip_logit)
    rows: list[int] = []
    layer = model.transcoder.denoiser.condition
    layer.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    config = with_settings(num_iterations=8, guidance_scale=1.0)
    actual = Sampler(config).sample(model, torch.tensor([0, 1]), seeds=[3, 4])
    noise = SeededNoise(torch.tensor([3, 4]), 64, 6, torch.device("cpu"))
    expected = plain.sample(double(model), model.config, config, torch.tensor([0, 1]), noise)
    assert torch.equal(actual.double(), expected)
    everything = 2 * (64 + 62 + 59 + 53 + 45 + 35 + 24 + 12)  # floor(64 cos(pi/2 i/8))
    assert sum(rows) < {-4.0: 0.4, -1.0: 0.95}[flip_logit] * everything


def test_progress_is_reported() -> None:
    model = tiny_generator()
    seen: list[Progress] = []
    codes = Sampler(BASE).sample(model, torch.tensor([0]), seeds=[1], on_iteration=seen.append)
    assert [state.iteration for state in seen] == [1, 2, 3, 4]
    masked = [int(state.is_masked.sum()) for state in seen]
    assert masked == sorted(masked, reverse=True)
    assert masked[-1] == 0
    for state in seen:
        assert state.codes[state.is_masked].abs().sum() == 0
        assert torch.equal(state.codes[~state.is_masked], codes[~state.is_masked])


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("changes", [{}, {"mask_schedule": "linear"}, {"num_iterations": 23}])
def test_corrector_ends_with_no_masked_token(rounds: int, changes: dict[str, Any]) -> None:
    """Each iteration leaves as many masked tokens as without it, and known tokens never change."""
    model, known = tiny_generator(), torch.randint(0, 2, (2, 16, 6)).float()
    is_masked = torch.arange(16) < torch.tensor([[16], [5]])
    seen: dict[float, list[Progress]] = {}
    for share in (0.0, 0.8):
        config = with_settings(corrector_share=share, corrector_rounds=rounds, **changes)
        Sampler(config).sample(
            model, torch.tensor([0, 1]), known_codes=known, is_masked=is_masked, seeds=[1, 2],
            on_iteration=seen.setdefault(share, []).append,
        )  # fmt: skip
    for plain_state, state in zip(seen[0.0], seen[0.8], strict=True):
        assert state.iteration == plain_state.iteration
        assert torch.equal(state.is_masked.sum(1), plain_state.is_masked.sum(1))
        assert torch.equal(state.codes[~is_masked], known[~is_masked])
        assert torch.equal(state.confidence.isnan(), state.is_masked | ~is_masked)
    assert not seen[0.8][-1].is_masked.any()
    assert not torch.equal(seen[0.8][-1].codes, seen[0.0][-1].codes)


def test_rounds_of_the_corrector_take_another_pass_each() -> None:
    """After iterations 2 and 3 of 4, and of the decided tokens alone."""
    model = tiny_generator()
    settings: dict[str, Any] = {"order": "random", "guidance_scale": 1.0}
    corrected = {"corrector_share": 0.5, "corrector_rounds": 2, "corrector_interval": (0.3, 0.7)}
    flops = []
    for changes in (settings, settings | corrected):
        sampler = Sampler(with_settings(mask_schedule="linear", **changes))
        sampler.sample(model, torch.tensor([0]), seeds=[1])
        flops.append(sampler.flops)
    tokens = 2 * (8 // 2) + 2 * (12 // 2)
    more = 4 * transformer_flops(model.config) + tokens * chain_flops(model.config, 6)
    assert flops[1] - flops[0] == pytest.approx(more)


def test_model_is_used_in_evaluation_mode_and_left_as_it_was() -> None:
    model = tiny_generator(dropout=0.5).train()
    first = Sampler(BASE).sample(model, torch.tensor([0]), seeds=[1])
    assert model.training
    assert torch.equal(first, Sampler(BASE).sample(model.eval(), torch.tensor([0]), seeds=[1]))


def test_class_embeddings_can_be_given() -> None:
    model = tiny_generator()
    classes = torch.tensor([0, 2])
    table = model.transformer.class_embedding.weight
    by_id = Sampler(BASE).sample(model, classes, seeds=[1, 2])
    by_row = Sampler(BASE).sample(model, table[classes].detach(), seeds=[1, 2])
    assert torch.equal(by_id, by_row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_ids": torch.tensor([4])}, r"0\.\.3 \(3 is the null class\), got \[4\]"),
        ({"class_ids": torch.tensor([-1])}, "class_ids must be"),
        ({"class_ids": torch.zeros(1, 5)}, r"class embeddings must have shape \(batch, 32\)"),
        ({"known_codes": torch.zeros(1, 16, 6)}, "known_codes and is_masked go together"),
        (
            {"known_codes": torch.zeros(1, 16, 5), "is_masked": torch.ones(1, 16).bool()},
            r"codes must have shape",
        ),
        (
            {"known_codes": torch.zeros(1, 16, 6), "is_masked": torch.ones(1, 16)},
            "is_masked must be bool",
        ),
    ],
)
def test_input_that_does_not_fit_is_refused(change: dict[str, Tensor], message: str) -> None:
    arguments: dict[str, Any] = {"class_ids": torch.tensor([0]), **change}
    with pytest.raises(ValueError, match=message):
        Sampler(BASE).sample(tiny_generator(), **arguments)


def test_guidance_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of it the unconditional half isn't computed; nowhere is a scale of 1."""
    model = tiny_generator()
    classes = torch.tensor([0, 1, 2])

    def sample(**changes: Any) -> Tensor:
        return Sampler(with_settings(**changes)).sample(model, classes, seeds=range(3))

    everywhere, nowhere = sample(), sample(guidance_interval=(0.0, 0.0))
    assert torch.equal(sample(guidance_interval=(0.0, 1.0)), everywhere)
    assert torch.equal(nowhere, sample(guidance_scale=1.0))
    assert not torch.equal(nowhere, everywhere)
    sizes: list[int] = []
    forward = model.transformer.forward
    monkeypatch.setattr(
        model.transformer,
        "forward",
        lambda codes, *rest: sizes.append(len(codes)) or forward(codes, *rest),
    )
    sample(guidance_interval=(0.5, 1.0))
    assert sizes == [3, 3, 6, 6]


def test_levels_without_guidance_take_half_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the 9 levels 16, 14, 12, 10, 8, 6, 4, 2 and 1, those in [4, 12] are guided."""
    model = tiny_generator(num_diffusion_steps=16)
    rows: list[int] = []
    logits = DenoiserLayers.logits
    monkeypatch.setattr(
        DenoiserLayers,
        "logits",
        lambda self, signs, embedding: (
            rows.append(len(embedding)) or logits(self, signs, embedding)
        ),
    )
    config = with_settings(
        num_iterations=1, num_denoise_steps=9, order="random", guidance_levels=(0.25, 0.75)
    )
    sampler = Sampler(config)
    sampler.sample(model, torch.tensor([0, 1]), seeds=[1, 2])
    assert rows == [32, 32, 64, 64, 64, 64, 64, 32, 32]
    chains = 32 * (chain_flops(model.config, 9) + chain_flops(model.config, 5))
    assert sampler.flops == chains + 3 * transformer_flops(model.config)


@pytest.mark.parametrize(
    ("sizes", "count"),
    [({}, 2000), ({"dim": 256, "num_heads": 4, "num_layers": 1, "feed_forward_multiple": 32}, 400)],
    ids=["narrow", "as wide as auto needs on a CPU"],
)
def test_bfloat16_has_the_same_marginals(sizes: dict[str, int], count: int) -> None:
    """Frequencies of 96 bits over many images: none differs more than chance lets it.

    Both precisions get the same random numbers, so that about 91% of their bits are equal.
    McNemar's exact test of the rest, at 1% with Bonferroni's correction, finds what a comparison
    of 10,000 independent images each would: the standard error of a difference of frequencies is
    0.7% for 2,000 images. The same test tells a guidance scale of 1 from 2.
    """
    model = tiny_generator(**sizes)
    classes = torch.zeros(count, dtype=torch.int64)

    def bits(seed: int, precision: Precision = "float32", **changes: Any) -> Tensor:
        config = with_settings(num_iterations=3, num_denoise_steps=4, **changes)
        generator = torch.Generator().manual_seed(seed)
        sampler = Sampler(config, ExecutionConfig(precision=precision))
        return sampler.sample(model, classes, generator=generator).flatten(1)

    exact = bits(0)
    limit = 0.01 / exact.shape[1]

    def smallest_p(other: Tensor) -> float:
        counts = torch.stack([(exact > other).sum(0), (exact < other).sum(0)])
        return float(2 * stats.binom.cdf(counts.amin(0), counts.sum(0), 0.5).min())

    assert smallest_p(bits(1)) > limit  # independent images
    rounded = bits(0, precision="bfloat16")
    assert 0.01 < (rounded != exact).double().mean() < 0.2
    assert smallest_p(rounded) > limit
    assert smallest_p(bits(0, guidance_scale=1.0)) < limit


def test_bfloat16_is_bfloat16() -> None:
    """The same random numbers give nearly the same bits, but not all of them."""
    model = tiny_generator()
    classes = torch.arange(60) % 3
    exact, rounded = (
        Sampler(BASE, execution).sample(model, classes, seeds=range(60))
        for execution in (ExecutionConfig(), BFLOAT16)
    )
    same = (exact == rounded).double().mean()
    assert 0.8 < same < 1.0
    assert rounded.dtype == torch.float32


def test_float8_is_close_to_bfloat16() -> None:
    """Most bits are the same from the same random numbers; the model stays as it is."""
    model = tiny_generator(std=0.15, denoiser_dim=32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    classes = torch.arange(60) % 3
    sampler = Sampler(BASE, FLOAT8)
    exact = Sampler(BASE, BFLOAT16).sample(model, classes, seeds=range(60))
    rounded = sampler.sample(model, classes, seeds=range(60))
    assert set(rounded.unique().tolist()) == {0.0, 1.0}
    same = (exact == rounded).double().mean()
    other = (exact == exact.roll(1, dims=0)).double().mean()
    assert max(0.75, other + 0.1) < same < 0.999
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_float8_of_an_image_alone() -> None:
    """Scales are a token's own: the batch doesn't matter."""
    model = tiny_generator(denoiser_dim=32)
    sampler = Sampler(BASE, FLOAT8)
    together = sampler.sample(model, torch.tensor([0, 1, 2]), seeds=[3, 4, 5])
    alone = sampler.sample(model, torch.tensor([1]), seeds=[4])
    assert (together[1] == alone[0]).double().mean() > 0.95


@pytest.mark.parametrize("part", ["transformer.layers.0.attention.qkv", "transcoder.denoiser"])
def test_float8_sees_that_weights_changed(part: str) -> None:
    model = tiny_generator(denoiser_dim=32)
    sampler = Sampler(BASE, FLOAT8)
    classes = torch.tensor([0, 1, 2])
    first = sampler.sample(model, classes, seeds=[3, 4, 5])
    assert torch.equal(sampler.sample(model, classes, seeds=[3, 4, 5]), first)
    with torch.no_grad():
        for weight in model.get_submodule(part).parameters():
            weight.mul_(-1.0)
    changed = sampler.sample(model, classes, seeds=[3, 4, 5])
    assert not torch.equal(changed, first)
    fresh = Sampler(BASE, FLOAT8).sample(model, classes, seeds=[3, 4, 5])
    assert torch.equal(changed, fresh)


@dataclasses.dataclass(frozen=True)
class Columns(SamplingOrder):
    """A user's own order: column by column, from the top."""

    side: int

    def scores(self, is_masked: Tensor, uniforms: Tensor) -> Tensor:
        ranks = torch.arange(self.side**2).view(self.side, self.side).t().flatten()
        return -ranks.float().expand_as(uniforms)


@dataclasses.dataclass(frozen=True)
class HalfAtOnce(MaskSchedule):
    """A user's own schedule: half of the tokens in the first iteration, the rest in the last."""

    def num_masked(self, iteration: int, num_iterations: int, total: int) -> int:
        return total // 2 if iteration < num_iterations else 0


@dataclasses.dataclass(frozen=True)
class LateGuidance(GuidanceSchedule):
    def scale(self, iteration: int, num_iterations: int, guidance_scale: float) -> float:
        return guidance_scale if iteration == num_iterations else 1.0


@dataclasses.dataclass(frozen=True)
class FirstGumbel(GumbelSchedule):
    def temperature(self, iteration: int, num_iterations: int, gumbel_temperature: float) -> float:
        return gumbel_temperature if iteration == 1 else 0.0


def test_own_order_and_mask_schedule() -> None:
    """Eight tokens, which are the first two columns, in iteration 1, and no others until 4."""
    config = with_settings(order=Columns(4), mask_schedule=HalfAtOnce())
    seen: list[Progress] = []
    Sampler(config).sample(tiny_generator(), torch.tensor([0]), seeds=[1], on_iteration=seen.append)
    left_half = torch.tensor([[1, 1, 0, 0]] * 4).bool().flatten()
    assert all(torch.equal(~state.is_masked[0], left_half) for state in seen[:3])
    assert not seen[3].is_masked.any()


def test_own_guidance_and_gumbel_schedule() -> None:
    """The same as settings that mean the same."""
    model, classes = tiny_generator(), torch.tensor([0, 2])
    config = with_settings(num_iterations=2, guidance_schedule=LateGuidance())
    same = with_settings(num_iterations=2, guidance_interval=(0.5, 1.0))
    first, second = (Sampler(one).sample(model, classes, seeds=[1, 2]) for one in (config, same))
    assert torch.equal(first, second)
    config = with_settings(num_iterations=1, gumbel_schedule=FirstGumbel())
    codes = Sampler(config).sample(model, classes, seeds=[1, 2])
    assert torch.equal(
        codes, Sampler(with_settings(num_iterations=1)).sample(model, classes, seeds=[1, 2])
    )


def test_check_says_what_does_not_fit() -> None:
    model = tiny_generator(num_diffusion_steps=8)
    with pytest.raises(ValueError, match="num_diffusion_steps=8, got 20"):
        Sampler(with_settings(num_denoise_steps=20)).check(model)
    Sampler(with_settings(num_denoise_steps=8)).check(model)
    Sampler(with_settings(num_denoise_steps=20)).check(
        tiny_generator(num_diffusion_steps=8, objective="direct")
    )
