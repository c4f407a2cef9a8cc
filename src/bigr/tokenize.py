"""Encode images as packed codes: ``python -m bigr.tokenize`` with ``conf/tokenize.yaml``."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import sys
from pathlib import Path
from typing import Any, Literal

from hydra.utils import instantiate
from omegaconf import DictConfig

from bigr.cli import entry as cli
from bigr.cli.configuration import ConfigError
from bigr.cli.next_steps import after_tokenizing
from bigr.schema import ExistingPath, NonNegativeInt, PositiveInt

log = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class TokenizeSettings:
    """The values at the top level of ``conf/tokenize.yaml``."""

    pretrained: str | None
    released: dict[str, Any]
    autoencoder: ExistingPath
    output: str
    splits: str | list[Literal["train", "val"]]
    views: str | list[str]
    num_draws: PositiveInt
    deterministic: bool
    batch_size: PositiveInt
    shard_size: PositiveInt
    seed: NonNegativeInt


def main() -> None:
    """Run the command from its arguments."""
    cli.run("tokenize", job, settings=TokenizeSettings)


def job(config: DictConfig) -> None:
    """Write a store of codes, or complete an unfinished one."""
    from bigr.data.broken import TooManyBrokenError
    from bigr.data.codes_format import StoreError
    from bigr.training.stopping import Stopped

    cli.quieten_lightning()
    with contextlib.ExitStack() as stack:
        with cli.user_errors():
            module, trainer = build(config)
            if trainer.is_global_zero:
                stack.enter_context(module.writer.open())
        log.info("encoding %d images; codes: %s", module.writer.num_images, module.writer.folder)
        try:
            trainer.predict(module, return_predictions=False)
            trainer.strategy.barrier()
            if trainer.is_global_zero:
                module.writer.finish()
                log.info("next: %s", after_tokenizing(module.writer))
        except (StoreError, TooManyBrokenError) as error:
            raise cli.UserError(str(error)) from error
        except SystemExit as stop:  # raised by Lightning after Ctrl-C, or by StopOnSignal
            log.info("interrupted; finished shards are kept: repeat the command to continue")
            sys.exit(128 + (stop.signum if isinstance(stop, Stopped) else signal.SIGINT))


def build(config: DictConfig) -> tuple[Any, Any]:
    """Return the LightningModule that encodes, and the Trainer that runs it.

    Raises:
        ValueError: if the settings contradict each other, or the store that exists.
    """
    from bigr.checkpoints.load import load_autoencoder
    from bigr.data.codes_writer import StoreWriter
    from bigr.data.transforms import check_views
    from bigr.training.callbacks.shard_writing import ShardWriter, StopOnSignal, TokenizeProgress
    from bigr.training.tokenization import TokenizeModule, check_tokenizable, store_settings

    # 1. What the settings alone can contradict.
    listed = [[v] if isinstance(v, str) else list(v) for v in (config.views, config.splits)]
    views, splits = check_views(listed[0]), listed[1]
    if not splits or not set(splits) <= {"train", "val"} or len(set(splits)) < len(splits):
        raise ConfigError(f"splits={splits}: give train, val or both.")
    if config.deterministic and config.num_draws > 1:
        raise ConfigError(
            f"num_draws={config.num_draws} is useless with deterministic=true, because all draws "
            "would be the same: use num_draws=1."
        )
    # 2. The B-AE and the images.
    autoencoder = load_autoencoder(config.autoencoder)
    size, data = autoencoder.config.image_size, instantiate(config.data)
    check_tokenizable(data)
    if data.image_size != size:
        raise ConfigError(
            f"autoencoder={config.autoencoder} is for {size} pixels, and data.image_size is "
            f"{data.image_size}: choose resolution={size}."
        )
    data.prepare_data()
    data.setup("predict")
    pictures = {split: getattr(data, f"{split}_set") for split in splits}
    # 3. The store, and what fills it.
    names = ("num_draws", "deterministic", "seed", "shard_size")
    given = {**{n: config[n] for n in names}, "precision": str(config.trainer.precision)}
    encoder = instantiate(config.features) if config.get("features") else None
    settings = store_settings(autoencoder, data, pictures, views, encoder, **given)
    writer = StoreWriter(Path(config.output).expanduser(), settings)
    sizes = {"batch_size": config.batch_size, "num_workers": data.num_workers}
    module = TokenizeModule(autoencoder, writer, pictures, **sizes, encoder=encoder)
    callbacks = [ShardWriter(writer, data.max_broken_share), TokenizeProgress(), StopOnSignal()]
    options = {"callbacks": callbacks, "logger": False, "enable_progress_bar": False}
    return module, instantiate(config.trainer, **options)


if __name__ == "__main__":
    main()
