"""The generator against a second implementation in float64, and its promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bigr import BiGR
from tests import plain
from tests.models import tiny_generator
from tests.numbers import relative_error


def batch(model: BiGR, size: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    config = model.config
    codes = torch.randint(0, 2, (size, config.seq_len, config.code_dim), generator=generator)
    classes = torch.randint(0, config.num_classes + 1, (size,), generator=generator)
    is_masked = torch.rand(size, config.seq_len, generator=generator) < 0.5
    return codes.float(), classes, is_masked


def double(model: BiGR) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in model.state_dict().items()}


def test_condition_equals_the_plain_one() -> None:
    model = tiny_generator(num_layers=3)
    codes, classes, is_masked = batch(model)
    expected = plain.condition(double(model), model.config, codes.double(), classes, is_masked)
    actual = model.condition(codes, classes, is_masked)
    assert relative_error(actual.double(), expected) < 1e-5


def test_causal_condition_equals_the_plain_one() -> None:
    model = tiny_generator(num_layers=3, attention="causal")
    codes, classes, is_masked = batch(model)
    expected = plain.condition(double(model), model.config, codes.double(), classes, is_masked)
    actual = model.condition(codes, classes, is_masked)
    assert relative_error(actual.double(), expected) < 1e-5
    assert torch.equal(actual, model.condition(codes, classes, ~is_masked))


def test_a_causal_model_sees_the_tokens_before_and_no_other() -> None:
    """By the gradients of each token's condition; its features do see the token itself."""
    model = tiny_generator(num_layers=3, attention="causal")
    codes, classes, is_masked = batch(model, 1)
    codes.requires_grad_()
    outputs = {
        0: model.condition(codes, classes, is_masked),
        1: model.features(codes, classes, -1),
    }
    for offset, output in outputs.items():
        for token in range(16):
            (gradient,) = torch.autograd.grad(output[0, token].sum(), codes, retain_graph=True)
            is_seen = gradient[0].abs().sum(dim=1) > 0
            assert is_seen.tolist() == [other < token + offset for other in range(16)]


def test_causal_loss_is_the_mean_over_all_tokens() -> None:
    model = tiny_generator(attention="causal")
    codes, classes, _ = batch(model)
    draws = model.draw(len(codes), torch.Generator().manual_seed(2))
    x_t = model.transcoder.noised(
        codes.flatten(0, 1), draws.timesteps.flatten(), draws.noise.flatten(0, 1)
    )
    expected = plain.loss(
        double(model), model.config, codes.double(), classes,
        torch.ones(len(codes), 16, dtype=torch.bool), draws.timesteps.flatten(), x_t.double(),
    )  # fmt: skip
    for masked_only in (False, True):
        outcome = model.loss(codes, classes, draws=draws, masked_only=masked_only)
        assert outcome.loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_denoiser_equals_the_plain_one() -> None:
    model = tiny_generator()
    x_t = torch.randint(0, 2, (40, model.config.code_dim)).float()
    t = torch.randint(1, 257, (40,))
    condition = torch.randn(40, model.config.dim)
    expected = plain.denoiser(double(model), model.config, x_t.double(), t, condition.double())
    actual = model.transcoder.denoiser(x_t, t, condition)
    assert relative_error(actual.double(), expected) < 1e-5


@pytest.mark.parametrize("masked_only", [False, True])
def test_loss_and_gradients_equal_the_plain_ones(masked_only: bool) -> None:
    model = tiny_generator()
    codes, classes, _ = batch(model)
    draws = model.draw(len(codes), torch.Generator().manual_seed(2))
    assert 1 < draws.num_masked < 16
    outcome = model.loss(codes, classes, draws=draws, masked_only=masked_only)
    outcome.loss.backward()

    x_0, t = codes.flatten(0, 1), draws.timesteps.flatten()
    x_t = model.transcoder.noised(x_0, t, draws.noise.flatten(0, 1))
    names = [name for name, _ in model.named_parameters()]
    weights = {name: tensor.requires_grad_() for name, tensor in double(model).items()}
    expected = plain.loss(
        weights, model.config, codes.double(), classes, draws.is_masked, t, x_t.double()
    )
    expected.backward()
    assert outcome.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name in names:
        gradient = model.get_parameter(name).grad
        if weights[name].grad is None:  # the unused mask token of an all-known batch, say
            continue
        assert gradient is not None
        assert relative_error(gradient.double(), weights[name].grad) < 1e-4, name


@pytest.mark.parametrize("masked_only", [False, True])
def test_several_levels_are_the_mean_of_single_ones(masked_only: bool) -> None:
    """Loss, gradients and figures of each token are those of one call per noise level."""
    model = tiny_generator()
    codes, classes, _ = batch(model)
    size = len(codes)
    draws = model.draw(size, torch.Generator().manual_seed(2), num_levels=3)
    outcome = model.loss(codes, classes, draws=draws, masked_only=masked_only)
    gradients = torch.autograd.grad(outcome.loss, list(model.parameters()))
    single = []
    for level in range(3):
        rows = slice(level * size, (level + 1) * size)
        one = draws._replace(timesteps=draws.timesteps[rows], noise=draws.noise[rows])
        single.append(model.loss(codes, classes, draws=one, masked_only=masked_only))
    mean = torch.stack([one.loss for one in single]).mean()
    expected = torch.autograd.grad(mean, list(model.parameters()))
    assert outcome.loss.item() == pytest.approx(mean.item(), rel=1e-5)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-7)
    for name in ("token_loss", "token_accuracy"):
        together = torch.cat([getattr(one, name) for one in single])
        torch.testing.assert_close(getattr(outcome, name), together)


def test_leaving_known_tokens_out_changes_nothing_that_counts() -> None:
    model = tiny_generator()
    codes, classes, _ = batch(model)
    draws = model.draw(len(codes), torch.Generator().manual_seed(2))
    whole = model.loss(codes, classes, draws=draws)
    fewer = model.loss(codes, classes, draws=draws, masked_only=True)
    assert fewer.loss.item() == pytest.approx(whole.loss.item(), rel=1e-6)
    assert fewer.bit_accuracy.item() == pytest.approx(whole.bit_accuracy.item(), rel=1e-6)
    for ours, theirs in zip(fewer[2:4], whole[2:4], strict=True):
        torch.testing.assert_close(ours, theirs * draws.is_masked)


def test_masked_codes_are_not_seen() -> None:
    model = tiny_generator()
    codes, classes, is_masked = batch(model)
    other = torch.where(is_masked[..., None], 1 - codes, codes)
    expected = model.condition(codes, classes, is_masked)
    assert torch.equal(model.condition(other, classes, is_masked), expected)
    known = torch.where(is_masked[..., None], codes, 1 - codes)
    assert not torch.allclose(model.condition(known, classes, is_masked), expected)


def test_class_token_is_blind_and_unseen_by_attention() -> None:
    """Its query and key are zero after RoPE: the released weights depend on it."""
    rotary = tiny_generator().transformer.rotary
    assert rotary[:, 0].abs().max() == 0
    assert torch.allclose(rotary[0, 1:] ** 2 + rotary[1, 1:] ** 2, torch.ones(()))


def test_loss_needs_no_host_sync() -> None:
    """Nothing in forward or loss reads a value back: it all runs without values, on meta."""
    with torch.device("meta"):
        model = BiGR(tiny_generator().config)
        codes = torch.empty(4, 16, 6)
        classes = torch.empty(4, dtype=torch.int64)
    model.to("meta")
    outcome = model.loss(codes, classes)
    outcome.loss.backward()
    assert outcome.loss.device.type == "meta"


def test_attention_has_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """An all-ones boolean mask would disable flash attention."""
    calls = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def spy(*args: Tensor, **kwargs: object) -> Tensor:
        calls.append((len(args), kwargs))
        return attend(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    model = tiny_generator()
    model.condition(*batch(model))
    assert calls == [(3, {"is_causal": False})] * model.config.num_layers


def test_randomness_comes_from_the_generator() -> None:
    model = tiny_generator(dropout=0.0).train()
    codes, classes, _ = batch(model)
    classes = classes.clamp(max=model.config.num_classes - 1)

    def loss(seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        return model.loss(codes, classes, generator=generator).loss.item()

    state = torch.get_rng_state()
    first = loss(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert loss(1) == first
    assert loss(2) != first


def test_classes_are_dropped_only_in_training() -> None:
    codes = torch.zeros(1, 16, 6)
    all_dropped = tiny_generator(class_dropout=1.0, dropout=0.0)
    losses = {}
    for training in (True, False):
        all_dropped.train(training)
        for label in (0, all_dropped.config.null_class):
            generator = torch.Generator().manual_seed(0)
            outcome = all_dropped.loss(codes, torch.tensor([label]), generator=generator)
            losses[training, label] = outcome.loss.item()
    null = all_dropped.config.null_class
    assert losses[True, 0] == losses[True, null]
    assert losses[False, 0] != losses[False, null]


def test_features_are_hidden_states_of_unmasked_codes() -> None:
    model = tiny_generator(num_layers=3)
    codes, classes, _ = batch(model)
    last = model.features(codes, classes, -1)
    assert torch.equal(last, model.features(codes, classes, 2))
    nothing = torch.zeros(codes.shape[:2], dtype=torch.bool)
    condition = model.condition(codes, classes, nothing)
    transformer = model.transformer
    rebuilt = transformer.norm(last).float() + transformer.position_table
    torch.testing.assert_close(rebuilt, condition)
    with pytest.raises(ValueError, match=r"layer must be in -3\.\.2, got 3"):
        model.features(codes, classes, 3)


def test_wrong_codes_are_refused() -> None:
    model = tiny_generator()
    with pytest.raises(ValueError, match=r"shape \(batch, 16, 6\).*got \(2, 16, 7\)"):
        model.condition(torch.zeros(2, 16, 7), torch.zeros(2).long(), torch.ones(2, 16).bool())


@pytest.mark.parametrize("objective", ["flip", "x0", "direct"])
def test_objectives_predict_clean_bits(objective: str) -> None:
    """A denoiser that always says 'surely 1' is right where its target is 1."""
    model = tiny_generator(objective=objective)
    denoiser = model.transcoder.denoiser
    with torch.no_grad():
        denoiser.output.weight.zero_()
        denoiser.output.bias.fill_(50.0)
    x_0 = torch.randint(0, 2, (64, 6)).float()
    t = torch.randint(1, 257, (64,))
    x_t = model.transcoder.noised(x_0, t, torch.rand(64, 6))
    outcome = model.transcoder.loss(x_0, t, x_t, torch.randn(64, 32))
    expected = {"flip": x_0 != x_t, "x0": x_0 == 1, "direct": x_0 == 1}[objective]
    assert torch.equal(outcome.is_correct, expected)
    assert torch.equal(outcome.loss < 1e-6, expected)


def test_direct_objective_never_sees_the_bits() -> None:
    model = tiny_generator(objective="direct")
    x_0 = torch.randint(0, 2, (8, 6)).float()
    condition = torch.randn(8, 32)
    t = model.draw(2).timesteps.flatten()[:8]
    assert set(t.tolist()) == {256}
    x_t = torch.randint(0, 2, (8, 6)).float()
    first = model.transcoder.loss(x_0, t, x_t, condition).loss
    assert torch.equal(model.transcoder.loss(x_0, t, 1 - x_t, condition).loss, first)
