"""Wrong input to the entry points: one sentence with the key and the fix, before anything heavy."""

from __future__ import annotations

import functools
import importlib
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from hydra.types import RunMode

from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.data import locks
from bigr.data.codes_writer import StoreWriter
from bigr.models.config import BiGRConfig
from tests.codes_stores import SETTINGS, fill
from tests.configs.user_errors import DIGITS, MODELS, OTHERS, TRAIN, UNREADABLE
from tests.folder_locks import locked
from tests.models import tiny_autoencoder, tiny_generator
from tests.processes import fresh_python

RUN = """
import sys
from importlib import import_module
try:
    import_module(sys.argv.pop(1)).main()
finally:
    print([name for name in ("torch", "lightning", "pydantic") if name in sys.modules])
"""
TIMEOUT = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files")
    save_autoencoder(tiny_autoencoder(), path / "a.safetensors")
    save_generator(tiny_generator(), path / "g.safetensors")
    writer = StoreWriter(path / "codes", SETTINGS)
    fill(writer)
    writer.finish()
    (path / "junk.pt").write_text("junk")
    (path / "run" / "checkpoints").mkdir(parents=True)
    (path / "run" / "checkpoints" / "step_00000001.ckpt").write_text("precious")
    return path


class Result(NamedTuple):
    code: int | str | None
    error: str
    output: str


@pytest.fixture
def call(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(folder, monkeypatch, capsys)


def _too_late(*_: object) -> None:
    raise TimeoutError("the input was not refused")


class Command:
    """Runs an entry point in this process, as a command in the folder of files does."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(folder)
        # Hydra composes each configuration once more to find out that this is not a sweep.
        monkeypatch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda *_, **__: RunMode.RUN)
        for name in ("HYDRA_FULL_ERROR", "NODE_RANK", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID"):
            monkeypatch.delenv(name, raising=False)
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def __call__(self, module: str, *overrides: str) -> Result:
        main = importlib.import_module(f"bigr.{module}").main
        self.monkeypatch.setattr(sys, "argv", [f"bigr.{module}", *overrides])
        self.capsys.readouterr()
        code: int | str | None = 0
        signal.signal(signal.SIGALRM, _too_late)
        signal.alarm(TIMEOUT)  # what is not refused would train for minutes
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        finally:
            signal.alarm(0)
        output, error = self.capsys.readouterr()
        return Result(code, error, output)


CASES = [
    pytest.param(
        *("train", f"{DIGITS} model.dropout=2", "model.dropout must be a number between 0 and 1"),
        marks=pytest.mark.skipif(
            BiGRConfig.__annotations__["dropout"] == "float", reason="no range is annotated yet"
        ),
    ),
    *(("train", overrides, message) for overrides, message in UNREADABLE),
    *(("train", f"{DIGITS} {overrides}", message) for overrides, message in TRAIN),
    *OTHERS,
]


def check(result: Result, module: str, message: str) -> None:
    lines = [line for line in result.error.splitlines() if line]
    assert result.code == 2, result
    assert len(lines) == 1, result
    assert lines[0].startswith(f"bigr.{module}: ")
    assert message in lines[0]


@pytest.mark.parametrize(("module", "overrides", "message"), CASES, ids=range(len(CASES)))
def test_one_sentence(
    call: Command, folder: Path, module: str, overrides: str, message: str
) -> None:
    result = call(module, *overrides.split())
    check(result, module, message)
    assert "ightning" not in result.output
    assert (folder / "run" / "checkpoints" / "step_00000001.ckpt").read_text() == "precious"


@pytest.mark.parametrize(
    ("module", "overrides"),
    [
        ("train", DIGITS),
        ("evaluate", f"evaluation=reconstruction data=digits {MODELS}"),
        ("probe", f"data=digits {MODELS}"),
    ],
)
def test_a_folder_that_another_command_uses(
    call: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, overrides: str
) -> None:
    waits_not = functools.partial(locks.only_writer, wait_seconds=0)
    monkeypatch.setattr(locks, "only_writer", waits_not)
    with locked(folder / "used"):
        result = call(module, *overrides.split(), "hydra.run.dir=used")
    check(result, module, "used is in use by another process: wait until it has finished, or")
    assert not (folder / "used" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        *(UNREADABLE[0], UNREADABLE[2], UNREADABLE[3], UNREADABLE[5]),
        (f"{DIGITS} hydra.run.dir=run", "already holds a run"),
    ],
    ids=["key", "group", "option", "missing", "run"],
)
def test_early_mistakes_are_answered_without_importing_torch(
    folder: Path, overrides: str, message: str
) -> None:
    found = fresh_python("-c", RUN, "bigr.train", *overrides.split(), cwd=folder)
    check(Result(found.returncode, found.stderr, found.stdout), "train", message)
    assert found.stdout == "[]\n"


def test_traceback_on_request(call: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match="Could not find 'model/xxxl'"):
        call("train", "model=xxxl")


def test_configuration_can_be_shown_from_any_folder(call: Command) -> None:
    result = call("train", "model=xxl", "trainer.num_nodes=4", "--cfg", "job")
    assert result.code == 0
    assert "num_layers: 48" in result.output
    assert "num_nodes: 4" in result.output
