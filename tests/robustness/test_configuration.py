"""Any value for any key of any command: accepted, or one sentence that names the key."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import lightning
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict

from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.cli.configuration import config_dir, register_resolvers
from bigr.cli.entry import quote_numbers
from bigr.cli.validation import leaves
from tests.image_files import encoded, photograph
from tests.models import tiny_autoencoder, tiny_generator
from tests.robustness.conftest import Cases

MODELS = "generator=g.safetensors autoencoder=a.safetensors device=cpu"
SMALL = "model.dim=32 model.num_layers=1 model.denoiser_dim=32 model.denoiser_blocks=1"
PICTURE = "application.image=x.png"
COMMANDS = {
    "autoencoder": ("train", "experiment=digits_autoencoder"),
    "gan": ("train", "experiment=digits_gan"),
    "generator": ("train", f"experiment=digits_generator task.autoencoder=a.safetensors {SMALL}"
                  " autoencoder.code_dim=6 sample_metrics=digits"),
    "generate": ("sample", f"application.classes=[1] {MODELS}"),
    "inpaint": ("sample", f"application=inpaint application.mask=[[0,0,4,8]] {PICTURE} {MODELS}"),
    "outpaint": ("sample", f"application=outpaint application.keep=[[0,0,4,8]] {PICTURE} {MODELS}"),
    "edit": ("sample", f"application=edit application.mask=[[0,0,4,8]] application.class_name=1"
             f" {PICTURE} {MODELS}"),
    "enrich": ("sample", f"application=enrich {PICTURE} {MODELS}"),
    "interpolate": ("sample", f"application=interpolate application.first=0 application.second=1"
                    f" {MODELS}"),
    "digits": ("evaluate", f"evaluation=digits {MODELS}"),
    "fidelity": ("evaluate", f"evaluation=digits_fidelity {MODELS}"),
    "edits": ("evaluate", f"evaluation=edits data=digits resolution=16 {MODELS}"),
    "reconstruction": ("evaluate", f"evaluation=reconstruction data=digits resolution=16 {MODELS}"),
    "probe": ("probe", f"experiment=digits_probe {MODELS}"),
    "tokenize": ("tokenize", "experiment=digits autoencoder=a.safetensors output=codes"),
    "demo": ("demo", "generator=g.safetensors autoencoder=a.safetensors"),
}  # fmt: skip
NOT_DRAWN = ("paths.", "hydra.")
"""Keys that would let a case write anywhere."""

ODD = [
    *(None, True, False, 0, 1, -1, 2, 3, 0.0, 0.5, -0.5, 1.5, 2**31, 10**12, -(10**12), 10**30),
    *(math.nan, math.inf, -math.inf, 1e300, -1e300, 1e-300, 1e12),
    *("", "maybe", "null ", "1", "1.5", "auto", "a b", "ünï", "None", "[1", "x" * 500, "..."),
    *([], [1, 2], [None], ["a"], [[]], [[0, 0, 1e9, 5]], [True], [-1], [math.nan], [0] * 50),
    *({}, {"a": 1}, {"a": {"b": [1]}}, {"_target_": "nowhere.Nothing"}, {"_target_": 3}),
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text("abcxyz019 _-ünï'", max_size=12)
)
VALUES = st.sampled_from(ODD) | st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner),
    max_leaves=4,
)


class AcceptedError(BaseException):
    """The command has begun with its work."""


def accept(*_: object, **__: object) -> None:
    raise AcceptedError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files")
    size = {"image_size": 16, "channel_multipliers": (1, 1, 1)}
    save_autoencoder(tiny_autoencoder(**size), path / "a.safetensors")
    save_generator(tiny_generator(num_classes=10), path / "g.safetensors")
    (path / "x.png").write_bytes(encoded(photograph(40, 50), "PNG"))
    return path


@pytest.fixture
def patched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in the folder, and stop where their work begins."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(lightning.Trainer, "fit", accept)
    monkeypatch.setattr(lightning.Trainer, "predict", accept)
    monkeypatch.setattr(torch.nn.Module, "__call__", accept)
    monkeypatch.setattr("bigr.metrics.digit_classifier.DigitClassifier.__init__", accept)
    monkeypatch.setattr("bigr.app.server.serve", accept)
    for name in ("HYDRA_FULL_ERROR", "NODE_RANK", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


class Outcome(NamedTuple):
    code: object
    """``None`` if the command was accepted."""
    error: str


def run(module: str) -> Outcome:
    """Run a command in this process until it has refused its input or begins to work."""
    error, before = io.StringIO(), sys.argv
    sys.argv = [f"bigr.{module}"]
    handlers = logging.root.handlers[:]
    try:
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(f"bigr.{module}").main()
    except AcceptedError:
        return Outcome(None, "")
    except SystemExit as stop:
        return Outcome(stop.code, error.getvalue())
    finally:
        sys.argv, logging.root.handlers[:] = before, handlers
    return Outcome(0, error.getvalue())


def problem(module: str, keys: Sequence[str], outcome: Outcome) -> str | None:
    """Return what is wrong with an outcome, or ``None``.

    The sentence may be about another key that the value contradicts.
    """
    if outcome.code is None:
        return None
    lines = [line for line in outcome.error.splitlines() if line]
    if outcome.code != 2 or not lines:
        return f"it ended with {outcome.code}: {outcome.error[-300:]}"
    if not lines[-1].startswith(f"bigr.{module}: ") or "Traceback" in outcome.error:
        return f"not a sentence: {outcome.error[-300:]}"
    sentence = lines[-1].removeprefix(f"bigr.{module}: ")
    names = {name for key in keys for name in key.split(".")}
    is_named = names & set(re.findall(r"\w+", sentence))
    return None if is_named else f"no key is named: {sentence}"


def compose(module: str, words: list[str], folder: Path) -> DictConfig:
    """Return the configuration of a command, and set that of Hydra itself."""
    register_resolvers()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = hydra.compose(module, quote_numbers(words), return_hydra_config=True)
    with open_dict(config):
        config.hydra.runtime.output_dir = str(folder)
        config.hydra.mode = RunMode.RUN
        config.hydra.job.num = 0
        HydraConfig.instance().set_config(config)
        del config["hydra"]
    return config


def keys_of(config: DictConfig) -> list[str]:
    """Return every key of a configuration that has a value."""
    raw: Any = OmegaConf.to_container(config, resolve=False)
    names = {key.split("[")[0]: None for key, _ in leaves(raw)}
    return [name for name in names if not name.startswith(NOT_DRAWN)]


@pytest.mark.parametrize("name", COMMANDS)
def test_any_value_of_any_key(
    name: str, patched: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cases: Cases
) -> None:
    module, words = COMMANDS[name]
    whole = compose(module, words.split(), tmp_path / "run")
    config = whole

    def without_composing(**_: Any) -> Any:
        return lambda job: lambda: job(config)

    monkeypatch.setattr("bigr.cli.entry.hydra.main", without_composing)
    assert run(module) == Outcome(None, ""), "it has to work as it is"
    keys = keys_of(whole)
    assert len(keys) > 15
    found: dict[str, str] = {}

    @settings(
        max_examples=cases.number(160, 5), deadline=None, database=None, derandomize=True,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.sampled_from(keys), VALUES)
    def check(key: str, value: Any) -> None:
        nonlocal config
        config = whole.copy()
        shown = f"{key}={value!r:.200}"
        outcome = None
        with cases.limited(name, shown):
            try:
                OmegaConf.update(config, key, value, merge=False)
                outcome = run(module)
            except BaseException as error:  # whatever it is, it is not a sentence
                found[shown] = f"{type(error).__name__}: {str(error)[:300]}"
        if outcome is not None and (wrong := problem(module, keys, outcome)):
            found[shown] = wrong

    check()
    HydraConfig.instance().cfg = None
    assert not found, "\n".join(f"{name} … {key}: {text}" for key, text in found.items())
