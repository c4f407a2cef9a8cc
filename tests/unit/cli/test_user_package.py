"""A package outside this repository: its groups, data, callbacks and errors, with every command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from bigr.cli.configuration import config_dir, register_resolvers
from bigr.cli.validation import validate

FILES = {
    "__init__.py": "",
    "parts.py": """
        from typing import Annotated, Literal

        import lightning
        from annotated_types import Ge


        class Noise(lightning.LightningDataModule):
            def __init__(self, root: str, batch_size: Annotated[int, Ge(1)] = 4, **more):
                super().__init__()


        class Bell(lightning.Callback):
            def __init__(self, sound: Literal["ding", "dong"] = "ding", every: int = None):
                self.sound = sound


        class Task(lightning.LightningModule):
            def __init__(self, width: Annotated[int, Ge(8)], **more):
                super().__init__()
    """,
    "broken.py": "import a_package_that_is_not_there",
    "conf/__init__.py": "",
    "conf/data/noise.yaml": """
        _target_: my_lab.parts.Noise
        root: ??? # the folder with the recordings
        batch_size: 8
        image_size: ${resolution.image_size}
        num_classes: 10
        code_dim: 1
        grid_size: 1
    """,
    "conf/experiment/bell.yaml": """
        # @package _global_
        callbacks:
          bell:
            _target_: my_lab.parts.Bell
    """,
    "conf/hydra/lab.yaml": """
        defaults:
          - default
    """,
}
SEARCH = "hydra.searchpath=[pkg://my_lab.conf]"
COMMANDS = ("train", "tokenize", "sample", "evaluate", "probe", "demo")


@pytest.fixture(autouse=True)
def _my_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, text in FILES.items():
        path = tmp_path / "my_lab" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.strip("\n").splitlines()
        margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        path.write_text("\n".join(line[margin:] for line in lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "my_lab"]:
        del sys.modules[name]


def problem(command: str, *overrides: str) -> str:
    """Compose as a command does, and return what the validation says."""
    register_resolvers()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        words = [SEARCH, "hydra.runtime.output_dir=out", "hydra.job.num=0", "hydra.job.id=0"]
        config = hydra.compose(command, [*words, *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    try:
        validate(config)
    except ValueError as error:
        return str(error)
    finally:
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
    return ""


NOISE = ("data=noise", "data.root=.", "trainer=cpu")


@pytest.mark.parametrize("command", COMMANDS)
def test_groups_are_found_by_every_command(command: str) -> None:
    register_resolvers()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = hydra.compose(command, [SEARCH, "hydra=lab", "experiment=bell"])
    GlobalHydra.instance().clear()
    assert config.callbacks.bell._target_ == "my_lab.parts.Bell"
    assert OmegaConf.is_config(config)


def test_own_classes_are_accepted() -> None:
    task = ("task._target_=my_lab.parts.Task", "+task.width=8")
    with_own_task = [*NOISE, "experiment=bell", *task]
    assert problem("train", *with_own_task) == ""
    found = problem("train", *with_own_task, "task.width=4")
    assert found == "task.width must be an integer of at least 8, got 4."


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data.batch_size=0",), "data.batch_size must be a positive integer, got 0."),
        (("+data.any_name=0",), ""),
        (("callbacks.bell.every=null",), ""),
        (("callbacks.bell.sound=dung",), "callbacks.bell.sound must be ding or dong, got 'dung'."),
        (("+callbacks.bell.loud=1",), "callbacks.bell.loud: there is no such key."),
        (
            ("callbacks.bell._target_=my_lab.parts.Bel",),
            "callbacks.bell._target_=my_lab.parts.Bel: there is no such class or function.",
        ),
        (
            ("callbacks.bell._target_=my_lab.broken.Bell",),
            "callbacks.bell._target_=my_lab.broken.Bell cannot be imported: No module named "
            "'a_package_that_is_not_there' (pip install a_package_that_is_not_there).",
        ),
        (
            ("data.root=???",),
            "still needed: data.root (the folder with the recordings). Add data.root=… to",
        ),
    ],
)
def test_own_classes_are_validated(overrides: tuple[str, ...], message: str) -> None:
    overrides = tuple(
        f"+{word}" if word.startswith(("callbacks.bell.sound", "callbacks.bell.every")) else word
        for word in overrides
    )
    found = problem("train", *NOISE, "experiment=bell", *overrides)
    assert found.startswith(message)
    assert bool(found) == bool(message)
