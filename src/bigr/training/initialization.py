"""Fine-tuning: a network that starts from trained weights, and the choice of what is trained.

The two networks may differ. If a generator has other classes, another token grid or other codes
than the one that it starts from, rows of its class table are copied, its position table is
interpolated, and its first and last layers are new. :class:`Origins` records what happened to
each parameter.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.hub import find_model
from bigr.checkpoints.load import load_generator
from bigr.checkpoints.lora import is_adapter_name, plain_name
from bigr.data.class_names import find_class, readable_names
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.models.config import BiGRConfig
from bigr.models.model_settings import ModelSettings

ClassRows = Literal["auto", "new"] | dict[str | int, str | int]
"""Which rows of the class table are copied, see :func:`matching_rows`."""
Rows = list[int | None]
AutoOrBool = Literal["auto"] | bool

QUANTIZER = "quantizer."
CLASS_TABLE = "transformer.class_embedding.weight"
POSITION_TABLE = "transformer.position_table"
CODE_LAYERS = (
    "transformer.token_embedding.",
    "transcoder.denoiser.input.",
    "transcoder.denoiser.output.",
)
"""The layers that see single bits: their weights belong to one B-AE."""
MUST_AGREE = (
    *("dim", "num_layers", "num_heads", "feed_forward_dim", "denoiser_dim", "denoiser_blocks"),
    *("num_diffusion_steps", "noise_schedule", "objective", "attention"),
    "softmax_bits",
    *("rope_base", "norm_eps"),
)
SHOWN = 3


class Origin(NamedTuple):
    """Where the values of a parameter come from."""

    how: Literal["copied", "interpolated", "new"]
    detail: str = ""
    """For example ``16x16 to 32x32 tokens``."""


COPIED = Origin("copied")
"""The origin of a parameter whose values are those of the trained network."""
Origins = dict[str, Origin]
"""The origin of each parameter, by its name."""


class Pretrained:
    """A trained generator from which another one starts.

    Args:
        name: see :func:`bigr.checkpoints.hub.find_model`.
        config: sizes of the new generator.
        rows: see :func:`matching_rows`.
        resets_code_layers: whether the layers that see single bits are new. ``auto`` makes them new
            if the codes are known to be those of another B-AE.

    Raises:
        CheckpointError: if there is no such generator, or sizes differ that have to agree.
    """

    def __init__(
        self, name: str, config: BiGRConfig, rows: ClassRows, resets_code_layers: AutoOrBool
    ) -> None:
        self.name = name
        try:
            self.generator = load_generator(find_model(name, "generator"))
        except CheckpointError as error:
            raise CheckpointError(f"task.init_from={name}: {error}") from error
        check_sizes_agree(config, self.generator.config, name)
        self.rows = rows
        self.resets_code_layers = resets_code_layers

    def start(
        self, model: BiGR, class_names: Sequence[str] | None, autoencoder_sha256: str | None
    ) -> Origins:
        """Copy the weights and settings into ``model``, and return the origin of each parameter.

        Args:
            model: the new generator.
            class_names: names of its classes, if they are known.
            autoencoder_sha256: checksum of its B-AE, if it is known.

        Raises:
            ValueError: if ``rows`` names a class that does not exist.
        """
        settings, theirs = self.generator.settings, self.generator.config.num_classes
        rows = matching_rows(
            *(self.rows, class_names, settings.class_names),
            *(model.config.num_classes, theirs),
        )
        resets = self.resets_code_layers
        if resets == "auto":
            known = None not in (settings.autoencoder_sha256, autoencoder_sha256)
            resets = known and settings.autoencoder_sha256 != autoencoder_sha256
        origins = start_generator(model, self.generator, rows=rows, resets_code_layers=resets)
        model.settings = kept_settings(self.generator, origins)
        return origins


def start_generator(
    model: BiGR, found: BiGR, *, rows: Rows, resets_code_layers: bool = False
) -> Origins:
    """Copy those weights of a trained generator that fit into a new one.

    New rows of the class table start as the row of the null class, so that the generator ignores
    them at first. New layers keep their initial weights.

    Args:
        model: receives the weights; it may contain a LoRA adapter, which stays as it is.
        found: the trained generator, whose sizes agree, see :func:`check_sizes_agree`.
        rows: for each class of ``model``, the class of ``found`` whose row is copied, or None.
        resets_code_layers: whether the layers that see single bits are new although they would
            fit, because the bits are those of another B-AE.
    """
    origins: Origins = {}
    theirs = found.state_dict()
    is_new_code = resets_code_layers or model.config.code_dim != found.config.code_dim
    for full_name, parameter in model.named_parameters():
        if is_adapter_name(full_name):
            continue
        name = plain_name(full_name)
        value, origin = theirs[name], COPIED
        if name == CLASS_TABLE:
            value, origin = _class_table(value, rows)
        elif name == POSITION_TABLE and value.shape != parameter.shape:
            before, after = found.config.grid_size, model.config.grid_size
            value = interpolated_positions(value, after)
            origin = Origin("interpolated", f"{before}x{before} to {after}x{after} tokens")
        elif is_new_code and name.startswith(CODE_LAYERS):
            why = f"{found.config.code_dim} to {model.config.code_dim} bits"
            origin = Origin("new", "the bits of another B-AE" if resets_code_layers else why)
            value = parameter.detach()
        with torch.no_grad():
            parameter.copy_(value)
        origins[name] = origin
    return origins


def start_autoencoder(model: BinaryAutoencoder, found: BinaryAutoencoder, path: str) -> Origins:
    """Copy the weights of a trained B-AE into a new one.

    If ``code_dim`` differs, the quantizer keeps its initial weights.

    Raises:
        CheckpointError: if a tensor outside of the quantizer has another shape.
    """
    theirs, ours = found.state_dict(), model.state_dict()
    differing = [
        name
        for name in {**theirs, **ours}
        if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape
    ]
    wrong = [name for name in differing if not name.startswith(QUANTIZER)]
    if wrong:
        raise CheckpointError(
            f"task.init_from={path} does not fit this B-AE, because the tensors "
            f"{', '.join(wrong[:SHOWN])}{', …' if len(wrong) > SHOWN else ''} differ: only "
            "code_dim may differ."
        )
    new = QUANTIZER if differing else None
    kept = {name: t for name, t in theirs.items() if new is None or not name.startswith(new)}
    model.load_state_dict(kept, strict=False)
    bits = f"{found.config.code_dim} to {model.config.code_dim} bits"
    return {
        name: COPIED if name in kept else Origin("new", bits)
        for name, _ in model.named_parameters()
    }


def check_sizes_agree(ours: BiGRConfig, theirs: BiGRConfig, path: str) -> None:
    """Raise ``CheckpointError`` unless one generator can start from the weights of the other."""
    differing = [name for name in MUST_AGREE if getattr(ours, name) != getattr(theirs, name)]
    if differing:
        there = ", ".join(f"{name}={getattr(theirs, name)}" for name in differing)
        here = ", ".join(f"{name}={getattr(ours, name)}" for name in differing)
        raise CheckpointError(
            f"task.init_from={path} is a generator with {there}, and this model has {here}: "
            "choose model=pretrained, which takes these settings from the file."
        )


def matching_rows(
    rows: ClassRows,
    ours: Sequence[str] | None,
    theirs: Sequence[str] | None,
    num_ours: int,
    num_theirs: int,
) -> Rows:
    """Return, for each class of a new generator, the class that it starts from, or None.

    Args:
        rows: ``new`` for none; or a mapping from the classes of the new generator to those of the
            trained one, each given by its number or name; or ``auto``, for the class of the same
            name. If the names of either are not known, ``auto`` takes the class of the same number,
            provided that there are equally many classes.
        ours: names of the classes of the new generator, if they are known.
        theirs: names of the classes of the trained generator, if they are known.
        num_ours: number of classes of the new generator.
        num_theirs: number of classes of the trained generator.

    Raises:
        ValueError: if there is no such class.
    """
    if rows == "new":
        return [None] * num_ours
    ours, theirs = readable_names(ours, num_ours), readable_names(theirs, num_theirs)
    if isinstance(rows, dict):
        found: Rows = [None] * num_ours
        given: dict[int, str | int] = {}
        for key, value in rows.items():
            try:
                number = find_class(key, num_ours, ours)
            except ValueError as error:
                raise ValueError(f"task.class_rows, new classes: {error}") from error
            if number in given:
                raise ValueError(
                    f"task.class_rows gives two rows for the same new class: {given[number]} and "
                    f"{key}. Leave one of them out."
                )
            given[number] = key
            try:
                found[number] = find_class(value, num_theirs, theirs)
            except ValueError as error:
                raise ValueError(f"task.class_rows, classes of task.init_from: {error}") from error
        return found
    if ours is None or theirs is None:
        return list(range(num_ours)) if num_ours == num_theirs else [None] * num_ours
    numbers = {name.casefold(): number for number, name in enumerate(theirs)}
    return [numbers.get(name.casefold()) for name in ours]


def interpolated_positions(table: Tensor, grid_size: int) -> Tensor:
    """Resample a position table (1, N, D) bicubically for another grid, (1, grid_size^2, D).

    Positions are the centres of tokens. A smaller grid is filtered against aliasing.
    """
    side = round(table.shape[1] ** 0.5)
    grid = table.double().transpose(1, 2).unflatten(2, (side, side))
    resized = F.interpolate(
        grid, (grid_size, grid_size), mode="bicubic", align_corners=False, antialias=True
    )
    return resized.flatten(2).transpose(1, 2).to(table.dtype)


def kept_settings(found: BiGR, origins: Origins) -> ModelSettings:
    """Return which settings of a trained generator also hold for one that started from it."""
    known = dataclasses.replace(found.settings)
    if origins[CLASS_TABLE] != COPIED:
        known = dataclasses.replace(known, class_names=None)
    has_new_code = any(origins[name].how == "new" for name in origins if name != CLASS_TABLE)
    if has_new_code or origins[POSITION_TABLE].how != "copied":
        known = dataclasses.replace(known, image_size=None, autoencoder_sha256=None)
    return known


def table(origins: Origins, sizes: Mapping[str, int]) -> list[str]:
    """Return a short table of what was copied, interpolated and newly initialised.

    Args:
        origins: origins of all parameters.
        sizes: number of elements of each parameter.
    """
    groups: dict[Origin, list[str]] = {}
    for name, origin in origins.items():
        groups.setdefault(origin, []).append(name)
    order = ("copied", "interpolated", "new")
    lines = []
    for origin in sorted(groups, key=lambda one: (order.index(one.how), one.detail)):
        names = groups[origin]
        count = sum(sizes[name] for name in names)
        modules = list(
            dict.fromkeys(name.removesuffix(".weight").removesuffix(".bias") for name in names)
        )
        shown = ", ".join(modules) if len(modules) <= SHOWN + 1 else f"{len(names)} tensors"
        detail = f" ({origin.detail})" if origin.detail else ""
        lines.append(f"{origin.how:<12} {count:>13,} parameters: {shown}{detail}")
    return lines


def select_trained(
    network: nn.Module,
    *,
    freeze: Sequence[str] = (),
    train: Sequence[str] = (),
    always: Collection[str] = (),
    never: Collection[str] = (),
    has_adapter: bool = False,
) -> None:
    """Decide by the names of the parameters which of them are trained (``requires_grad``).

    A pattern is a whole name, the name of a module, or either with wildcards, such as
    ``transformer.layers.1?.*``. The parameters of a LoRA adapter are always trained, and no pattern
    refers to them.

    Args:
        network: its parameters are changed.
        freeze: patterns of parameters that keep their values; they come before ``train``.
        train: patterns of the only parameters that are trained; empty trains all of them.
        always: names of parameters that are trained unless ``freeze`` names them.
        never: names of parameters that the network does not use, which are never trained.
        has_adapter: whether an adapter is trained, so that empty ``train`` trains nothing else.

    Raises:
        ValueError: if a pattern matches nothing, or nothing is left to train.
    """
    named = {plain_name(name): parameter for name, parameter in network.named_parameters()}
    own = [name for name in named if not is_adapter_name(name)]
    for key, patterns in (("freeze", freeze), ("train", train)):
        for pattern in patterns:
            if not any(_matches(name, [pattern]) for name in own):
                near = difflib.get_close_matches(pattern, own, 1, cutoff=0.0)
                raise ValueError(
                    f"task.{key}: no parameter has a name like {pattern}. The most similar name is "
                    f"{near[0]}."
                )
    takes_all = not train and not has_adapter
    for name, parameter in named.items():
        is_named = takes_all or name in always or _matches(name, train)
        is_trained = is_named and name not in never and not _matches(name, freeze)
        parameter.requires_grad_(is_adapter_name(name) or is_trained)
    if not any(parameter.requires_grad for parameter in named.values()):
        raise ValueError(
            "task.freeze and task.train leave no parameter to train: remove a pattern of "
            "task.freeze."
        )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(
        fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")
        for pattern in patterns
    )


def _class_table(theirs: Tensor, rows: Rows) -> tuple[Tensor, Origin]:
    """Return the class table with the given rows of another one, and its null class."""
    null = len(theirs) - 1
    taken = [null if row is None else row for row in rows]
    value = theirs[[*taken, null]]
    if taken == list(range(null)):
        return value, COPIED
    num_new = rows.count(None)
    if num_new == 0:
        return value, Origin("copied", f"the rows of {len(rows)} classes and of the null class")
    what = "only the null class" if num_new == len(rows) else "the others and the null class"
    return value, Origin("new", f"{num_new} of {len(rows)} classes; {what} copied")
