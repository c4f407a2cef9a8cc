"""No step of training, tokenising or sampling makes the host wait for a GPU, but for those listed.

Everything runs on real tensors of the CPU. The lists name the functions in which a wait remains,
with the reason; a function that is listed without a wait fails as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from bigr import BiGRConfig, ExecutionConfig, Sampler, SamplerConfig
from bigr.data.codes_writer import StoreWriter
from bigr.models.config import BinaryAutoencoderConfig
from bigr.models.discriminator import DiscriminatorConfig
from bigr.models.transcoder import BinaryTranscoder
from bigr.sampling.denoising_chain import DenoisingChain
from bigr.training.autoencoder_module import AutoencoderModule
from bigr.training.callbacks.ema import EMA
from bigr.training.callbacks.loss_breakdown import LossBreakdown
from bigr.training.callbacks.progress_bar import RunProgressBar
from bigr.training.callbacks.throughput import ThroughputLogger
from bigr.training.gan import GANConfig
from bigr.training.generator_module import GeneratorModule
from bigr.training.gradient_guard import GradientGuard
from bigr.training.optimizers import adamw
from bigr.training.tokenization import Job, TokenizeBatch, TokenizeModule
from tests.codes_stores import SETTINGS
from tests.gpuless.host_waits import HostWaits, Place, mutated
from tests.models import TINY, tiny_autoencoder, tiny_generator
from tests.tiny_training import PairsDataModule, tiny_trainer

WATCHED = range(2, 4)
"""Batches whose steps are watched; the first ones also create the optimiser's state."""

DRAWN_ON_THE_HOST = Place("models/training_draws.py", "draw_num_masked")
"""The number of masked tokens is drawn on the CPU, on a GPU as well."""
COUNTED_RARELY = Place("training/gradient_guard.py", "in_a_row")
"""The counter of skipped steps: on a GPU, it is read every 25 steps."""


class Watch(lightning.Callback):
    """Watches whole steps, from the start of a batch to that of the next one."""

    def __init__(self) -> None:
        self.waits = HostWaits()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if index == WATCHED.start:
            self.waits.__enter__()
        elif index == WATCHED.stop:
            self.waits.__exit__(None, None, None)


def generator_module(**settings: Any) -> GeneratorModule:
    return GeneratorModule(BiGRConfig(**TINY), functools.partial(adamw, lr=1e-3), **settings)


def watched_training(module: Any, kind: str, *callbacks: Any, **settings: Any) -> HostWaits:
    watch = Watch()
    trainer = tiny_trainer(
        WATCHED.stop + 1, watch, EMA(), ThroughputLogger(), RunProgressBar(num_lines=1),
        *callbacks, log_every_n_steps=1000, enable_progress_bar=True, **settings,
    )  # fmt: skip
    trainer.fit(module, datamodule=PairsDataModule(kind))
    return watch.waits


def training() -> HostWaits:
    return watched_training(generator_module(), "codes", LossBreakdown(), gradient_clip_val=1.0)


@pytest.mark.parametrize("settings", [{}, {"levels_per_token": 2}, {"masked_only": False}])
def test_a_training_step_of_the_generator(settings: dict[str, Any]) -> None:
    waits = watched_training(
        generator_module(**settings), "codes", LossBreakdown(), gradient_clip_val=1.0
    )
    assert set(waits.found) == {DRAWN_ON_THE_HOST, COUNTED_RARELY}, waits.report()


@pytest.mark.parametrize("gan", [False, True], ids=["plain", "gan"])
def test_a_training_step_of_the_autoencoder(gan: bool) -> None:
    waits = watched_training(autoencoder_module(gan=gan), "floats")
    assert set(waits.found) == {COUNTED_RARELY}, waits.report()


def autoencoder_module(*, gan: bool) -> AutoencoderModule:
    config = BinaryAutoencoderConfig(
        code_dim=6, image_size=16, base_channels=32, channel_multipliers=(1, 1), embed_dim=32,
        res_blocks=1, attn_resolutions=(),
    )  # fmt: skip
    adam = functools.partial(torch.optim.Adam, lr=1e-3, fused=True)
    discriminator = DiscriminatorConfig(base_channels=8, num_layers=1)
    adversary = GANConfig(
        optimizer=adam, discriminator=discriminator, start_step=0, diffaugment=("translation",)
    )
    return AutoencoderModule(config, adam, gan=adversary if gan else None)


def sampling(order: str = "confidence", **settings: Any) -> HostWaits:
    """Sample twice, and watch the second time: the first one arranges the weights."""
    config = SamplerConfig(num_iterations=4, num_denoise_steps=5, order=order, **settings)
    sampler, model = (
        Sampler(config, ExecutionConfig(precision="float32", mode="eager")),
        tiny_generator(),
    )
    classes = torch.tensor([0, 2])
    sampler.sample(model, classes, seeds=[1, 2])
    with HostWaits() as waits:
        sampler.sample(model, classes, seeds=[3, 4])
    return waits


ONCE_PER_CALL = {
    # The classes are compared where they are, usually on the CPU.
    Place("sampling/conditioning.py", "initial_state"),
    # How many tokens of each image are masked.
    Place("sampling/sampler.py", "run"),
    # Whether the weights are still those that were arranged.
    Place("sampling/networks.py", "prepare"),
}
"""Waits of :meth:`Sampler.sample` before its first iteration."""
TOKENS_TO_DENOISE = Place("sampling/selection.py", "select")
"""How many tokens are denoised follows from their noise; twice or more in each iteration."""
POSITIONS_TO_COMPUTE = Place("models/key_value_memory.py", "begin")
"""How many positions ``reuse_decided`` computes, once in each iteration."""


@pytest.mark.parametrize(
    ("settings", "others"),
    [
        ({}, {TOKENS_TO_DENOISE}),
        ({"guidance_levels": (0.0, 0.5), "temperature": 0.9}, {TOKENS_TO_DENOISE}),
        ({"order": "random"}, set()),
        ({"order": "halton", "deterministic_bits": True}, set()),
        ({"reuse_decided": True}, {TOKENS_TO_DENOISE, POSITIONS_TO_COMPUTE}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_sampling(settings: dict[str, Any], others: set[Place]) -> None:
    waits = sampling(**settings)
    assert set(waits.found) == ONCE_PER_CALL | others, waits.report()


def test_tokenizing(tmp_path: Path) -> None:
    """Encoding both views, drawing the bits three times and packing them."""
    module = TokenizeModule(tiny_autoencoder(), StoreWriter(tmp_path, SETTINGS), {}, batch_size=3)
    numbers = torch.arange(3)
    images = torch.randint(256, (3, 2, 3, 8, 8), dtype=torch.uint8)
    batch = TokenizeBatch(Job("val", 0, 0, 3, True), images, numbers, numbers, ())
    with HostWaits() as waits, torch.inference_mode():
        encoded = module.predict_step(batch, 0)
    assert encoded.codes.shape == (3, 6, 12)  # 4x4 tokens of 6 bits
    assert waits.report() == []


def test_a_wait_in_a_step_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these changes makes the host wait, and is reported at its line."""
    cases: list[tuple[Any, str, str, str, str, Callable[[], HostWaits]]] = [
        (GeneratorModule, "training_step", "self.outcome, self.draws = outcome, draws",
         "self.outcome, self.draws = outcome, draws; outcome.loss.item()", "_local_scalar_dense",
         training),
        (GradientGuard, "apply", "is_bad = ~torch.isfinite(total)",
         "is_bad = ~torch.isfinite(total).cpu()", "cpu", training),
        (EMA, "on_train_batch_end", "average = [",
         "list(weights.values())[0].tolist(); average = [", "tolist", training),
        (BinaryTranscoder, "loss", "return BitLoss(loss, is_correct)",
         "loss[is_correct]; return BitLoss(loss, is_correct)", "index", training),
        (DenoisingChain, "step", "clean_probs = ",
         "assert bits.sum() >= 0; clean_probs = ", "_local_scalar_dense", sampling),
        (BinaryTranscoder, "clean_logits", "return -signs",
         "signs = signs.to('cpu'); return -signs", "to", sampling),
    ]  # fmt: skip
    for owner, name, old, new, operator, run in cases:
        function = getattr(owner, name)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, mutated(function, old, new))
            found = run().found
        files = {place.file: operators for place, (_, operators) in found.items()
                 if place.function == name}  # fmt: skip
        file = function.__module__.removeprefix("bigr.").replace(".", "/") + ".py"
        assert operator in files.get(file, set()), (name, found)


def test_a_wait_in_the_backward_pass_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook of a gradient, which runs while the trainer's code is the only one on the stack."""
    step = GeneratorModule.training_step

    def hooked(self: GeneratorModule, batch: Any, index: int) -> torch.Tensor:
        loss = step(self, batch, index)
        loss.register_hook(lambda gradient: (gradient.nonzero(), gradient)[1])
        return loss

    monkeypatch.setattr(GeneratorModule, "training_step", hooked)
    operators = {name for _, names in training().found.values() for name in names}
    assert "nonzero" in operators
