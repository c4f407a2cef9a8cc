"""What a GPU compiles is one graph: the loss of a training step, and a step of the denoising chain.

A graph break would send parts of a step back to Python, and would make it impossible to record the
step as a CUDA graph. ``fullgraph=True`` turns each break into an error.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from bigr import BiGRConfig
from bigr.models.bigr import BiGR
from bigr.models.products import Products
from bigr.models.transcoder import BinaryTranscoder
from bigr.sampling.denoising_chain import DenoisingChain, TokenDenoiser
from tests.gpuless.host_waits import mutated
from tests.models import TINY, tiny_autoencoder, tiny_generator


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch.compiler.reset()


def compiled(function: Any) -> Any:
    return torch.compile(function, fullgraph=True, dynamic=False, backend="eager")


@pytest.mark.parametrize(
    "changes",
    [{}, {"objective": "x0", "auxiliary_weight": 0.1}, {"objective": "direct"}],
    ids=["flip", "x0", "direct"],
)
def test_the_training_loss_is_one_graph(changes: dict[str, Any]) -> None:
    """With its backward pass, for codes of any content and any number of masked tokens."""
    model = BiGR(BiGRConfig(**{**TINY, "dropout": 0.0, **changes})).train()
    loss = compiled(model.loss)
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        codes = torch.randint(0, 2, (3, 16, 6), generator=generator).float()
        classes = torch.tensor([0, 1, 2])
        draws = model.draw(3, generator)
        with torch.compiler.set_stance("default" if seed == 0 else "fail_on_recompile"):
            actual = loss(codes, classes, draws=draws._replace(num_masked=0))
        actual.loss.backward()
        expected = model.loss(codes, classes, draws=draws)
        torch.testing.assert_close(actual.loss, expected.loss)
        torch.testing.assert_close(actual.token_loss, expected.token_loss)


@pytest.mark.parametrize("is_guided", [True, False], ids=["guided", "alone"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_step_of_the_chain_is_one_graph(is_guided: bool, dtype: torch.dtype) -> None:
    """For every noise level: the index of the level is in a buffer."""
    results = []
    for wrap in (lambda step: step, compiled):
        with torch.no_grad():
            chain = filled_chain(dtype, is_guided=is_guided)
            step = wrap(chain.step)
            chain.reset()
            for index in range(chain.num_steps):
                stance = "default" if index == 0 else "fail_on_recompile"
                with torch.compiler.set_stance(stance):
                    step()
        results.append(chain.result.clone())
    torch.testing.assert_close(results[0], results[1])
    assert results[0].isfinite().all()


def filled_chain(dtype: torch.dtype, *, is_guided: bool) -> DenoisingChain:
    generator = torch.Generator().manual_seed(1)
    denoiser = TokenDenoiser(tiny_generator().transcoder, 5, products=Products(dtype))
    chain = DenoisingChain(denoiser, 8, slice(0, 5), is_guided)
    chain.uniforms.uniform_(generator=generator)
    chain.embedding.normal_(generator=generator)
    chain.scale.fill_(2.0)
    return chain


def test_the_autoencoder_is_one_graph() -> None:
    """Encoding and decoding, which sampling, tokenizing and training have in common."""
    network = tiny_autoencoder()
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        codes = (compiled(network.encode)(images) > 0.5).float()
        torch.testing.assert_close(compiled(network.decode)(codes), network.decode(codes))
        exported = torch.export.export(network, (images,), {"deterministic": True}).module()
        expected = network(images, deterministic=True)
    torch.testing.assert_close(exported(images, deterministic=True)[0], expected.reconstruction)


def test_a_break_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a value in the loss or in the chain makes the compiler raise an error."""
    old, new = (
        "return -signs",
        "signs = signs if float(signs.sum()) < 1e9 else signs * 0; return -signs",
    )
    changed = mutated(BinaryTranscoder.clean_logits, old, new)
    monkeypatch.setattr(BinaryTranscoder, "clean_logits", changed)
    model = tiny_generator().train()
    codes, classes, draws = torch.zeros(3, 16, 6), torch.tensor([0, 1, 2]), model.draw(3)
    with pytest.raises(TorchDynamoException):
        compiled(model.loss)(codes, classes, draws=draws._replace(num_masked=0))
    with pytest.raises(TorchDynamoException), torch.no_grad():
        compiled(filled_chain(torch.float32, is_guided=True).step)()
