"""Images to packed codes: ``python -m bigr.tokenize``, all settings in ``conf/tokenize.yaml``."""

from __future__ import annotations

import dataclasses
import logging
import sys
from pathlib import Path
from typing import Any, Literal

from hydra.utils import instantiate
from omegaconf import DictConfig

from bigr.cli import entry as cli
from bigr.cli.configuration import ConfigError
from bigr.schema import ExistingPath, NonNegativeInt, PositiveInt

log = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class Settings:
    """The values at the top level of the configuration ``conf/tokenize.yaml``."""

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
    """Command line."""
    cli.run("tokenize", job, settings=Settings)


def job(config: DictConfig) -> None:
    """Make a store of codes, or go on with one."""
    from bigr.data.broken import TooManyBrokenError
    from bigr.data.codes_store import StoreError
    from bigr.data.codes_writer import BROKEN_REPORT, StoreWriter

    cli.quieten_lightning()
    with cli.user_errors():
        module, trainer = _build(config)
        writer: StoreWriter = module.writer
    log.info("codes: %s", writer.folder)
    try:
        trainer.predict(module, return_predictions=False)
        trainer.strategy.barrier()
        if not trainer.is_global_zero:
            return
        manifest = writer.finish()
    except (StoreError, TooManyBrokenError) as error:
        raise cli.UserError(str(error)) from error
    except SystemExit:
        log.info("interrupted; what is done stays: give the same command again to go on")
        sys.exit(130)
    for split, count in manifest["images"].items():
        left_out = manifest["left_out"][split]
        report = f" (see {BROKEN_REPORT})" if left_out else ""
        log.info("%s: %d images, %d left out%s", split, count, left_out, report)
    size = sum(path.stat().st_size for path in writer.folder.iterdir())
    log.info("%.1f MB, %d entries an image", size / 1e6, writer.settings.entries)


def _build(config: DictConfig) -> tuple[Any, Any]:
    from bigr.checkpoints.identity import weights_sha256
    from bigr.checkpoints.load import load_autoencoder
    from bigr.data.codes_store import StoreSettings
    from bigr.data.codes_writer import StoreWriter
    from bigr.data.transforms import check_views, count_views
    from bigr.training.tokenization import ShardWriter, TokenizeModule, TokenizeProgress

    views = check_views(_listed(config.views))
    splits = _listed(config.splits)
    if not splits or not set(splits) <= {"train", "val"} or len(set(splits)) < len(splits):
        raise ConfigError(f"splits={splits}: give train, val or both.")
    if config.deterministic and config.num_draws > 1:
        raise ConfigError(
            f"num_draws={config.num_draws} with deterministic=true are all the same: use "
            "num_draws=1."
        )
    autoencoder = load_autoencoder(config.autoencoder)
    sizes = autoencoder.config
    data = instantiate(config.data)
    if data.image_size != sizes.image_size:
        raise ConfigError(
            f"autoencoder={config.autoencoder} is for {sizes.image_size} pixels, and "
            f"data.image_size is {data.image_size}: choose resolution={sizes.image_size}."
        )
    data.prepare_data()
    data.setup("predict")
    pictures = {split: getattr(data, f"{split}_set") for split in splits}
    settings = StoreSettings(
        tokenizer_sha256=weights_sha256(autoencoder),
        code_dim=sizes.code_dim,
        grid_size=sizes.grid_size,
        image_size=sizes.image_size,
        num_classes=data.num_classes,
        views=views,
        num_views=count_views(views),
        num_draws=config.num_draws,
        deterministic=config.deterministic,
        seed=config.seed,
        decoder=data.decoder,
        honour_exif=data.honour_exif,
        precision=str(config.trainer.precision),
        shard_size=config.shard_size,
        sources={split: images.fingerprint() for split, images in pictures.items()},
        num_images={split: len(images) for split, images in pictures.items()},
        classes=tuple(data.classes),
    )
    writer = StoreWriter(Path(config.output).expanduser(), settings)
    module = TokenizeModule(
        autoencoder,
        writer,
        pictures,
        batch_size=config.batch_size,
        num_workers=data.num_workers,
    )
    callbacks = [ShardWriter(writer, data.max_broken_share), TokenizeProgress()]
    trainer = instantiate(
        config.trainer, callbacks=callbacks, logger=False, enable_progress_bar=False
    )
    return module, trainer


def _listed(value: Any) -> list[str]:
    """``splits=train`` means ``splits=[train]``."""
    return [value] if isinstance(value, str) else [str(item) for item in value]


if __name__ == "__main__":
    main()
