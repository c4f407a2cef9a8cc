"""Images from a generator: ``python -m bigr.sample``, all settings in ``conf/sample.yaml``."""

from __future__ import annotations

import logging
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from bigr import cli
from bigr.config import ConfigError, resolved

log = logging.getLogger(__name__)


def main() -> None:
    """Command line."""
    cli.run("sample", job)


def job(config: DictConfig) -> None:
    """Sample classes; write ``samples.png`` and one PNG an image."""
    with cli.user_errors():
        classes, per_class = _classes(config.application)
        settings = resolved(config)

    import torch

    from bigr.data.images import save_grid, save_image
    from bigr.evaluation.devices import check_sampler, load_models
    from bigr.evaluation.generate import generate
    from bigr.evaluation.progress import progress

    with cli.user_errors():
        models = load_models(config.generator, config.autoencoder, config.device)
        known = models.generator.config.num_classes
        if not all(0 <= label <= known for label in classes):
            raise ConfigError(
                f"application.classes={classes}: this generator has the classes 0..{known - 1} "
                f"({known} is the null class), for example 'application.classes=[0,1,2]'."
            )
        sampler = instantiate(config.sampler)
        check_sampler(models, sampler)

    output = Path(config.paths.output)
    output.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(settings, output / "config.yaml")
    labels = torch.tensor(classes).repeat_interleave(per_class)
    with progress(len(labels), "images") as advance:
        images = generate(
            models,
            sampler,
            labels,
            seed=config.seed,
            batch_size=config.batch_size,
            on_batch=advance,
        )
    columns = per_class if per_class > 1 else min(len(classes), 8)
    for index, (label, image) in enumerate(zip(labels.tolist(), images, strict=True)):
        seed = config.seed + index
        save_image(image, output / "images" / f"class_{label:04d}_seed_{seed:06d}.png")
    log.info("%s", save_grid(images, output / "samples.png", columns))


def _classes(application: DictConfig) -> tuple[list[int], int]:
    """Class ids and images of each."""
    classes, per_class = application.classes, application.num_per_class
    if isinstance(classes, int):
        classes = [classes]
    is_list = isinstance(classes, list | ListConfig) and len(classes) > 0
    if not is_list or not all(isinstance(label, int) for label in classes):
        raise ConfigError(
            f"application.classes must be a list of numbers such as [207,360], got {classes!r}."
        )
    if not isinstance(per_class, int) or per_class < 1:
        raise ConfigError(
            f"application.num_per_class must be a positive integer, got {per_class!r}."
        )
    return list(classes), per_class


if __name__ == "__main__":
    main()
