"""Stages that time training steps of the generator from packed codes."""

from __future__ import annotations

import functools
import gc
import math
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.acceptance.context import Context, Values, exact_products, largest
from bigr.data.packing import pack_codes, unpack_codes
from bigr.models.bigr import BiGR
from bigr.models.config import BiGRConfig
from bigr.models.flops import mean_masked_share, training_flops
from bigr.models.training_draws import TrainingDraws, draw_training
from bigr.training.gradient_guard import GradientGuard
from bigr.training.optimizers import adamw
from tests import plain

BATCHES = {"l": [128, 64, 32], "xl": [64, 32, 16], "xxl": [32, 16, 8]}
"""Images per GPU: the largest of these that fits into memory."""
PLAIN: dict[str, torch.dtype | None] = {"bfloat16": torch.bfloat16, "float32": None}
"""Precisions of the plain step. The released code trains in bfloat16."""
DECAY = 0.9999
CLIP = 1.0
LEARNING_RATE = 1e-4
ROUNDS = 5
TRAINER_STEPS = 12
TRAINER_WARM_UP = 4

Step = Callable[[], Tensor]
"""Makes a training step and returns its loss."""


class Batch(NamedTuple):
    """Images of a training step as the data layer provides them."""

    packed: Tensor
    """(B, N*K/8) uint8, in the memory of the host."""
    labels: Tensor
    """(B,) int64, likewise."""


def l_eager(context: Context) -> Values:
    """Time a step of L, and the plain step."""
    return _timed(context, "l", "eager", with_plain=True)


def l_compiled(context: Context) -> Values:
    """Time a step of L whose loss is compiled as a whole."""
    return _timed(context, "l", "compiled")


def l_by_layer(context: Context) -> Values:
    """Time a step of L whose transformer layers are compiled by themselves, which is quicker."""
    return _timed(context, "l", "by_layer")


def xl_eager(context: Context) -> Values:
    """Time a step of XL."""
    return _timed(context, "xl", "eager")


def xl_compiled(context: Context) -> Values:
    """Time a step of XL whose loss is compiled as a whole."""
    return _timed(context, "xl", "compiled")


def xxl_eager(context: Context) -> Values:
    """Time a step of XXL."""
    return _timed(context, "xxl", "eager")


def xxl_compiled(context: Context) -> Values:
    """Time a step of XXL whose loss is compiled as a whole."""
    return _timed(context, "xxl", "compiled")


def _timed(context: Context, size: str, kind: str, *, with_plain: bool = False) -> Values:
    """Return speed and memory of a step with the largest batch that fits."""
    config = context.config(size)
    batches = [4] if context.is_tiny else BATCHES[size]

    def measure(batch: int) -> Values:
        began = time.perf_counter()
        step = our_step(context, config, batch, kind)
        first = float(step())
        context.synchronize()
        prepared = time.perf_counter() - began
        seconds = context.seconds(step, rounds=ROUNDS)
        return {
            **_speed(context, config, batch, seconds),
            "first_step_seconds": prepared,
            "memory_gb": context.peak_memory(),
            "loss": first,
            "loss_is_finite": math.isfinite(first + float(step())),
        }

    values = largest(batches, measure)
    context.release()
    if with_plain:
        values |= _plain_rates(context, config, values["batch"])
    rates = {**context.results.get("training_l", {}), **values}
    for name in PLAIN if size == "l" else ():
        if rate := rates.get(f"plain_{name}_images_per_second"):
            values[f"speedup_over_plain_{name}"] = values["images_per_second"] / rate
    return values


def _plain_rates(context: Context, config: BiGRConfig, batch: int) -> Values:
    """Return the images per second of the plain step, with the largest batch that fits."""
    values: Values = {}
    for name, dtype in PLAIN.items():

        def measure_plain(batch: int, dtype: torch.dtype | None = dtype) -> Values:
            step = plain_step(context, config, batch, dtype)
            with exact_products(is_exact=dtype is None):
                return {"batch": batch, "seconds": context.seconds(step, rounds=2)}

        found = largest([batch, max(1, batch // 2), max(1, batch // 4)], measure_plain)
        gc.collect()
        values[f"plain_{name}_images_per_second"] = found["batch"] / found["seconds"]
    return values


def _speed(context: Context, config: BiGRConfig, batch: int, seconds: float) -> Values:
    """Return the rates of a step, and the share of the GPU's peak that the model's products use."""
    share = mean_masked_share(config)
    rate = training_flops(config, masked_share=share) * batch / seconds
    values: Values = {
        "batch": batch,
        "step_seconds": seconds,
        "images_per_second": batch / seconds,
        "teraflops": rate / 1e12,
        "share_of_product": rate / 1e12 / context.rate("bfloat16_tflops"),
    }
    peak = context.results.get("machine", {}).get("peak_tflops")
    if peak:
        values["mfu"] = rate / 1e12 / peak
    return values


def synthetic(config: BiGRConfig, batch: int, *, is_pinned: bool) -> Batch:
    """Return random packed codes and labels in the memory of the host."""
    codes = torch.randint(2, (batch, config.seq_len, config.code_dim))
    labels = torch.randint(config.num_classes, (batch,))
    found = Batch(pack_codes(codes), labels)
    return Batch(*(part.pin_memory() for part in found)) if is_pinned else found


def draws_of(config: BiGRConfig, batch: int, device: torch.device) -> TrainingDraws:
    """Return draws with the mean number of masked tokens of training, so that steps are equal."""
    num_masked = round(mean_masked_share(config) * config.seq_len)
    return draw_training(config, batch, num_masked=num_masked, device=device)


def our_step(context: Context, config: BiGRConfig, batch: int, kind: str) -> Step:
    """Return the step that :class:`bigr.training.generator_module.GeneratorModule` makes.

    Args:
        context: with the device.
        config: of the generator.
        batch: number of images.
        kind: ``eager``, ``compiled`` (the whole loss), or ``by_layer`` (each layer by itself, with
            code that all layers share).
    """
    device, model = context.device, context.model(config).train()
    optimizer, guard = adamw(model, lr=LEARNING_RATE), GradientGuard(10)
    parameters = list(model.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    parts = {
        "transformer": list(model.transformer.parameters()),
        "transcoder": list(model.transcoder.parameters()),
    }
    host = synthetic(config, batch, is_pinned=context.is_cuda)
    backend = "inductor" if context.is_cuda else "eager"  # a CPU takes minutes for the former
    loss: Callable[..., Any] = model.loss
    if kind == "compiled":
        loss = torch.compile(loss, dynamic=False, backend=backend)
    elif kind == "by_layer":
        for layer in model.transformer.layers:
            layer.compile(dynamic=False, backend=backend)
    is_short = kind != "compiled"

    def step() -> Tensor:
        packed, labels = (part.to(device, non_blocking=True) for part in host)
        codes = unpack_codes(packed, config.code_dim)
        draws = draws_of(config, batch, device)
        draws = draws if is_short else draws._replace(num_masked=0)
        with torch.autocast(device.type, torch.bfloat16):
            found: Tensor = loss(codes, labels, draws=draws, masked_only=is_short).loss
        found.backward()
        guard.apply(optimizer, parts, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - DECAY)
        return found.detach()

    return step


def plain_step(context: Context, config: BiGRConfig, batch: int, dtype: torch.dtype | None) -> Step:
    """Return a step with the habits of the released code.

    Attention has a mask of ones, the loss is computed for all tokens, and clipping, AdamW and the
    moving average treat one parameter after the other.

    Args:
        context: with the device.
        config: of the generator.
        batch: number of images.
        dtype: of autocast; None computes in float32.
    """
    device, model = context.device, context.model(config).train()
    optimizer = adamw(model, lr=LEARNING_RATE, fused=False)
    for group in optimizer.param_groups:
        group["foreach"] = False
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    host = synthetic(config, batch, is_pinned=context.is_cuda)
    plain.rotations.cache_clear()

    def step() -> Tensor:
        codes = unpack_codes(host.packed.to(device), config.code_dim)
        labels = host.labels.to(device)
        draws = draws_of(config, batch, device)
        with torch.autocast(device.type, dtype, enabled=dtype is not None), device:
            found = plain_loss(model, codes, labels, draws)
        found.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP, foreach=False)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                average[name].mul_(DECAY).add_(parameter, alpha=1 - DECAY)
        return found.detach()

    return step


def plain_loss(model: BiGR, codes: Tensor, labels: Tensor, draws: TrainingDraws) -> Tensor:
    """Return the loss by the equations of :mod:`tests.plain`."""
    t = draws.timesteps.flatten()
    keep = (1 - t / model.config.num_diffusion_steps)[:, None]
    x_t = (draws.noise.flatten(0, 1) < keep * codes.flatten(0, 1) + (1 - keep) / 2).float()
    weights = dict(model.named_parameters())
    return plain.loss(weights, model.config, codes, labels, draws.is_masked, t, x_t)


def trainer(context: Context) -> Values:
    """Time L in Lightning's Trainer, with EMA, logging and progress as ``bigr.train`` has them."""
    import lightning

    from bigr.training.callbacks.ema import EMA
    from bigr.training.callbacks.loss_breakdown import LossBreakdown
    from bigr.training.data.batch import Batch as TrainingBatch
    from bigr.training.generator_module import GeneratorModule

    config = context.config("l")
    batch = int(context.results.get("training_l", {}).get("batch", context.count(64, 4)))
    host = synthetic(config, batch, is_pinned=context.is_cuda)

    class Data(lightning.LightningDataModule):
        def train_dataloader(self) -> Any:
            batches = [TrainingBatch(host.labels, codes=host.packed)] * TRAINER_STEPS
            return torch.utils.data.DataLoader(
                batches,  # type: ignore[arg-type]
                batch_size=None,
                collate_fn=lambda batch: batch,
            )

        def on_after_batch_transfer(self, batch: Any, _: int) -> Any:
            return batch._replace(codes=unpack_codes(batch.codes, config.code_dim))

    class Clock(lightning.Callback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step in (TRAINER_WARM_UP, TRAINER_STEPS):
                context.synchronize()
                self.times.append(time.perf_counter())

    clock = Clock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about workers of loaders, of which there are none
        fitted = lightning.Trainer(
            accelerator=context.device.type, devices=1, precision="bf16-mixed",
            max_steps=TRAINER_STEPS, gradient_clip_val=CLIP, logger=False, log_every_n_steps=4,
            callbacks=[EMA(DECAY), LossBreakdown(), clock], enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        )  # fmt: skip
        optimizer = functools.partial(adamw, lr=LEARNING_RATE)
        fitted.fit(GeneratorModule(config, optimizer, compile=False), Data())
    seconds = (clock.times[1] - clock.times[0]) / (TRAINER_STEPS - TRAINER_WARM_UP)
    values = _speed(context, config, batch, seconds)
    alone = context.results.get("training_l", {}).get("step_seconds")
    if alone:
        values["time_over_step_alone"] = seconds / alone
    return values
