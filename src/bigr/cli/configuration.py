"""The composed configuration: where it lives, what it may compute, what makes it impossible.

Nothing here imports torch, so that a mistake is answered at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

import bigr
from bigr.models.config import BiGRConfig, BinaryAutoencoderConfig, from_dict
from bigr.sampling.sampler_config import ExecutionConfig, SamplerConfig

CHECKED = {
    "bigr.BiGRConfig": BiGRConfig,
    "bigr.BinaryAutoencoderConfig": BinaryAutoencoderConfig,
    "bigr.SamplerConfig": SamplerConfig,
    "bigr.ExecutionConfig": ExecutionConfig,
}
HINTS = {
    "data.root": "the folder with the images or codes",
    "task.autoencoder": "the checkpoint of the B-AE whose codes are learnt",
    "generator": "the generator's checkpoint",
    "autoencoder": "the B-AE's checkpoint",
    "output": "the folder for the codes",
    "evaluation.reference": "ADM's .npz of statistics, or a folder of real images",
    "application.image": "the picture",
    "application.class_name": "what to paint, number or name",
    "application.first": "the class to start from, number or name",
    "application.second": "the class to end with",
    "callbacks.sample_metrics.reference": "ADM's .npz of statistics, or a folder of real images",
}
POSITIVE = (
    "batch_size",
    "global_batch_size",
    "num_draws",
    "shard_size",
    "data.batch_size",
    "evaluation.batch_size",
    "evaluation.count",
    "evaluation.chunk_size",
    "probe.batch_size",
    "probe.chunk_size",
    "probe.num_embedded",
    "probe.max_train_images",
    "callbacks.sample_metrics.batch_size",
    "callbacks.sample_metrics.every_n_steps",
    "confirm",
)
LAUNCHERS = ("SLURM_NTASKS", "TORCHELASTIC_RUN_ID", "NODE_RANK", "GROUP_RANK", "LSB_JOBID")
EXTRAS = {"lightning.pytorch.loggers.TensorBoardLogger": ("tensorboard", "tensorboard")}
PRECISIONS = ("bf16-mixed", "16-mixed", "32-true", "bf16-true", "64-true", "bf16", "16", "32", "64")
CODES = "bigr.training.data.codes_data.CodesDataModule"
TASKS = {
    "bigr.training.generator_module.GeneratorModule": "generator",
    "bigr.training.autoencoder_module.AutoencoderModule": "autoencoder",
}


class ConfigError(ValueError):
    """A configuration that can't be run: names the key and the fix."""


def config_dir() -> Path:
    """The folder of the configuration: in the package, or beside ``src/`` in a checkout.

    Raises:
        ConfigError: if there is none.
    """
    package = Path(str(bigr.__file__)).parent
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(f"{package} has lost its conf/ folder: install bigr-lightning again.")


def register_resolvers() -> None:
    """What ``${bigr.…}`` means in the configuration; may be called again."""
    resolvers: dict[str, Callable[..., Any]] = {
        "bigr.grid_size": _grid_size,
        "bigr.num_classes": _num_classes,
        "bigr.product": lambda a, b: float(a) * float(b),
        "bigr.run_id": lambda folder: hashlib.sha256(str(folder).encode()).hexdigest()[:12],
        "bigr.wandb_offline": lambda: os.environ.get("WANDB_MODE") != "online",
    }
    for name, function in resolvers.items():
        OmegaConf.register_new_resolver(name, function, replace=True)


def _grid_size(code: DictConfig) -> int:
    """Tokens per side of a code node."""
    return int(code.image_size) // 2 ** (len(code.channel_multipliers) - 1)


def _num_classes(root: str | None, default: int) -> int:
    """Those of a store of codes, or the class folders of the training set, or ``default``."""
    if root is None:
        return default
    folder = Path(str(root)).expanduser()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads((folder / "manifest.json").read_text())["settings"]["num_classes"])
    from bigr.data.sources.find import count_classes

    return count_classes(folder) or default


def resolved(config: DictConfig) -> dict[str, Any]:
    """Plain containers without interpolations, as they are saved with a run."""
    container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    return dict(container)  # type: ignore[arg-type]


def check(config: DictConfig) -> None:
    """Check what can be checked without torch.

    Raises:
        ConfigError: naming the key and the fix.
    """
    _check_missing(config)
    for key in ("seed", "data.seed", "evaluation.seed", "data.num_workers"):
        value = OmegaConf.select(config, key)
        if value is not None and (not isinstance(value, int) or value < 0):
            raise ConfigError(f"{key} must be an integer of at least 0, got {value!r}.")
    for key in POSITIVE:
        value = OmegaConf.select(config, key)
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ConfigError(f"{key} must be a positive integer, got {value!r}.")
    if "trainer" in config:
        _check_trainer(config.trainer)
    for key, node in sorted(_nodes(config), key=lambda item: item[0]):
        _check_node(key, node)
    if "task" in config:
        _check_sizes(config)
    if "data" in config:
        _check_data(config)
    for key in ("generator", "autoencoder", "task.autoencoder"):
        _check_exists(key, OmegaConf.select(config, key))


def _check_missing(config: DictConfig) -> None:
    # Interpolations to a missing value are listed, too; what people give is in HINTS.
    missing = sorted(OmegaConf.missing_keys(config))
    known = [key for key in missing if key in HINTS] or missing
    if known:
        what = " and ".join(f"{key} ({HINTS.get(key, 'a value')})" for key in known)
        example = " ".join(f"{key}=…" for key in known)
        raise ConfigError(f"still needed: {what}. Add {example} to the command.")


def _nodes(config: Any, key: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Every node with a ``_target_``, with its key."""
    if isinstance(config, DictConfig):
        if "_target_" in config:
            yield key, config
        for name in config:
            yield from _nodes(config[name], ".".join(filter(None, [key, str(name)])))
    elif isinstance(config, ListConfig):
        for index, item in enumerate(config):
            yield from _nodes(item, f"{key}[{index}]")


def _check_node(key: str, node: DictConfig) -> None:
    target = str(node["_target_"])
    if target in EXTRAS:
        module, extra = EXTRAS[target]
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"{key} needs {module}: pip install 'bigr-lightning[{extra}]', or choose "
                "logger=csv."
            )
    cls = CHECKED.get(target)
    if cls is not None:
        values: Any = OmegaConf.to_container(node, resolve=True)
        values.pop("_target_")
        try:
            from_dict(cls, values)
        except (ValueError, TypeError) as error:
            message = str(error).replace(f"{cls.__name__}.", f"{key}.")
            raise ConfigError(message.replace(f"{cls.__name__} has no", f"{key} has no")) from error
    for name in ("lr", "weight_decay"):
        value = node.get(name)
        if value is not None and (not isinstance(value, int | float) or value < 0):
            raise ConfigError(f"{key}.{name} must be a number of at least 0, got {value!r}.")
    steps, warmup = node.get("total_steps"), node.get("warmup_steps", 0)
    if steps is not None and not (
        isinstance(steps, int) and isinstance(warmup, int) and 0 <= warmup < steps
    ):
        raise ConfigError(
            f"{key}.warmup_steps={warmup!r} must be an integer of at least 0 and below "
            f"total_steps={steps!r} (trainer.max_steps, if you set that)."
        )


def _check_sizes(config: DictConfig) -> None:
    """What belongs together and can be overridden apart."""
    pairs: list[tuple[str, Any, str, Any]] = []
    if "image_size" in config.data:
        sizes = (config.data.image_size, config.code.image_size)
        pairs = [("data.image_size", sizes[0], "code.image_size", sizes[1])]
    if TASKS.get(str(config.task["_target_"])) == "generator":
        codes = {"code_dim": config.code.code_dim, "grid_size": _grid_size(config.code)}
        pairs += [(f"model.{k}", config.model[k], f"the code group's {k}", codes[k]) for k in codes]
        classes = config.data.num_classes
        pairs.append(("model.num_classes", config.model.num_classes, "data.num_classes", classes))
        steps, levels = config.sampler.num_denoise_steps, config.model.num_diffusion_steps
        if config.model.objective != "direct" and steps > levels:
            raise ConfigError(
                f"sampler.num_denoise_steps={steps} must not be more than "
                f"model.num_diffusion_steps={levels}."
            )
    for key, value, other, expected in pairs:
        if value != expected:
            raise ConfigError(
                f"{key}={value} and {other}={expected} don't fit each other: leave {key} out, it "
                "follows from the groups code, resolution and data."
            )


def _check_trainer(trainer: DictConfig) -> None:
    for name in ("max_steps", "max_epochs", "num_nodes", "accumulate_grad_batches"):
        value = trainer[name]
        if value is not None and not isinstance(value, int):
            raise ConfigError(f"trainer.{name} must be an integer, got {value!r}.")
        if name in ("num_nodes", "accumulate_grad_batches") and (value is None or value < 1):
            raise ConfigError(f"trainer.{name} must be at least 1, got {value}.")
    if str(trainer.precision) not in PRECISIONS:
        raise ConfigError(
            f"trainer.precision={trainer.precision}: it can be {', '.join(PRECISIONS)}."
        )
    if trainer.accelerator in ("gpu", "cuda") and not _has_gpu():
        raise ConfigError(
            f"trainer.accelerator={trainer.accelerator}, but PyTorch finds no GPU: use "
            "trainer=cpu, or install a PyTorch that fits your driver."
        )
    if trainer.num_nodes > 1 and not any(name in os.environ for name in LAUNCHERS):
        raise ConfigError(
            f"trainer.num_nodes={trainer.num_nodes}, but nothing says which node this is: start "
            "the command on every node with srun or torchrun (or set NODE_RANK, MASTER_ADDR and "
            "MASTER_PORT)."
        )


def _check_data(config: DictConfig) -> None:
    root = config.data.get("root")
    if root is not None and not Path(str(root)).expanduser().is_dir():
        raise ConfigError(f"data.root={root}: there is no such folder, seen from {Path.cwd()}.")
    task = config.get("task")
    if task is None:
        return
    if "views" in config:
        raise ConfigError("this experiment is one of python -m bigr.tokenize, not of bigr.train.")
    has_codes = str(config.data["_target_"]) == CODES
    is_generator = TASKS.get(str(task["_target_"])) == "generator"
    if has_codes and not is_generator:
        raise ConfigError("a B-AE learns images, and this data are codes: choose another data=….")
    if is_generator and not has_codes and task.autoencoder is None:
        raise ConfigError(
            f"still needed: task.autoencoder ({HINTS['task.autoencoder']}), because this data are "
            "images. Add task.autoencoder=… to the command, or train on codes."
        )


def _has_gpu() -> bool:
    import torch  # the one thing only torch knows; asked when a GPU is demanded

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _check_exists(key: str, value: Any) -> None:
    # task.autoencoder is a node with sizes when a B-AE is trained.
    if value is None or isinstance(value, Mapping | DictConfig):
        return
    if not Path(str(value)).expanduser().exists():
        raise ConfigError(f"{key}={value}: there is no such file, seen from {Path.cwd()}.")
