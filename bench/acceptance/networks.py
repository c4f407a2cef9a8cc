"""Stages for the networks around the generator, and the projected time of an evaluation."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.acceptance.context import Context, Values, exact_products, largest
from bigr.losses.adversarial import adaptive_weight, autoencoder_loss, discriminator_loss
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.config import BinaryAutoencoderConfig
from bigr.models.discriminator import DiscriminatorConfig, PatchDiscriminator

INCEPTION_SIZE = 299
INCEPTION_CLASSES = 1008
NUM_SAMPLES = 50_000


def autoencoder(context: Context) -> Values:
    """Time encoding, decoding, and training with a discriminator, at 256x256 pixels in bfloat16.

    LPIPS, whose weights would have to be downloaded, is left out.
    """
    values: Values = {}
    with context.device:
        model = BinaryAutoencoder(_config(context))
    batch = context.count(64, 2)
    size = model.config.image_size
    images = torch.rand(batch, 3, size, size, device=context.device)
    grid = (batch, model.config.code_dim, model.config.grid_size, model.config.grid_size)
    codes = torch.randint(2, grid, device=context.device).float()
    formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    for name, layout in formats.items():
        model = model.to(memory_format=layout)
        pictures = images.to(memory_format=layout)

        encode = functools.partial(_in_bfloat16, context, model.encode, pictures)
        values[f"encode_{name}_images_per_second"] = batch / context.seconds(encode, rounds=2)
    decode = functools.partial(_in_bfloat16, context, model.decode, codes)
    values["decode_images_per_second"] = batch / context.seconds(decode, rounds=2)
    for name, layout in formats.items():
        found = largest(
            [16, 8, 4] if not context.is_tiny else [2],
            lambda count, layout=layout: _training_step(context, count, layout),
        )
        values |= {f"train_{name}_{key}": value for key, value in found.items()}
    return values


def _in_bfloat16(context: Context, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad(), torch.autocast(context.device.type, torch.bfloat16):
        return function(x)


def _config(context: Context) -> BinaryAutoencoderConfig:
    if not context.is_tiny:
        return BinaryAutoencoderConfig(code_dim=24, image_size=256)
    return BinaryAutoencoderConfig(
        code_dim=8, image_size=16, base_channels=32, channel_multipliers=(1, 1), embed_dim=32,
        res_blocks=1, attn_resolutions=(),
    )  # fmt: skip


def _training_step(context: Context, batch: int, layout: torch.memory_format) -> Values:
    """Return the speed of a step of both networks: L1, hinge loss and adaptive weight."""
    with context.device:
        model = BinaryAutoencoder(_config(context)).to(memory_format=layout)
        critic = PatchDiscriminator(DiscriminatorConfig(num_layers=context.count(3, 1)))
    critic = critic.to(memory_format=layout)
    size = model.config.image_size
    images = torch.rand(batch, 3, size, size, device=context.device).to(memory_format=layout)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizers = [torch.optim.Adam(trained, fused=True)]
    optimizers.append(torch.optim.Adam(critic.parameters(), fused=True))

    def step() -> None:
        with torch.autocast(context.device.type, torch.bfloat16):
            output = model(images)
            error = F.l1_loss(output.reconstruction.float(), images)
            critic.requires_grad_(False)
            fooled = autoencoder_loss(critic(output.reconstruction).float())
            weight = adaptive_weight(error, fooled, model.last_weight)
            (error + 0.1 * weight * fooled).backward()
            critic.requires_grad_(True)
            fake = critic(output.reconstruction.detach()).float()
            discriminator_loss(critic(images).float(), fake).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    seconds = context.seconds(step, rounds=3)
    return {"batch": batch, "images_per_second": batch / seconds}


def inception(context: Context) -> Values:
    """Time the pool features of Inception in float32, with torchvision's network of that shape."""
    from torchvision.models import inception_v3

    with context.device:
        model = inception_v3(
            weights=None, num_classes=INCEPTION_CLASSES, aux_logits=False, init_weights=False
        ).eval()
    batch, size = context.count(64, 1), context.count(256, 32)
    images = torch.randint(256, (batch, 3, size, size), device=context.device).float()

    def features() -> Tensor:
        with torch.no_grad(), exact_products():
            shape = (INCEPTION_SIZE, INCEPTION_SIZE)
            return model(F.interpolate(images, shape, mode="bilinear") / 127.5 - 1)

    return {"batch": batch, "images_per_second": batch / context.seconds(features, rounds=2)}


def fid_50k(context: Context) -> Values:
    """Project the time of an evaluation of L from the rates of the earlier stages.

    Raises:
        ValueError: if one of these stages has no result.
    """
    sources = {
        "sampling": ("sampling_l_64", "images_per_second"),
        "decoding": ("autoencoder", "decode_images_per_second"),
        "inception": ("inception", "images_per_second"),
    }
    values: Values = {}
    for name, (stage, key) in sources.items():
        rate = context.results.get(stage, {}).get(key)
        if rate is None:
            raise ValueError(f"the stage {stage} has not measured {key}.")
        values[f"{name}_minutes"] = NUM_SAMPLES / rate / 60
    values["minutes"] = sum(values.values())
    return values
