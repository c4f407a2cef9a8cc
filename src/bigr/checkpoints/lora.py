"""LoRA (arXiv 2106.09685): small matrices that change the layers of a frozen generator.

A linear layer with the weight W computes (W + alpha / rank * B A) x, where A (rank, in) and
B (out, rank) are trained. ``peft`` adds them to the layers for training; using them needs only this
module, which adds their product to W. :mod:`bigr.checkpoints.adapters` writes and reads the files.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Mapping
from typing import Annotated

from annotated_types import Ge, Lt
from torch import Tensor, nn

from bigr.models.bigr import BiGR
from bigr.models.without_values import without_values
from bigr.schema import PositiveInt, check_fields

WRAPPED = ".base_layer."
"""What ``peft`` adds to the names of the parameters of a layer that it wraps."""
LORA_SCALE = "lora_scale"
"""Key in the entry "bigr" of a checkpoint with the factor of the product B A."""
MATRICES = re.compile(r"(.*)\.lora_(A|B)(\.default)?\.weight")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Settings of a LoRA adapter.

    Args:
        rank: rank of the change of each layer; None trains without an adapter, and the other
            settings must then have their default values.
        alpha: the change is scaled by ``alpha / rank``; None takes ``alpha = rank``.
        dropout: dropout probability of the input of an adapter.
        targets: names of the linear layers that get an adapter, or patterns with wildcards.

    Raises:
        ValueError: if a value is out of range, naming the field.
    """

    rank: PositiveInt | None = None
    alpha: PositiveInt | None = None
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    targets: tuple[str, ...] = ("transformer.layers.*",)

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("alpha", "dropout", "targets") if self.rank is None else ():
            if getattr(self, name) != getattr(type(self), name):
                raise ValueError(
                    f"LoRAConfig.{name} has no effect without a rank: set task.lora.rank, or leave "
                    f"out task.lora.{name}."
                )

    @property
    def scale(self) -> float:
        """Factor of the product B A."""
        return 1.0 if self.alpha is None or self.rank is None else self.alpha / self.rank


def plain_name(name: str) -> str:
    """Return the name that a parameter has without an adapter."""
    return name.replace(WRAPPED, ".")


def is_adapter_name(name: str) -> bool:
    """Return whether a parameter belongs to an adapter."""
    return MATRICES.fullmatch(name) is not None


def add_adapter(model: BiGR, config: LoRAConfig) -> None:
    """Add an adapter to a generator, which computes the same as before until it is trained.

    All other parameters are frozen.

    Args:
        model: changed in place.
        config: settings of the adapter, with a rank.

    Raises:
        ValueError: if no layer matches one of the targets, or the rank is larger than a layer, or
            ``peft`` is not installed.
    """
    # 1. Find the layers.
    linear = {n: layer for n, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    layers: dict[str, nn.Linear] = {}
    for pattern in config.targets:
        found = {n: layer for n, layer in linear.items() if fnmatch.fnmatchcase(n, pattern)}
        if not found:
            raise ValueError(
                f"task.lora.targets: no linear layer has the name {pattern}. Layers are called "
                "like transformer.layers.0.attention.qkv, and transformer.layers.0.* stands for "
                "all of a module."
            )
        layers |= found
    assert config.rank is not None
    for name, layer in layers.items():
        if config.rank > min(layer.weight.shape):
            raise ValueError(
                f"task.lora.rank={config.rank} is larger than {min(layer.weight.shape)}, the "
                f"smaller side of the weight of {name}: choose a smaller rank."
            )
    # 2. Replace them.
    try:
        import peft
    except ModuleNotFoundError as error:
        raise ValueError(
            "task.lora.rank needs peft (pip install 'bigr-lightning[lora]')."
        ) from error
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha or config.rank,
        lora_dropout=config.dropout,
        target_modules=list(layers),
    )
    peft.inject_adapter_in_model(settings, model)


def merged(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return weights in which each adapter has been added to its layer, under plain names.

    Args:
        weights: weights of a generator, with or without adapters.
        scale: factor of the product B A.

    Raises:
        ValueError: if an adapter does not fit its layer.
    """
    plain = {plain_name(name): weight for name, weight in weights.items()}
    found = {name: weight for name, weight in plain.items() if not is_adapter_name(name)}
    for name, first in plain.items():
        match = MATRICES.fullmatch(name)
        if match is None or match[2] == "B":
            continue
        target = f"{match[1]}.weight"
        before, second = found.get(target), plain.get(name.replace(".lora_A.", ".lora_B."))
        if before is None or second is None or not _fits(before, first, second):
            raise ValueError(f"the adapter of the layer {match[1]} does not fit its weight.")
        found[target] = before.float() + scale * (second.float() @ first.float())
    return found


def without_adapter(model: BiGR, scale: float) -> BiGR:
    """Return a plain copy of a generator, to whose weights its adapters have been added."""
    with without_values():
        copy = BiGR(model.config)
    copy.to_empty(device=model.device)
    copy.load_state_dict(merged(model.state_dict(), scale))
    copy.transformer.reset_buffers()
    copy.settings = model.settings
    return copy.to(model.device).eval()


def _fits(weight: Tensor, first: Tensor, second: Tensor) -> bool:
    """Return whether B A has the shape of W."""
    if not weight.ndim == first.ndim == second.ndim == 2:
        return False
    return first.shape[0] == second.shape[1] and weight.shape == (len(second), first.shape[1])
