"""What the B-AE's training asks of the Trainer."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from bigr.models.discriminator import DiscriminatorConfig
from bigr.training.autoencoder_module import AutoencoderModule
from bigr.training.gan import GANConfig
from bigr.training.sharding import fully_sharded
from tests.models import tiny_autoencoder

SETTINGS = {"precision": "32-true", "gradient_clip_val": 0.5, "accumulate_grad_batches": 3}


def build(has_gan: bool = True, **settings: Any) -> AutoencoderModule:
    optimizer = functools.partial(torch.optim.Adam, lr=1e-3)
    sizes = DiscriminatorConfig(base_channels=8, num_layers=1)
    gan = GANConfig(optimizer=optimizer, discriminator=sizes) if has_gan else None
    return AutoencoderModule(tiny_autoencoder().config, optimizer, gan=gan, **settings)


def test_clipping_and_accumulation_move_to_the_module() -> None:
    module = build()
    found = module.configure_trainer({**SETTINGS, "strategy": "auto", "max_steps": 9}, 1)
    assert (found["gradient_clip_val"], found["accumulate_grad_batches"]) == (None, 1)
    assert (module.gradient_clip_val, module.accumulate_grad_batches) == (0.5, 3)
    assert (found["strategy"], found["max_steps"]) == ("auto", 9)
    plain = {**SETTINGS, "strategy": "auto"}
    assert build(has_gan=False).configure_trainer(plain, 4) == plain


@pytest.mark.parametrize("strategy", ["auto", "ddp", DDPStrategy(static_graph=True)])
def test_several_processes_look_for_unused_parameters(strategy: Any) -> None:
    found = build().configure_trainer({**SETTINGS, "strategy": strategy}, 2)["strategy"]
    assert isinstance(found, DDPStrategy)
    assert found is not strategy


def test_other_strategies_are_kept_or_refused() -> None:
    own = SingleDeviceStrategy("cpu")
    assert build().configure_trainer({**SETTINGS, "strategy": own}, 2)["strategy"] is own
    for has_gan in (True, False):
        with pytest.raises(ValueError, match="strategy=fsdp is for the generator"):
            build(has_gan).configure_trainer({**SETTINGS, "strategy": fully_sharded(2)}, 2)
    with pytest.raises(ValueError, match=r"trainer\.precision=16-mixed doesn't work with two"):
        build().configure_trainer({**SETTINGS, "precision": "16-mixed"}, 1)


def test_parts_are_all_parameters_once() -> None:
    module = build(has_gan=False)
    ours = [id(parameter) for part in module.parts().values() for parameter in part]
    assert sorted(ours) == sorted(id(parameter) for parameter in module.autoencoder.parameters())


@pytest.mark.parametrize("name", ["l1_weight", "code_weight", "quantizer_gain"])
def test_impossible_settings(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"AutoencoderModule\.{name} must be a number of at least"
    ):
        build(**{name: -1.0})
