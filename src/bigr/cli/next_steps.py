"""The next commands that a command suggests at its end. They can be pasted into a shell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from PIL import Image

from bigr.checkpoints.hub import PACKAGED
from bigr.cli.command_words import command_line, override
from bigr.cli.fitting import MAX_CLASSES
from bigr.cli.validation import config_folders
from bigr.presets import config_dir

if TYPE_CHECKING:
    from bigr.data.codes_writer import StoreWriter

MANY_CLASSES = 100
"""Number of classes from which Inception is suggested instead of ``evaluation=own``."""
FEW_IMAGES = 1000
"""Number of images that ``evaluation=own`` is suggested with, which a CPU can generate."""
SMALL_GRID = 16
"""Number of tokens per side below which the small generator is suggested."""
NOT_SAMPLED = ("reconstruction", "linear_probe")
"""Evaluations in which nothing is sampled."""
SCALES = "sampler.guidance_scale=1,1.5,2.5"


def after_autoencoder(output: Path, experiment: str | None, data: Mapping[str, Any]) -> str:
    """Return the command that trains a generator with a B-AE, or one that encodes the images first.

    Args:
        output: folder of the run.
        experiment: the experiment of the run, if there was one.
        data: settings of its data module.
    """
    root = [override("data.root", data["root"])] if data.get("root") else []
    successor = str(experiment).replace("autoencoder", "generator").replace("gan", "generator")
    folders = config_folders() if HydraConfig.initialized() else [config_dir()]
    exists = any((folder / "experiment" / f"{successor}.yaml").is_file() for folder in folders)
    if exists and successor != experiment:
        decoder = _path("task.autoencoder", output)
        return _command("train", f"experiment={successor}", decoder, *root)
    words = [_path("autoencoder", output), *_choice("data", "images"), *root]
    return _command("tokenize", *words, _path("output", output / "codes"))


def after_tokenizing(writer: StoreWriter) -> str:
    """Return the command that trains a generator on the codes of a store."""
    is_small = writer.settings.grid_size < SMALL_GRID
    size = "experiment=crops_generator" if is_small else "model=l"
    return _command("train", size, "data=codes", _path("data.root", writer.folder))


def after_generator(
    output: Path, autoencoder: str | None, num_classes: int, data: Mapping[str, Any]
) -> list[str]:
    """Return the commands that sample from a generator and evaluate it.

    Args:
        output: folder of the run.
        autoencoder: its B-AE; None leaves a gap in the command.
        num_classes: number of classes of the generator.
        data: settings of its data module. Codes contain no images to compare with.
    """
    models = [_path("generator", output)]
    models.append(_path("autoencoder", autoencoder) if autoencoder else "autoencoder=…")
    classes = ",".join(map(str, range(min(num_classes, MAX_CLASSES))))
    commands = [_command("sample", *models, f"application.classes=[{classes}]")]
    if "DigitsDataModule" in data["_target_"]:
        commands.append(_command("evaluate", "evaluation=digits_fidelity", *models))
    elif data.get("root") and "Codes" not in data["_target_"]:
        network = []
        if num_classes < MANY_CLASSES:
            network = ["evaluation=own", f"evaluation.count={FEW_IMAGES}"]
        reference = override("reference", data["root"])
        size = [f"evaluation.image_size={data['image_size']}"] if "image_size" in data else []
        commands.append(_command("evaluate", *network, *models, reference, *size))
    return commands


def after_sampling(config: DictConfig, pictures: Sequence[Path]) -> str:
    """Return the command that repaints half of the first picture, or after an edit the web app."""
    if str(config.application._target_).endswith(".stream"):
        with Image.open(pictures[0]) as picture:
            width, height = picture.size
        half = f"application.mask=[[{width // 2},0,{width},{height}]]"
        image = _path("application.image", pictures[0])
        return _command("sample", "application=inpaint", image, half, *_models(config))
    return _command("demo", *_models(config))


def after_evaluation(config: DictConfig) -> str | None:
    """Return the sweep over the guidance scale, unless the scale was given or does not matter."""
    evaluation = config.get("evaluation") or {}
    # A search is a sweep already, and edits without a class are not guided.
    is_search, application = "space" in evaluation, evaluation.get("application", "edit")
    if not HydraConfig.initialized() or is_search or application != "edit":
        return None
    settings, words = HydraConfig.get(), _words("task")
    is_single = settings.mode == RunMode.RUN and settings.job.name == "evaluate"
    if chosen_option("evaluation") in NOT_SAMPLED:
        return None
    if not is_single or config.get("generator") is None or "guidance_scale" in " ".join(words):
        return None
    return _command("evaluate", "-m", *words, SCALES)


def chosen_option(group: str) -> str | None:
    """Return the option that the running command uses for a config group, or None."""
    return HydraConfig.get().runtime.choices.get(group) if HydraConfig.initialized() else None


def _models(config: DictConfig) -> list[str]:
    """Return the words of the command that name the models."""
    if config.get("pretrained") is None:
        return [_path(key, config[key]) for key in ("generator", "autoencoder")]
    released = [word for word in _words("task") if word.startswith("released.")]
    return [override("pretrained", config.pretrained), *released]


def _path(key: str, path: str | Path) -> str:
    """Return an override with a path, relative to the working folder if it is below it.

    A file of an installed model is given by the name of the model.
    """
    found, here = Path(path), Path.cwd()
    if found.parent.parent == PACKAGED:
        return override(key, found.parent.name)
    return override(key, found.relative_to(here) if found.is_relative_to(here) else path)


def _choice(group: str, default: str) -> list[str]:
    """Return the word that chooses the option of the running command, unless it is the default."""
    chosen = chosen_option(group)
    return [] if chosen in (None, default) else [f"{group}={chosen}"]


def _words(kind: str) -> list[str]:
    """Return the overrides of the running command, of ``task`` or ``hydra``."""
    return list(getattr(HydraConfig.get().overrides, kind)) if HydraConfig.initialized() else []


def _command(name: str, *words: str) -> str:
    """Return a command with the search path of this one, for packages with options of their own."""
    searched = [word for word in _words("hydra") if word.startswith("hydra.searchpath")]
    return command_line(f"bigr.{name}", *searched, *words)
