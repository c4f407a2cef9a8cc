"""Positions computed alone, with remembered keys and values of the others."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bigr import Sampler, SamplerConfig
from bigr.models.config import BiGRConfig
from bigr.models.flops import transformer_flops
from bigr.models.key_value_memory import CausalMemory, Memory
from tests.models import tiny_generator

CLASSES = torch.tensor([0, 2])


def codes_and_mask(share: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(2, (2, 16, 6), generator=generator).float()
    return codes, torch.rand(2, 16, generator=generator) < share


@torch.no_grad()
def test_one_layer_is_exact() -> None:
    """With one layer, keys and values depend on their own token alone: nothing is approximate."""
    model = tiny_generator(num_layers=1)
    codes, first = codes_and_mask(0.9)
    memory = Memory(1)
    torch.testing.assert_close(
        model.condition(codes, CLASSES, first, memory), model.condition(codes, CLASSES, first)
    )
    second = first.clone()
    second[0, :5] = False  # different numbers of tokens in the two images
    second[1, 12:] = False
    third = second & (torch.arange(16) % 3 == 0)
    for is_masked in (second, third):
        actual = model.condition(codes, CLASSES, is_masked, memory)
        expected = model.condition(codes, CLASSES, is_masked)
        torch.testing.assert_close(actual[is_masked], expected[is_masked])
    assert memory.num_computed == 1 + int(second.sum(dim=1).max())


@torch.no_grad()
def test_tokens_decided_since_are_computed_once_more() -> None:
    """In two layers what is masked or new is computed; what is wrong then comes from the old."""
    model = tiny_generator(num_layers=2)
    codes, _ = codes_and_mask(0.5)
    everything = torch.ones(2, 16, dtype=torch.bool)
    half = everything.clone()
    half[:, :8] = False
    memory = Memory(2)
    model.condition(codes, CLASSES, everything, memory)
    # All were masked before, so all are computed: exact.
    actual = model.condition(codes, CLASSES, half, memory)
    torch.testing.assert_close(actual[half], model.condition(codes, CLASSES, half)[half])
    rest = half.clone()
    rest[:, 8:12] = False
    actual = model.condition(codes, CLASSES, rest, memory)
    expected = model.condition(codes, CLASSES, rest)
    assert memory.num_computed == 9
    assert not torch.allclose(actual[rest], expected[rest], rtol=1e-4)
    torch.testing.assert_close(actual[rest], expected[rest], rtol=0.5, atol=0.5)


@torch.no_grad()
def test_a_causal_memory_is_exact() -> None:
    """One position per pass; anew after a jump, and for other classes or another batch."""
    model = tiny_generator(num_layers=3, attention="causal")
    codes, _ = codes_and_mask(0.5)
    memory, other = CausalMemory(3), torch.tensor([1, 2])
    passes = [
        *((known, CLASSES, 1) for known in range(6)),
        (8, CLASSES, 9),
        (9, CLASSES, 1),
        (10, other, 11),
        (11, other, 1),
        (12, torch.cat([other, other]), 13),
        (12, torch.cat([other, other]), 13),
    ]
    for known, classes, computed in passes:
        bits = codes.repeat(len(classes) // 2, 1, 1)
        is_masked = torch.arange(16).expand(len(classes), -1) >= known
        actual = model.condition(bits * ~is_masked[..., None], classes, is_masked, memory)
        expected = model.condition(bits, classes, is_masked)
        torch.testing.assert_close(actual[:, known], expected[:, known])
        assert memory.num_computed == computed


@torch.no_grad()
def test_tokens_masked_again_are_computed_and_images_are_independent() -> None:
    """The first image computes 6 tokens, the second 12; alone, the first gives the same."""
    model = tiny_generator(num_layers=2)
    codes, _ = codes_and_mask(0.5)
    first = torch.arange(16) < torch.tensor([[4], [12]])
    second = torch.arange(16) < torch.tensor([[6], [3]])  # two tokens of the first come back
    together, alone = Memory(2), Memory(2)
    for is_masked in (first, second):
        both = model.condition(codes, CLASSES, is_masked, together)
        one = model.condition(codes[:1], CLASSES[:1], is_masked[:1], alone)
    assert (together.num_computed, alone.num_computed) == (13, 7)
    torch.testing.assert_close(both[0][second[0]], one[0][second[0]])


@torch.no_grad()
def test_another_number_of_images_begins_anew() -> None:
    model = tiny_generator()
    codes, is_masked = codes_and_mask(0.5)
    memory = Memory(2)
    model.condition(codes, CLASSES, is_masked, memory)
    double = torch.cat([codes, codes]), torch.cat([CLASSES, CLASSES]), torch.cat([is_masked] * 2)
    actual = model.condition(*double, memory)
    torch.testing.assert_close(actual, model.condition(*double))


@torch.no_grad()
@pytest.mark.parametrize("count", [None, 1 + 40])
def test_operations(count: int | None) -> None:
    """As torch counts them."""
    config = BiGRConfig(
        dim=64, num_layers=2, num_heads=4, grid_size=8, code_dim=12, num_classes=10,
        denoiser_dim=32, denoiser_blocks=1,
    )  # fmt: skip
    model = tiny_generator(**{name: getattr(config, name) for name in (
        "dim", "num_layers", "num_heads", "grid_size", "code_dim", "num_classes"
    )})  # fmt: skip
    memory = Memory(2)
    codes = torch.zeros(1, 64, 12)
    is_masked = torch.arange(64)[None] < 40
    classes = torch.tensor([1])
    if count is not None:
        model.condition(codes, classes, is_masked, memory)
    # The CPU's fused attention isn't counted.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.condition(codes, classes, is_masked, memory)
    assert memory.num_computed == count
    expected = transformer_flops(model.config, count)
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.01)


def test_sampling_with_reuse() -> None:
    """One layer: the same codes. More: others, still all known tokens as they were."""
    settings = {"num_iterations": 5, "num_denoise_steps": 4, "guidance_scale": 2.0}
    exact, reused = SamplerConfig(**settings), SamplerConfig(**settings, reuse_decided=True)
    classes = torch.tensor([0, 1, 2])
    shallow, deep = tiny_generator(num_layers=1), tiny_generator(num_layers=4)
    for model, same in ((shallow, True), (deep, False)):
        samplers = Sampler(exact), Sampler(reused)
        first, second = (sampler.sample(model, classes, seeds=range(3)) for sampler in samplers)
        assert torch.equal(first, second) == same
        assert samplers[1].flops < samplers[0].flops
    known, is_masked = torch.ones(3, 16, 6), torch.zeros(3, 16, dtype=torch.bool)
    for image in range(3):
        is_masked[image, : 4 + 3 * image] = True
    given = {"known_codes": known, "is_masked": is_masked, "seeds": range(3)}
    codes = Sampler(reused).sample(shallow, classes, **given)
    assert torch.equal(codes[~is_masked], known[~is_masked])
    assert torch.equal(codes, Sampler(exact).sample(shallow, classes, **given))
    changing = {"guidance_interval": (0.4, 1.0)}
    codes, expected = (
        Sampler(SamplerConfig(**settings, **changing, reuse_decided=reuse)).sample(
            shallow, classes, seeds=range(3)
        )
        for reuse in (True, False)
    )
    assert torch.equal(codes, expected)
