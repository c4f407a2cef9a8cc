"""Training through Lightning: exact after an interruption, averaged right, with what it saves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from bigr import (
    BiGRConfig,
    BinaryAutoencoderConfig,
    SamplerConfig,
    load_autoencoder,
    load_generator,
)
from bigr.checkpoints.native import save_autoencoder
from bigr.models.discriminator import DiscriminatorConfig
from bigr.training.autoencoder_module import AutoencoderModule
from bigr.training.base_module import TrainingModule
from bigr.training.callbacks.checkpointing import Checkpoints
from bigr.training.callbacks.ema import EMA
from bigr.training.callbacks.pictures import ReconstructionGrid, SampleGrid
from bigr.training.callbacks.weight_export import ExportWeights
from bigr.training.checkpoint_files import saved_checkpoints
from bigr.training.data.image_data import DigitsDataModule
from bigr.training.gan import GANConfig
from bigr.training.generator_module import GeneratorModule
from bigr.training.optimizers import adamw, warmup_cosine
from tests.models import tiny_autoencoder

SIZES = BinaryAutoencoderConfig(
    code_dim=6,
    image_size=8,
    base_channels=32,
    channel_multipliers=(1, 1),
    embed_dim=32,
    res_blocks=1,
    attn_resolutions=(),
)
GENERATOR = BiGRConfig(
    dim=32,
    num_layers=2,
    num_heads=2,
    grid_size=4,
    code_dim=6,
    num_classes=10,
    denoiser_dim=32,
    denoiser_blocks=1,
    feed_forward_multiple=32,
    dropout=0.2,
)
BATCH = 256  # five batches an epoch
DECAY = 0.8


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_autoencoder(tiny_autoencoder(), tmp_path_factory.mktemp("codes") / "a.safetensors")


def build(kind: str, codes: Path) -> TrainingModule:
    lightning.seed_everything(3, verbose=False)
    schedule = functools.partial(warmup_cosine, total_steps=40, warmup_steps=2)
    if kind == "generator":
        return GeneratorModule(
            GENERATOR,
            functools.partial(adamw, lr=1e-2),
            lr_scheduler=schedule,
            autoencoder=str(codes),
            seed=5,
        )
    optimizer = functools.partial(torch.optim.AdamW, lr=1e-2)
    gan = None
    if kind == "gan":
        sizes = DiscriminatorConfig(base_channels=8, num_layers=1)
        gan = GANConfig(optimizer=optimizer, start_step=4, discriminator=sizes)
    return AutoencoderModule(
        SIZES, optimizer, mse_weight=1.0, gan=gan, lr_scheduler=schedule, seed=5
    )


def fit(
    module: TrainingModule,
    folder: Path,
    steps: int,
    *callbacks: Callback,
    resume: Path | None = None,
    **settings: Any,
) -> lightning.Trainer:
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0 if module.automatic_optimization else None,
        use_distributed_sampler=False,
        default_root_dir=folder,
        **{"enable_checkpointing": False, "limit_val_batches": 0, **settings},
    )
    data = DigitsDataModule(image_size=8, batch_size=BATCH, seed=7)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    return trainer


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        self.values.append(outputs["loss"].item())


class Stop(Callback):
    """Breaks off in the middle, as a signal or a crash would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


def equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def run_twelve_steps(
    kind: str, codes: Path, folder: Path, *callbacks: Callback, resume: Path | None = None
) -> dict[str, Any]:
    """Train, and return what a checkpoint of the end holds."""
    module = build(kind, codes)
    callbacks = (*callbacks, EMA(DECAY))
    trainer = fit(module, folder, 12, *callbacks, resume=resume, enable_checkpointing=True)
    trainer.save_checkpoint(folder / "end.ckpt")
    return dict(torch.load(folder / "end.ckpt", weights_only=True))


@pytest.fixture(scope="module")
def uninterrupted(
    codes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[list[float], dict[str, Any]]]:
    """Losses and end of a run that is left alone, of which each kind needs one."""

    @functools.cache
    def of(kind: str) -> tuple[list[float], dict[str, Any]]:
        losses, folder = Losses(), tmp_path_factory.mktemp(kind)
        saver = Checkpoints(str(folder / "saved"))
        return losses.values, run_twelve_steps(kind, codes, folder, losses, saver)

    return of


@pytest.mark.parametrize("kind", ["generator", "autoencoder", "gan"])
@pytest.mark.parametrize(("stop", "on_exception"), [(3, False), (5, False), (5, True), (8, True)])
def test_resumed_equals_uninterrupted(
    tmp_path: Path,
    codes: Path,
    uninterrupted: Callable[[str], tuple[list[float], dict[str, Any]]],
    kind: str,
    stop: int,
    on_exception: bool,
) -> None:
    """Weights, average, optimiser and losses, bit for bit, in mid-epoch and at its boundary.

    Once from a checkpoint of the last step, once from the one that is saved on the way out, when
    a batch has already been fetched.
    """

    def saver() -> Checkpoints:
        steps = 100 if on_exception else 1
        return Checkpoints(str(tmp_path / "saved"), every_n_steps=steps, keep_last=1)

    whole, first = uninterrupted(kind)
    broken, rest = Losses(), Losses()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run_twelve_steps(kind, codes, tmp_path, Stop(stop), broken, saver())
    (saved,) = saved_checkpoints(tmp_path / "saved")
    assert saved.name == f"step_{stop:08d}.ckpt"
    second = run_twelve_steps(kind, codes, tmp_path, rest, saver(), resume=saved)
    assert len(whole) == len(set(whole)) == 12
    assert broken.values + rest.values == whole
    assert equal(first["state_dict"], second["state_dict"])
    assert equal(first["current_model_state"], second["current_model_state"])
    assert not equal(first["state_dict"], first["current_model_state"])
    assert len(first["optimizer_states"]) == (2 if kind == "gan" else 1)
    for ours, theirs in zip(first["optimizer_states"], second["optimizer_states"], strict=True):
        assert len(ours["state"]) > 3
        for name in ("exp_avg", "exp_avg_sq", "step"):
            for parameter, state in ours["state"].items():
                assert torch.equal(state[name], theirs["state"][parameter][name])


@pytest.mark.parametrize("every", [1, 3])
def test_average_is_the_formula(tmp_path: Path, codes: Path, every: int) -> None:
    """e <- decay e + (1 - decay) w after every n-th step, from the initial weights."""
    history: list[dict[str, torch.Tensor]] = []

    class Record(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            history.append({k: v.clone() for k, v in module.model.state_dict().items()})

    module = build("generator", codes)
    initial = {name: value.double() for name, value in module.model.state_dict().items()}
    fit(module, tmp_path, 9, Record(), EMA(DECAY, every))
    average = {name: tensor.clone() for name, tensor in initial.items()}
    for weights in history[every - 1 :: every]:
        for name, tensor in weights.items():
            average[name] = DECAY * average[name] + (1 - DECAY) * tensor.double()
    final = module.model.state_dict()
    for name, tensor in average.items():
        torch.testing.assert_close(final[name].double(), tensor, rtol=1e-5, atol=1e-6)
    assert not torch.equal(final["transformer.norm.weight"], history[-1]["transformer.norm.weight"])


def test_validation_sees_the_average_and_an_exception_there_swaps_nothing(
    tmp_path: Path, codes: Path
) -> None:
    class Break(Callback):
        def on_validation_batch_start(self, *_: Any) -> None:
            raise RuntimeError("lost the disk")

    saver = Checkpoints(str(tmp_path))
    with pytest.raises(RuntimeError, match="lost the disk"):
        fit(
            build("generator", codes),
            tmp_path,
            10,
            EMA(DECAY),
            Break(),
            saver,
            enable_checkpointing=True,
            limit_val_batches=1,
        )
    module = build("generator", codes)
    fit(module, tmp_path, 5, EMA(DECAY))
    saved = next(iter(tmp_path.glob("*.ckpt")))
    checkpoint = torch.load(saved, weights_only=True)
    average = {k.removeprefix("model."): v for k, v in checkpoint["state_dict"].items()}
    assert equal(average, module.model.state_dict())
    assert not equal(checkpoint["state_dict"], checkpoint["current_model_state"])


@pytest.mark.parametrize(
    ("kind", "load"), [("generator", load_generator), ("autoencoder", load_autoencoder)]
)
def test_checkpoints_and_exports_hold_the_average_and_the_configuration(
    tmp_path: Path, codes: Path, kind: str, load: Callable[[Path], Any]
) -> None:
    module = build(kind, codes)
    module.run_config = {"seed": 5, "task": {"nested": [1, 2]}}
    saver = Checkpoints(str(tmp_path))
    fit(
        module,
        tmp_path,
        4,
        EMA(DECAY),
        saver,
        ExportWeights(str(tmp_path)),
        enable_checkpointing=True,
    )
    checkpoint = torch.load(tmp_path / "step_00000004.ckpt", weights_only=True)
    assert checkpoint["bigr"]["run"] == module.run_config
    network = module.model if kind == "generator" else module.autoencoder
    for path in (tmp_path / "step_00000004.ckpt", tmp_path / f"{kind}.safetensors"):
        loaded = load(path)
        assert loaded.config == network.config
        assert equal(loaded.state_dict(), network.state_dict())
    assert not any("quantizer" in name for name in checkpoint["state_dict"]) or kind != "generator"


def test_pictures_are_drawn_and_change_nothing(tmp_path: Path, codes: Path) -> None:
    """Training with and without sample grids ends with the same weights."""
    sampler = SamplerConfig(num_iterations=2, num_denoise_steps=3, guidance_scale=1.0)
    grids = {
        "generator": SampleGrid(sampler, num_per_class=2, folder=str(tmp_path)),
        "autoencoder": ReconstructionGrid(num_images=4, columns=2, folder=str(tmp_path)),
    }
    for kind, grid in grids.items():
        drawn, plain = build(kind, codes), build(kind, codes)
        fit(drawn, tmp_path, 6, EMA(DECAY), grid, limit_val_batches=2)
        fit(plain, tmp_path, 6, EMA(DECAY))
        assert equal(drawn.state_dict(), plain.state_dict())
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "samples_0000005.png",
        "reconstructions_0000005.png",
    }


@pytest.mark.parametrize("kind", ["generator", "autoencoder"])
def test_loss_falls(tmp_path: Path, codes: Path, kind: str) -> None:
    losses = Losses()
    fit(build(kind, codes), tmp_path, 40, losses)
    first, last = sum(losses.values[:5]), sum(losses.values[-5:])
    assert last < {"generator": 0.96, "autoencoder": 0.85}[kind] * first


def test_wrong_autoencoder_is_refused(codes: Path) -> None:
    module = GeneratorModule(
        BiGRConfig(**{**vars(GENERATOR), "code_dim": 7}),
        functools.partial(adamw, lr=1e-2),
        autoencoder=str(codes),
    )
    with pytest.raises(ValueError, match=r"code_dim 7 .* decodes code_dim 6"):
        module.check(DigitsDataModule(image_size=8))


def test_images_without_an_autoencoder_are_refused(tmp_path: Path) -> None:
    module = GeneratorModule(GENERATOR, functools.partial(adamw, lr=1e-2))
    with pytest.raises(ValueError, match=r"set task\.autoencoder to a B-AE that encodes them"):
        fit(module, tmp_path, 1)
