"""Training, tokenising and sampling on fake CUDA: one device, and the intended types.

Under autocast, matrix products and attention are in bfloat16; norms, losses, probabilities and
confidences are in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bigr import BiGR, BiGRConfig, ExecutionConfig, Sampler, SamplerConfig
from bigr.data.codes_writer import StoreWriter
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.config import BinaryAutoencoderConfig
from bigr.models.denoiser import Denoiser
from bigr.models.transcoder import BinaryTranscoder
from bigr.models.transformer import MaskedTransformer
from bigr.sampling import denoising_chain, sampler
from bigr.sampling.denoising_chain import DenoisingChain
from bigr.training.autoencoder_module import AutoencoderModule
from bigr.training.callbacks.ema import EMA
from bigr.training.callbacks.loss_breakdown import LossBreakdown
from bigr.training.data.batch import Batch
from bigr.training.gan import Adversary, GANConfig
from bigr.training.generator_module import GeneratorModule
from bigr.training.gradient_guard import GradientGuard
from bigr.training.optimizers import adamw
from bigr.training.tokenization import Job, TokenizeBatch, TokenizeModule
from tests.codes_stores import SETTINGS
from tests.gpuless.fake_cuda import CUDA, NORMS, PRODUCTS, Operations, fake_cuda
from tests.gpuless.host_waits import mutated
from tests.models import TINY

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
BATCH = 4
HALF, FULL = {torch.bfloat16}, {torch.float32}
MOVES = {
    "_to_copy", "_unsafe_view", "cat", "clone", "detach", "expand", "native_dropout", "permute",
    "select", "slice", "split", "t", "transpose", "unbind", "unsqueeze", "view", "where", "alias",
    "_reshape_alias", "as_strided", "device", "chunk",
}  # fmt: skip
"""Operators that only copy or drop numbers."""
CHEAP = {"silu", "mul", "add", "addcmul"}
"""Activations, gates and sums between two products, which are in the type of the products."""


def sizes(name: str) -> BiGRConfig:
    if name == "tiny":
        return BiGRConfig(**TINY)
    return BiGRConfig.preset(name, grid_size=16, code_dim=24, num_classes=1000)


class OnCuda:
    """A module that Lightning has moved to the GPU, with a log that only keeps the names."""

    device = CUDA
    logged: dict[str, Any]

    def log(self, name: str, value: Any, **settings: Any) -> None:
        self.__dict__.setdefault("logged", {})[name] = value


class GeneratorOnCuda(OnCuda, GeneratorModule): ...


class AutoencoderOnCuda(OnCuda, AutoencoderModule):
    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Leave the module where it was built, because ``Module.to`` fails with fake tensors."""
        return self


class TokenizerOnCuda(OnCuda, TokenizeModule): ...


AROUND_EACH_TEST = fake_cuda


def trainer_of(module: Any) -> Any:
    """Return what steps ask a Trainer for, at the start of the second step."""
    progress = SimpleNamespace(total=SimpleNamespace(processed=1), current=SimpleNamespace(ready=2))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    return SimpleNamespace(
        fit_loop=loop, accumulate_grad_batches=1, world_size=1, global_rank=0, global_step=1,
        training=True, sanity_checking=False, log_every_n_steps=50, max_steps=2,
        is_last_batch=False, lightning_module=module,
    )  # fmt: skip


def generator_module(name: str) -> GeneratorOnCuda:
    with CUDA:
        module = GeneratorOnCuda(sizes(name), functools.partial(adamw, lr=1e-4)).train()
    module.trainer = trainer_of(module)
    return module


def codes_batch(config: BiGRConfig) -> Batch:
    codes = torch.empty(BATCH, config.seq_len, config.code_dim, device=CUDA)
    return Batch(torch.empty(BATCH, dtype=torch.int64, device=CUDA), codes=codes)


def check_training_types(operations: Operations) -> None:
    assert operations.types(PRODUCTS) == HALF
    assert operations.types(NORMS) == FULL
    assert operations.names(torch.bfloat16) <= PRODUCTS | MOVES | CHEAP


@pytest.mark.parametrize(
    ("name", "masked_only"),
    [("tiny", True), ("tiny", False), ("l", True), ("xl", False), ("xxl", False)],
)
def test_a_training_step_of_the_generator(name: str, masked_only: bool) -> None:
    """The loss, the gradient guard, the fused optimiser, the average and the metrics."""
    module = generator_module(name)
    module.masked_only = masked_only
    # 1. The loss. The number of masked tokens is drawn on the CPU, and here it is given.
    with Operations(numbers=(5,)) as operations, torch.autocast("cuda", torch.bfloat16):
        loss = module.training_step(codes_batch(module.model.config), 0)
    assert (loss.device.type, loss.dtype) == ("cuda", torch.float32)
    check_training_types(operations)
    assert operations.types({"binary_cross_entropy_with_logits", "mean", "sum"}) == FULL
    # 2. The gradient, whose norms are computed on the device, and the optimiser.
    for parameter in module.parameters():
        parameter.grad = torch.empty_like(parameter)
    optimizer: Any = module.configure_optimizers()
    with Operations() as operations:
        module.configure_gradient_clipping(optimizer, 1.0, "norm")
        optimizer.step()
    assert "_fused_adamw_" in operations.found
    assert operations.types(set(operations.found)) == FULL
    assert {value.device.type for value in module.logged.values()} == {"cuda"}
    # 3. The average of the weights, and the sums of the metrics.
    average, breakdown = EMA(), LossBreakdown()
    with Operations() as operations:
        average.on_train_start(module.trainer, module)
        average.on_train_batch_end(module.trainer, module, None, None, 0)
        breakdown.on_train_batch_end(module.trainer, module, None, None, 0)
    assert operations.types({"_foreach_lerp_", "index_add_"}) == FULL


def test_validation_of_the_generator() -> None:
    module = generator_module("tiny")
    with Operations(numbers=(5,)) as operations, torch.autocast("cuda", torch.bfloat16):
        module.validation_step(codes_batch(module.model.config), 0)
    check_training_types(operations)
    assert {value.device.type for value in module.logged.values()} == {"cuda"}


@pytest.mark.parametrize("size", [32, 256])
def test_a_training_step_of_the_autoencoder(size: int) -> None:
    """Its loss, the discriminator's loss, and validation."""
    config = BinaryAutoencoderConfig.preset("d24", image_size=size)
    adam = functools.partial(torch.optim.Adam, lr=1e-4, fused=True)
    with CUDA:
        module = AutoencoderOnCuda(config, adam, code_weight=0.1, gan=GANConfig(optimizer=adam))
    adversary, module.adversary = module.adversary, None
    module.trainer = trainer_of(module)
    images = torch.empty(2, 3, size, size, device=CUDA)
    batch = Batch(torch.empty(2, dtype=torch.int64, device=CUDA), images=images)
    with Operations() as operations, torch.autocast("cuda", torch.bfloat16):
        loss = module.training_step(batch, 0)
        assert isinstance(adversary, Adversary)
        other = adversary.loss(images, images)[0]
        module.validation_step(batch, 0)
    assert {(one.device.type, one.dtype) for one in (loss, other)} == {("cuda", torch.float32)}
    assert operations.types(PRODUCTS - {"mm", "bmm"}) == HALF
    assert operations.types(NORMS) == FULL


def test_tokenizing(tmp_path: Path) -> None:
    with CUDA:
        autoencoder = BinaryAutoencoder(BinaryAutoencoderConfig.preset("d24", image_size=256))
    settings = SETTINGS.__class__(
        **{**vars(SETTINGS), "code_dim": 24, "grid_size": 16, "image_size": 256}
    )
    module = TokenizerOnCuda(autoencoder, StoreWriter(tmp_path, settings), {}, batch_size=3)
    numbers = torch.empty(3, dtype=torch.int64, device=CUDA)
    images = torch.empty(3, 2, 3, 256, 256, dtype=torch.uint8, device=CUDA)
    with Operations() as operations, torch.autocast("cuda", torch.bfloat16):
        job = Job("val", 0, 0, 3, True)
        encoded = module.predict_step(TokenizeBatch(job, images, numbers, numbers, ()), 0)
    assert (encoded.codes.device.type, encoded.codes.shape) == ("cuda", (3, 6, 768))
    assert operations.types({"convolution"}) == HALF
    assert operations.types({"lt"}) == FULL  # a uniform number below a probability


@pytest.mark.parametrize(
    ("name", "order"),
    [(name, "confidence") for name in ("tiny", "l", "xl", "xxl")] + [("tiny", "random")],
)
def test_sampling(name: str, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The complete loop: guided and unguided levels, the order, and the decision of the bits."""
    types: dict[str, set[torch.dtype]] = {}

    def watched(owner: Any, function: str) -> None:
        original = getattr(owner, function)

        def watching(*args: Any, **kwargs: Any) -> Any:
            given = [one for one in args if isinstance(one, Tensor) and one.is_floating_point()]
            types.setdefault(function, set()).update(one.dtype for one in given)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, function, watching)

    watched(denoising_chain, "posterior_bit_probs")
    watched(sampler, "confidence")
    watched(BinaryTranscoder, "clean_logits")
    config = sizes(name)
    with CUDA:
        model = BiGR(config)
    settings = SamplerConfig(
        num_iterations=3, num_denoise_steps=4, order=order, guidance_levels=(0.0, 0.6)
    )
    steps = []
    with Operations(numbers=(config.seq_len,), counts=(BATCH * 12, BATCH * 4, 0)) as operations:
        codes = Sampler(settings, ExecutionConfig(mode="eager")).sample(
            model, torch.tensor([0, 1, 2, 3]), seeds=range(4), on_iteration=steps.append
        )
    assert (codes.device.type, codes.shape) == ("cuda", (4, config.seq_len, config.code_dim))
    assert len(steps) == 3
    assert types == dict.fromkeys(types, FULL)
    assert types.keys() == {"posterior_bit_probs", "confidence", "clean_logits"}
    # The conditions and the times are embedded once, in float32.
    assert operations.types({"mm", "_scaled_dot_product_flash_attention"}) == HALF
    assert operations.types(NORMS) == FULL
    assert operations.names(torch.bfloat16) <= PRODUCTS | MOVES | CHEAP


def test_another_device_in_a_step_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these changes puts a tensor on the CPU, or reads one, in a step of a tiny model."""

    def training() -> None:
        module = generator_module("tiny")
        with Operations(numbers=(5,)):
            module.training_step(codes_batch(module.model.config), 0)

    def guarding() -> None:
        module = generator_module("tiny")
        for parameter in module.parameters():
            parameter.grad = torch.empty_like(parameter)
        module.configure_gradient_clipping(module.configure_optimizers(), 1.0, "norm")

    def sampling() -> None:
        with CUDA:
            model = BiGR(sizes("tiny"))
        settings = SamplerConfig(num_iterations=2, num_denoise_steps=3)
        with Operations(numbers=(16,), counts=(24, 0)):
            Sampler(settings, ExecutionConfig(mode="eager")).sample(
                model, torch.tensor([0, 1]), seeds=[0, 1]
            )

    cases: list[tuple[Any, str, str, str, Callable[[], None]]] = [
        (BinaryTranscoder, "loss", "signs = self.signed_input(x_t)",
         "signs = self.signed_input(x_t) * torch.ones(1, x_t.shape[1])", training),
        (MaskedTransformer, "hidden_states", "num_positions, rotary = x.shape[1], self.rotary",
         "num_positions, rotary = x.shape[1], self.rotary.cpu()", training),
        (GradientGuard, "apply", "is_bad = ~torch.isfinite(total)",
         "is_bad = ~torch.isfinite(total); assert not is_bad.item()", guarding),
        (DenoisingChain, "step", "signs = transcoder.signed_input(bits)",
         "signs = transcoder.signed_input(bits.cpu())", sampling),
        (Denoiser, "embed_time", "device=t.device", "device='cpu'", sampling),
    ]  # fmt: skip
    for owner, name, old, new, run in cases:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, mutated(getattr(owner, name), old, new))
            with pytest.raises(RuntimeError) as failure:
                run()
        assert "device" in str(failure.value) or "_local_scalar_dense" in str(failure.value)
    for run in (training, guarding, sampling):
        run()
