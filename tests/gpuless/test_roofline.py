"""Bytes and FLOP of the roofline against PyTorch's operators, on tensors without values.

A dispatch mode adds up the inputs and outputs of every operator: of the forward pass on fake CUDA,
and of the backward pass on fake tensors of the CPU, because the backward pass needs a CUDA runtime.
There, norms and dropout are replaced by the operators that CUDA has for them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from bench import roofline
from bench.step_work import (
    BACKWARD,
    CAST,
    FORWARD,
    LAYER_PASSES,
    NORM_PASSES,
    SWIGLU,
    UPDATE,
    Work,
    chain_step,
    product,
    training_step,
)
from bigr import BiGR, BiGRConfig
from bigr.models import attention
from bigr.models.adaln import RMSNorm
from bigr.models.layers import FeedForward
from bigr.models.products import Products
from bigr.models.rope import apply_rotary, rotary_table
from bigr.models.training_draws import draw_training
from bigr.models.transcoder import BinaryTranscoder
from bigr.sampling.denoising_chain import DenoisingChain, TokenDenoiser
from bigr.training.optimizers import adamw
from tests.conftest import REPOSITORY
from tests.gpuless.fake_cuda import CUDA, fake_cuda

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
BATCH, MASKED = 4, 163
ATTENTION = "_scaled_dot_product_flash_attention"
FUSED_NORM, FUSED_NORM_BACKWARD, CPU_ATTENTION, CPU_ATTENTION_BACKWARD = (
    getattr(torch.ops.aten, name)
    for name in (
        "_fused_rms_norm", "_fused_rms_norm_backward",
        f"{ATTENTION}_for_cpu", f"{ATTENTION}_for_cpu_backward",
    )
)  # fmt: skip
(LERP,) = (getattr(torch, name) for name in ("_foreach_lerp_",))
NO_TRAFFIC = ("device", "detach", "empty", "zeros", "_unsafe_view", "scalar_tensor", "new_zeros")
GROUPS = {
    "mm": "products", "addmm": "products", "native_dropout": "dropout", ATTENTION: "attention",
}  # fmt: skip


class Traffic(TorchDispatchMode):
    """Adds up the bytes that operators read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not func.is_view and not name.startswith(NO_TRAFFIC):
            # A row that is selected is read alone.
            read = () if name == "index_select" else tree_leaves((args, kwargs))
            tensors = [*read, *tree_leaves(out)]
            group = GROUPS.get(name.replace("_for_cpu", "").replace("_backward", ""), "others")
            self.bytes[group] += sum(size(t) for t in tensors if isinstance(t, Tensor))
        return out


def size(tensor: Tensor) -> int:
    """Return the bytes of a tensor; an expanded dimension is read once."""
    count = tensor.element_size()
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= length if stride else 1
    return count


def expected(works: list[Work], phase: str) -> dict[str, float]:
    """Return the bytes of the closed form, in the groups of :class:`Traffic`."""
    groups = {"dropout": "dropout", "attention": "attention"}
    found: Counter[str] = Counter()
    for work in works:
        if work.phase == phase:
            group = "products" if work.flops else "others"
            found[groups.get(work.part, group)] += work.bytes
    return dict(found)


def config_of(name: str, num_layers: int) -> BiGRConfig:
    return BiGRConfig.preset(
        name, grid_size=16, code_dim=24, num_classes=1000, num_layers=num_layers
    )


class CudaNorm(torch.autograd.Function):
    """The operators of CUDA for RMS norms, on fake tensors of the CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: Any, eps: float) -> Tensor:
        normed, scale = FUSED_NORM(x, list(shape), None, eps)
        ctx.save_for_backward(x, scale)
        return normed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, scale = ctx.saved_tensors
        no_weight = [True, False]
        return FUSED_NORM_BACKWARD(grad, x, [x.shape[-1]], scale, None, no_weight)[0], None, None


@contextmanager
def like_cuda() -> Iterator[None]:
    """Use fake tensors of the CPU, and let norms, dropout and attention be like those on CUDA."""
    layer_norm = F.layer_norm

    def full(x: Tensor, shape: Any, eps: float) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return layer_norm(x.float(), shape, eps=eps)

    def rms_norm(x: Tensor, shape: Any, eps: float) -> Any:
        return CudaNorm.apply(x, shape, eps)

    def dropout(x: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
        return torch.native_dropout(x, p, training)[0]

    with FakeTensorMode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "MAX_TRAINING_KEYS", 0)  # always fused
        patch.setattr(F, "layer_norm", full)
        patch.setattr(F, "rms_norm", rms_norm)
        patch.setattr(F, "dropout", dropout)
        yield


def loss_of(config: BiGRConfig, device: str) -> Callable[[], Tensor]:
    """Return a function that computes the loss of a training step."""
    with torch.device(device):
        model = BiGR(config)
        codes = torch.empty(BATCH, config.seq_len, config.code_dim)
        classes = torch.empty(BATCH, dtype=torch.int64)
    draws = draw_training(config, BATCH, num_masked=MASKED, device=device)

    def loss() -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            return model.loss(codes, classes, draws=draws, masked_only=True).loss

    return loss


@pytest.mark.parametrize(("name", "num_layers"), [("s", 14), ("l", 24), ("xxl", 8)])
def test_bytes_of_the_forward_pass(name: str, num_layers: int) -> None:
    config = config_of(name, num_layers)
    with fake_cuda():
        loss = loss_of(config, "cuda")
        with Traffic() as traffic:
            loss()
    found = expected(training_step(config, BATCH, MASKED), FORWARD)
    assert found == pytest.approx(dict(traffic.bytes), rel=0.02)


@pytest.mark.parametrize(("name", "num_layers"), [("s", 14), ("l", 8)])
def test_bytes_and_flop_of_the_backward_pass(name: str, num_layers: int) -> None:
    config = config_of(name, num_layers)
    formulas = {
        CPU_ATTENTION: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        CPU_ATTENTION_BACKWARD: lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(g, q, k, v),
    }
    with like_cuda():
        loss = loss_of(config, "cpu")
        with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
            value = loss()
            with Traffic() as traffic:
                value.backward()
    works = training_step(config, BATCH, MASKED)
    found = expected(works, BACKWARD)
    assert found == pytest.approx(dict(traffic.bytes), rel=0.03)
    assert sum(w.flops for w in works) == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("tokens", [256, 4096])
def test_bytes_and_flop_of_a_denoising_step(tokens: int) -> None:
    config = config_of("l", 1)
    with fake_cuda(), CUDA:
        transcoder = BiGR(config).transcoder
        assert isinstance(transcoder, BinaryTranscoder)
        denoiser = TokenDenoiser(transcoder, 100, products=Products(torch.bfloat16))
        chain = DenoisingChain(denoiser, tokens, slice(0, 100), is_guided=True)
        with FlopCounterMode(display=False) as counter, Traffic() as traffic, torch.no_grad():
            chain.step()
    works = chain_step(config, tokens)
    assert expected(works, FORWARD) == pytest.approx(dict(traffic.bytes), rel=0.02)
    assert sum(w.flops for w in works) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_bytes_of_parts() -> None:
    """Each of them alone, forward: norms with modulation, the rotary embedding, and SwiGLU."""
    dim, rows = 1024, BATCH * 257
    with fake_cuda(), CUDA, torch.autocast("cuda", torch.bfloat16):
        norm, network = RMSNorm(dim, 1e-5), FeedForward(dim, 2816, 0.1)
        rotary = rotary_table(16, 64, 1e4).to(CUDA)
        x, vector = torch.empty(BATCH, 257, dim), torch.empty(BATCH, 1, dim)
        heads = torch.empty(BATCH, 257, 16, 64, dtype=torch.bfloat16)
        with Traffic() as norms:
            norm(x, vector, vector)
        with Traffic() as rotation:
            apply_rotary(heads, rotary)
            apply_rotary(heads, rotary)
        half = x.bfloat16()
        with Traffic() as activations:
            network(half)
    passes = {passes.part: passes for passes in LAYER_PASSES}
    elements = rows * dim
    assert norms.bytes["others"] == pytest.approx(NORM_PASSES.forward * elements, rel=0.01)
    rotated = passes["rotary embedding"].forward * elements
    assert rotation.bytes["others"] == pytest.approx(rotated, rel=0.04)
    assert activations.bytes["dropout"] == passes["dropout"].forward / 2 * elements
    casts = 3 * dim * 2816 * CAST
    inner = activations.bytes["others"] - casts
    assert inner == pytest.approx(SWIGLU.forward * rows * 2816, rel=0.01)


def test_bytes_of_the_update() -> None:
    """What operators in place read; they also write 12, 4 and 4 bytes, and return nothing."""
    config = config_of("s", 2)
    with FakeTensorMode():
        model = BiGR(config)
        parameters = list(model.parameters())
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        average = [p.detach().clone() for p in parameters]
        optimizer = adamw(model, lr=1e-4)
        optimizer.step()
        updates: dict[str, Callable[[], object]] = {
            "AdamW": optimizer.step,
            "moving average": lambda: LERP(average, parameters, 0.1),
            "norm and clipping of the gradient": lambda: torch.nn.utils.clip_grad_norm_(
                parameters, 1.0, foreach=True
            ),
        }
        read = {}
        for part, update in updates.items():
            with Traffic() as traffic, torch.no_grad():
                update()
            read[part] = traffic.bytes["others"]
    works = {w.part: w.bytes for w in training_step(config, 1) if w.phase == UPDATE}
    count = sum(p.numel() for p in parameters)
    written = {"AdamW": 12, "moving average": 4, "norm and clipping of the gradient": 4}
    assert {part: works[part] - written[part] * count for part in read} == pytest.approx(
        read, rel=1e-3
    )


def test_the_tables_of_the_page_are_computed() -> None:
    text = (REPOSITORY / "docs" / "performance.md").read_text()
    blocks = dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n\n", text, flags=re.DOTALL))
    assert blocks == {name: "\n".join(lines) for name, lines in roofline.tables().items()}


def test_a_product_by_hand() -> None:
    """Wide products are bound by arithmetic, and those with few rows by the bandwidth."""
    h100 = roofline.USED[1]
    wide, *_ = product("", 32_896, 1024, 3072)
    assert wide.seconds(h100) == pytest.approx(2 * 32_896 * 1024 * 3072 / 989e12)
    flat, *_ = product("", 1, 1024, 3072)
    assert flat.seconds(h100) == pytest.approx(2 * 1024 * 3072 / 3.35e12, rel=0.01)
