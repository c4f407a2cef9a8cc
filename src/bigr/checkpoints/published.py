"""The published files that are needed in addition to the models, by short name."""

from __future__ import annotations

from bigr.checkpoints.cached import CachedFile

ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/imagenet"

INCEPTION = CachedFile(
    name="weights-inception-2015-12-05-6726825d.pth",
    hash="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    folder="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0",
    key="inception_file",
    purpose="FID",
    short="inception",
)
VGG = CachedFile(
    name="vgg16-397923af.pth",
    hash="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    folder="https://download.pytorch.org/models",
    key="perceptual_file",
    purpose="LPIPS",
    short="vgg",
)
DINOV2 = CachedFile(
    name="dinov2_vitl14_pretrain.pth",
    hash="d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
    folder="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14",
    key="evaluation.weights",
    purpose="evaluation.network=dinov2",
    short="dinov2",
)
ADM_256 = CachedFile(
    name="VIRTUAL_imagenet256_labeled.npz",
    hash="",
    folder=f"{ADM}/256",
    key="reference",
    purpose="FID against ImageNet at 256 pixels",
    short="adm256",
    use="add reference={path} to the command",
)
ADM_512 = CachedFile(
    name="VIRTUAL_imagenet512.npz",
    hash="",
    folder=f"{ADM}/512",
    key="reference",
    purpose="FID against ImageNet at 512 pixels",
    short="adm512",
    use="add reference={path} to the command",
)
PUBLISHED = {file.short: file for file in (INCEPTION, VGG, DINOV2, ADM_256, ADM_512)}
