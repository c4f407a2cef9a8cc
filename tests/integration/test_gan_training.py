"""The B-AE against a discriminator: one step as one process would make it, and what ends a run."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from bigr import BinaryAutoencoderConfig
from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.load import load_discriminator
from bigr.checkpoints.native import save_autoencoder
from bigr.data.digits import load_digits
from bigr.losses.adversarial import adaptive_weight, autoencoder_loss, discriminator_loss
from bigr.models.discriminator import DiscriminatorConfig, PatchDiscriminator
from bigr.training.autoencoder_module import AutoencoderModule
from bigr.training.callbacks.collapse import CollapseError
from bigr.training.data.batch import Batch
from bigr.training.gan import GANConfig
from tests.models import randomise, tiny_autoencoder
from tests.processes import python

SIZES: dict[str, Any] = {
    "code_dim": 6,
    "image_size": 16,
    "base_channels": 32,
    "channel_multipliers": (1, 1, 1),
    "embed_dim": 32,
    "res_blocks": 1,
    "attn_resolutions": (),
}
CRITIC = DiscriminatorConfig(base_channels=8, num_layers=2)


def build(start_step: int = 0, lr: float = 1.0, **settings: Any) -> AutoencoderModule:
    """Plain SGD: the change of a weight is its gradient."""
    lightning.seed_everything(3, verbose=False)
    optimizer = functools.partial(torch.optim.SGD, lr=lr)
    gan = GANConfig(optimizer=optimizer, start_step=start_step, discriminator=CRITIC)
    module = AutoencoderModule(
        BinaryAutoencoderConfig(**SIZES), optimizer, gan=gan, **{"code_weight": 0.1, **settings}
    )
    randomise(module.autoencoder, 0, 0.1)
    if module.discriminator is not None:
        randomise(module.discriminator, 1, 0.3)
    module.autoencoder.quantize = likelier_bits  # type: ignore[method-assign]
    return module


def likelier_bits(bit_probs: torch.Tensor, **_: Any) -> torch.Tensor:
    return (bit_probs.detach() > 0.5).to(bit_probs.dtype)


def images() -> torch.Tensor:
    return torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def run(
    module: AutoencoderModule, batches: list[torch.Tensor], **settings: Any
) -> lightning.Trainer:
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **{"devices": 1, **settings},
    )
    data = [Batch(torch.zeros(len(part), dtype=torch.long), images=part) for part in batches]
    trainer.fit(module, DataLoader(data, batch_size=None))  # type: ignore[arg-type]
    return trainer


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def test_a_step_is_the_formulas() -> None:
    """Both networks' changes, from losses written out on copies of them."""
    module = build()
    before = weights(module)
    copy = build()
    x = images()
    output = copy.autoencoder(x)
    reconstruction = torch.nn.functional.l1_loss(output.reconstruction, x)
    assert copy.discriminator is not None
    gan = autoencoder_loss(copy.discriminator(output.reconstruction))
    weight = adaptive_weight(reconstruction, gan, copy.autoencoder.last_weight)
    assert 0 < weight < 1
    bits = (output.bit_probs * (1 - output.bit_probs)).mean()
    loss = reconstruction + weight * gan + 0.1 * bits
    parameters = {n: p for n, p in copy.autoencoder.named_parameters() if p.requires_grad}
    expected = dict(
        zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True)
    )
    d_loss = discriminator_loss(
        copy.discriminator(x), copy.discriminator(output.reconstruction.detach())
    )
    critics = dict(copy.discriminator.named_parameters())
    expected_critic = dict(
        zip(critics, torch.autograd.grad(d_loss, list(critics.values())), strict=True)
    )
    trainer = run(module, [x])
    assert trainer.global_step == 1
    after = weights(module)
    for prefix, gradients in (("autoencoder.", expected), ("discriminator.", expected_critic)):
        for name, gradient in gradients.items():
            change = before[prefix + name] - after[prefix + name]
            assert torch.allclose(change, gradient, rtol=1e-4, atol=1e-7), name
    assert trainer.callback_metrics["train/gan_weight"].item() == pytest.approx(weight.item())
    norm = torch.stack([g.norm() for g in expected.values()]).norm()
    logged = trainer.callback_metrics["train/grad_norm"]
    assert logged.item() == pytest.approx(norm.item(), rel=1e-4)


def test_nothing_adversarial_before_the_start() -> None:
    module = build(start_step=3, lr=0.01)
    before = weights(module)
    run(module, [images()] * 3)
    middle = weights(module)
    critics = [name for name in before if name.startswith("discriminator.")]
    assert all(torch.equal(before[name], middle[name]) for name in critics)
    run(module, [images()] * 5)
    moved = [name for name in critics if not torch.equal(middle[name], weights(module)[name])]
    assert len(moved) >= len(critics) - 1  # the last bias' gradients may cancel


def test_accumulation_and_clipping() -> None:
    """Two batches of 4 in one step; BatchNorm sees each of them alone, so without the GAN."""
    halves, whole = build(start_step=100), build(start_step=100)
    halves.accumulate_grad_batches = 2
    before = weights(whole)
    trainer = run(halves, list(images().split(4)))
    assert trainer.global_step == 1
    run(whole, [images()])
    ours, theirs = weights(halves), weights(whole)
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], atol=1e-6), name
    clipped = build(start_step=100)
    clipped.gradient_clip_val = 0.01
    run(clipped, [images()])
    change = [before[name] - value for name, value in weights(clipped).items()]
    norm = torch.stack([part.float().norm() for part in change]).norm()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


def test_recomputed_activations_change_nothing() -> None:
    plain, frugal = build(), build(recompute_activations=True)
    run(plain, [images()] * 2)
    run(frugal, [images()] * 2)
    for name, value in weights(plain).items():
        assert torch.equal(value, weights(frugal)[name]), name


@pytest.mark.parametrize("kind", ["gan", "automatic"])
@pytest.mark.parametrize("fused", [True, False])
def test_a_gradient_that_is_not_finite_changes_no_weight(kind: str, fused: bool) -> None:
    """Two steps are skipped and counted, the third in a row ends the run."""
    optimizer = functools.partial(torch.optim.AdamW, lr=0.1, fused=fused)
    gan = GANConfig(optimizer=optimizer, start_step=0, discriminator=CRITIC)
    module = AutoencoderModule(
        BinaryAutoencoderConfig(**SIZES),
        optimizer,
        gan=gan if kind == "gan" else None,
        max_skipped_steps=2,
    )
    good, bad = images(), torch.full_like(images(), float("nan"))
    trainer = run(module, [good, bad, bad, good])
    assert trainer.callback_metrics["train/skipped_steps"] == 2
    assert module.guard.in_a_row == 0
    before = weights(module)
    learnt = [name for name in before if "running" not in name and "num_batches" not in name]
    assert all(torch.isfinite(before[name]).all() for name in learnt)
    with pytest.raises(CollapseError, match="wasn't finite in 3 steps in a row, up to step 2"):
        run(module, [bad] * 4)
    for name in learnt:
        assert torch.equal(before[name], weights(module)[name]), name


DDP = """
import sys, torch, lightning
sys.path.insert(0, {root!r})
from tests.integration.test_gan_training import build, images, run, weights
import torch.distributed as dist
import os
rank = int(os.environ.get("LOCAL_RANK", 0))
module = build()
trainer = run(module, [images()[rank::2]], devices=2, strategy="ddp_find_unused_parameters_true")
if trainer.is_global_zero:
    torch.save(weights(module), "after.pt")
"""


def test_two_processes_step_as_one_with_the_double_batch(tmp_path: Path) -> None:
    """Adaptive weight, BatchNorm's statistics and their gradients are those of the whole batch."""
    (tmp_path / "two.py").write_text(DDP.format(root=str(Path(__file__).parents[2])))
    result = python("two.py", cwd=tmp_path, OMP_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr
    two = torch.load(tmp_path / "after.pt", weights_only=True)
    module = build()
    before = weights(module)
    run(module, [images()])
    one = weights(module)
    for network in ("autoencoder.", "discriminator."):
        names = [n for n in one if n.startswith(network) and one[n].is_floating_point()]
        ours, theirs, start = (
            torch.cat([values[name].flatten() for name in names]).double()
            for values in (two, one, before)
        )
        difference = (ours - theirs).norm() / (theirs - start).norm()
        assert difference < 1e-5, network


def test_finetuning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained = tiny_autoencoder(seed=5, **{**SIZES, "code_dim": 6})
    critic = PatchDiscriminator(CRITIC)
    path = save_autoencoder(trained, tmp_path / "a.safetensors", discriminator=critic)
    caplog.set_level("INFO")
    optimizer = functools.partial(torch.optim.SGD, lr=1.0)
    gan = GANConfig(optimizer=optimizer, discriminator=CRITIC)
    same = AutoencoderModule(
        BinaryAutoencoderConfig(**SIZES), optimizer, gan=gan, init_from=str(path)
    )
    for name, value in weights(same.autoencoder).items():
        assert torch.equal(value, trained.state_dict()[name])
    assert same.discriminator is not None
    for name, value in weights(same.discriminator).items():
        assert torch.equal(value, critic.state_dict()[name])
    other = AutoencoderModule(
        BinaryAutoencoderConfig(**{**SIZES, "code_dim": 9}), optimizer, init_from=str(path)
    )
    new = "parameters: quantizer.proj, quantizer.embedding (6 to 9 bits)"
    assert new in caplog.text
    for name, value in weights(other.autoencoder).items():
        if not name.startswith("quantizer."):
            assert torch.equal(value, trained.state_dict()[name])
    with pytest.raises(CheckpointError, match="only code_dim may differ"):
        AutoencoderModule(
            BinaryAutoencoderConfig(**{**SIZES, "base_channels": 64}),
            optimizer,
            init_from=str(path),
        )


def test_finetuning_from_released_files(conformance: Path) -> None:
    sizes = json.loads((conformance / "bae_tiny.json").read_text())
    assert sizes
    optimizer = functools.partial(torch.optim.SGD, lr=1.0)
    from bigr import load_autoencoder

    released = load_autoencoder(conformance / "bae_tiny.th")
    critic = load_discriminator(conformance / "bae_tiny.th")
    assert critic is not None
    gan = GANConfig(optimizer=optimizer, discriminator=critic.config)
    module = AutoencoderModule(
        released.config, optimizer, gan=gan, init_from=str(conformance / "bae_tiny.th")
    )
    assert module.discriminator is not None
    for ours, theirs in ((module.autoencoder, released), (module.discriminator, critic)):
        for name, value in weights(ours).items():
            assert torch.equal(value, theirs.state_dict()[name])


def test_without_vgg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match=r"vgg16-397923af\.pth.*task\.perceptual_weight=0 trains"):
        build(perceptual_weight=1.0)


def test_reconstruction_table(tmp_path: Path) -> None:
    """``evaluation=reconstruction`` on digits, against the figures computed plainly."""
    trained = tiny_autoencoder(seed=5, **SIZES)
    path = save_autoencoder(trained, tmp_path / "a.safetensors")
    result = python(
        "-m",
        "bigr.evaluate",
        "evaluation=reconstruction",
        f"autoencoder={path}",
        "data=digits",
        "resolution=16",
        "evaluation.deterministic=true",
        "evaluation.count=100",
        "hydra.run.dir=out",
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    x = load_digits("test", 16).images[:100]
    with torch.no_grad():
        output = trained(x, deterministic=True)
    y = output.reconstruction.clamp(0, 1)
    assert found["l1"] == pytest.approx((x - y).abs().mean().item(), rel=1e-4)
    psnr = (-10 * (x - y).square().mean((1, 2, 3)).log10()).mean().item()
    assert found["psnr"] == pytest.approx(psnr, rel=1e-4)
    assert found["bits"]["mean"] == pytest.approx(output.codes.mean((0, 2, 3)).tolist(), abs=1e-5)
    assert found["count"] == 100
    assert f"{found['psnr']:.2f}" in result.stdout
    picture = np.asarray(Image.open(tmp_path / "out" / "reconstructions.png"))
    assert picture.shape[0] == 8 * 66 + 2
    wrong = python(
        "-m",
        "bigr.evaluate",
        "evaluation=reconstruction",
        f"autoencoder={path}",
        "data=digits",
        "resolution=16",
        "resolution.image_size=32",
        cwd=tmp_path,
    )
    assert wrong.returncode == 2
    assert "is for images of 16 pixels, but data.image_size is 32" in wrong.stderr


def test_bits_are_watched() -> None:
    module = build()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = [Batch(torch.zeros(4, dtype=torch.long), images=part) for part in images().split(4)]
    trainer.validate(module, DataLoader(data, batch_size=None), verbose=False)  # type: ignore[arg-type]
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    with torch.no_grad():
        codes = module.autoencoder.eval()(images()).codes
    mean = codes.mean((0, 2, 3))
    assert found["val/bits/dead"] == ((mean < 0.01) | (mean > 0.99)).sum()
    assert 0 <= found["val/bits/usage_entropy_min"] <= found["val/bits/usage_entropy"] <= 1
    with torch.no_grad():
        y = module.autoencoder(images()).reconstruction.clamp(0, 1)
    psnr = (-10 * (y - images()).square().mean((1, 2, 3)).log10()).mean()
    assert found["val/psnr"] == pytest.approx(psnr.item(), rel=1e-4)
    assert -1 <= found["val/ssim"] <= 1
