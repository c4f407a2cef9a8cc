"""``bigr.sample``: applications by their targets, files, animations."""

from __future__ import annotations

import json
import shutil
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from bigr import BiGRPipeline, SamplerConfig
from bigr.app.actions import WHATEVER, Actions
from bigr.app.limits import Knobs, Limits
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.cli.entry import UserError
from bigr.sample import job
from tests.models import tiny_autoencoder, tiny_generator
from tests.pictures import noise

FAST = {"num_iterations": 3, "num_denoise_steps": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_generator(tiny_generator(), tmp_path / "g.safetensors")
    save_autoencoder(tiny_autoencoder(), tmp_path / "a.safetensors")
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\n")
    return tmp_path


def sample(folder: Path, target: str, arguments: dict[str, Any], **more: Any) -> Path:
    """Run the job, and return the folder of the results."""
    node = {"_target_": target, "_partial_": True, **arguments}
    settings = {
        "generator": str(folder / "g.safetensors"),
        "autoencoder": str(folder / "a.safetensors"),
        "sampler": {"_target_": "bigr.SamplerConfig", **FAST},
        "execution": {"_target_": "bigr.ExecutionConfig"},
        "application": node,
        **{"device": "cpu", "devices": 1, "num_nodes": 1, "batch_size": 2, "seed": 5},
        **{"animate": False, "settings": None, "paths": {"output": str(folder / "run")}},
    }
    job(OmegaConf.create({**settings, **more}))
    return folder / "run"


def files(output: Path) -> list[str]:
    return [path.name for path in sorted((output / "images").iterdir())]


def test_generate(folder: Path) -> None:
    """Classes by name or number; each file is the pipeline's image of that class and seed."""
    output = sample(
        folder,
        "bigr.BiGRPipeline.stream",
        {"classes": ["Bee", 0], "num_per_class": 3},
        animate=True,
    )
    names = [f"class_0000_seed_{seed:06d}.png" for seed in (8, 9, 10)]
    names += [f"class_0001_seed_{seed:06d}.png" for seed in (5, 6, 7)]
    assert files(output) == names
    pipeline = BiGRPipeline(tiny_generator(), tiny_autoencoder(), device="cpu")
    pictures = pipeline.generate([1, 0], num_per_class=3, seed=5, **FAST)
    expected = dict(zip([*names[3:], *names[:3]], pictures, strict=True))
    for name, picture in expected.items():
        assert np.array_equal(np.array(Image.open(output / "images" / name)), np.array(picture))
    grid = Image.open(output / "samples.png")
    assert grid.size == (3 * 66 + 2, 2 * 66 + 2)
    first = np.array(grid)[2:66, 2:66]  # row by row in the order of the classes that were given
    assert np.array_equal(first[::8, ::8], np.array(pictures[0]))
    speed = json.loads((output / "speed.jsonl").read_text())
    assert speed["images"] == 6
    assert speed["tflop_per_second"] > 0
    film = Image.open(output / "unmasking.gif")
    assert film.size == (2 * 66 + 2, 68)  # the first batch


def test_edits_are_named_after_their_method(folder: Path) -> None:
    noise(20, 12).save(folder / "photo.png")
    arguments = {"image": str(folder / "photo.png"), "mask": [[6, 2, 12, 9]], "num_variants": 3}
    output = sample(folder, "bigr.BiGRPipeline.inpaint", arguments, animate=True)
    assert files(output) == [f"inpaint_00{index}.png" for index in range(3)]
    assert Image.open(output / "images" / "inpaint_000.png").size == (20, 12)
    assert Image.open(output / "unmasking.gif").size == (3 * 66 + 2, 68)  # all batches


def test_an_interpolation_is_animated(folder: Path) -> None:
    arguments = {"first": "ant", "second": 2, "ratios": [0, 0.5, 1]}
    output = sample(folder, "bigr.BiGRPipeline.interpolate", arguments)
    assert files(output) == [f"interpolate_00{index}.png" for index in range(3)]
    assert (output / "interpolation.gif").is_file()
    assert not (output / "unmasking.gif").exists()


def test_applications_of_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any function of a pipeline: here, every class once."""

    def every_class(pipeline: BiGRPipeline, times: int, **sampling: Any) -> list[Image.Image]:
        return pipeline.generate([0, 1, 2] * times, **sampling)

    module = types.ModuleType("lab_of_this_test")
    module.every_class = every_class  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lab_of_this_test", module)
    output = sample(folder, "lab_of_this_test.every_class", {"times": 2})
    assert files(output) == [f"every_class_00{index}.png" for index in range(6)]


def web_app(folder: Path) -> Actions:
    return Actions(
        BiGRPipeline.from_files(folder / "g.safetensors", folder / "a.safetensors", device="cpu"),
        SamplerConfig(num_denoise_steps=4, num_iterations=3),
        Limits(),
        "tiny",
    )


KNOBS = Knobs(guidance_scale=2.0, num_iterations=3, gumbel_temperature=0.5, seed=9)


@pytest.mark.parametrize(
    "name", ["generate", "inpaint", "edit", "outpaint", "interpolate", "enrich"]
)
def test_pictures_of_the_web_app_are_made_again(folder: Path, name: str) -> None:
    """Bit for bit, from each file that the app offers, by the command and by the pipeline."""
    noise(50, 30).save(folder / "photo.png")
    photo, strokes = str(folder / "photo.png"), Image.new("RGBA", (640, 384))
    strokes.paste((255, 0, 0, 255), (256, 128, 384, 256))
    app = web_app(folder)
    label = 1 if name == "edit" else WHATEVER
    job = {
        "generate": lambda: app.generate([2, 0], 3, KNOBS),
        "interpolate": lambda: app.interpolate(0, 2, 4, KNOBS),
        "enrich": lambda: app.enrich(photo, 1, 2, KNOBS),
    }.get(name, lambda: app.repaint(photo, strokes, name == "outpaint", label, 3, "paste", KNOBS))()
    (folder / "files").mkdir()
    results = list(job.steps(folder / "files"))[-1].results
    assert results is not None
    archive = results.archive
    assert archive is not None
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder / "unpacked")
    png = shutil.copy(folder / "unpacked" / f"{name}_01.png", folder / "alone.png")
    found = sorted((folder / "unpacked").glob(f"{name}_*.png"))
    expected = [Image.open(path).tobytes() for path in found]
    assert len(expected) > 1
    for path in (archive, png, folder / "unpacked" / "settings.json"):
        assert [one.tobytes() for one in app.pipeline.reproduce(path)] == expected
        shutil.rmtree(folder / "run", ignore_errors=True)
        output = sample(folder, "bigr.BiGRPipeline.stream", {"classes": [0]}, settings=str(path))
        made = sorted((output / "images").iterdir(), key=lambda one: one.stem.split("seed")[-1])
        assert [Image.open(one).tobytes() for one in made] == expected
        # The saved configuration is that of these pictures.
        saved = OmegaConf.load(output / "config.yaml")
        assert saved.seed == 9
        assert saved.sampler.gumbel_temperature == 0.5
        given = [saved.application[key] for key in ("image", "mask", "keep")
                 if key in saved.application]  # fmt: skip
        assert all(Path(one).is_relative_to(output) for one in given)


def test_settings_of_another_model(folder: Path) -> None:
    (folder / "files").mkdir()
    list(web_app(folder).generate([0], 1, KNOBS).steps(folder / "files"))
    save_generator(tiny_generator(seed=1), folder / "g.safetensors")
    path = str(folder / "files" / "settings.json")
    with pytest.raises(UserError, match="generator: the settings were made with other weights"):
        sample(folder, "bigr.BiGRPipeline.stream", {"classes": [0]}, settings=path)


@pytest.mark.parametrize(
    ("target", "arguments", "more", "message"),
    [
        ("stream", {"classes": ["dog"]}, {}, "class 'dog': no class has this name"),
        ("stream", {"classes": [7]}, {}, r"this generator has the classes 0\.\.2"),
        ("interpolate", {"first": 0, "second": 1}, {"devices": 2}, "use one"),
        ("inpaint", {"image": "none.png"}, {}, "there is no file none.png"),
    ],
)
def test_mistakes(
    folder: Path, target: str, arguments: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        sample(folder, f"bigr.BiGRPipeline.{target}", arguments, **more)
