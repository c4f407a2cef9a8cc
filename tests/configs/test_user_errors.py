"""Wrong input to the entry points: one sentence with the key and the fix, before anything heavy."""

from __future__ import annotations

import importlib
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.models.config import BiGRConfig
from tests.models import tiny_autoencoder, tiny_generator
from tests.processes import python

RUN = """
import sys
from importlib import import_module
try:
    import_module(sys.argv.pop(1)).main()
finally:
    print([name for name in ("torch", "lightning") if name in sys.modules])
"""
DIGITS = "experiment=digits_autoencoder"
TIMEOUT = 60
MODELS = "generator=g.safetensors autoencoder=a.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files")
    save_autoencoder(tiny_autoencoder(), path / "a.safetensors")
    save_generator(tiny_generator(), path / "g.safetensors")
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


UNREADABLE = [
    ("trainer.max_step=5", "trainer.max_step: there is no such key. Did you mean trainer.max_st"),
    ("trianer.max_steps=5", "trianer.max_steps: there is no such key. Did you mean trainer.max_"),
    ("modle=l", "modle: there is no such key. Did you mean model"),
    ("model=xxxl", "model=xxxl: there is no such option. Did you mean xxl"),
    ("experiment=digit_generator", "Did you mean digits_generator"),
    ("model=l", "still needed: data.root"),
    ("model.dim=[", "cannot read 'model.dim=['"),
]
TRAIN = [
    ("autoencoder.code_dim=many", "autoencoder.code_dim must be a"),
    (
        "+autoencoder.foo=1",
        "autoencoder.foo: there is no such key. BinaryAutoencoderConfig takes",
    ),
    ("trainer.max_steps=10", "warmup_steps=50 must be"),
    ("trainer.max_steps=ten", "trainer.max_steps must be an integer of at least -1, got 'ten'"),
    ("trainer.precision=17", "trainer.precision must be one of"),
    ("trainer=gpu", "trainer.accelerator=gpu, but PyTorch finds no GPU"),
    ("trainer.num_nodes=4", "start the command on every node with srun"),
    ("trainer.val_check_interval=0", "trainer.val_check_interval must be above 0 or null, got 0"),
    ("trainer.log_every_n_steps=0", "trainer.log_every_n_steps must be a positive integer"),
    ("trainer.accumulate_grad_batches=null", "accumulate_grad_batches must be a positive integer"),
    ("trainer.devices=1.5", "trainer.devices must be"),
    ("trainer.enable_progress_bar=maybe", "enable_progress_bar must be true or false or null"),
    ("data.batch_size=0", "batch_size must be a positive integer, got 0"),
    ("data.batch_size=null", "data.batch_size must be a"),
    ("data.num_workers=null", "data.num_workers must be an integer"),
    ("task.optimizer.lr=fast", "task.optimizer.lr must be a number or a Tensor, got 'fast'"),
    ("task.optimizer.lr=nan", "task.optimizer.lr must be a number or a Tensor, got nan"),
    ("task.optimizer.lr=null", "task.optimizer.lr must be a number or a Tensor, got null"),
    ("task.optimizer.fused=maybe", "task.optimizer.fused must be true or false or null, got 'may"),
    ("+task.optimizer.learning_rate=1", "task.optimizer.learning_rate: there is no such key"),
    ("+callbacks.mine._target_=my_lab.Nothing", "my_lab.Nothing: there is no such class or funct"),
    ("seed=-1", "seed must be an integer of at least 0, got -1"),
    ("seed=null", "seed must be an integer of at least 0, got null"),
    ("seed=1.5", "seed must be an integer of at least 0, got 1.5"),
    ("seed=true", "seed must be an integer of at least 0, got true"),
    ("global_batch_size=0", "global_batch_size must be a positive integer or null, got 0"),
    ("optimized_metric=3", "optimized_metric must be a string or null, got 3"),
    ("resume=nowhere.ckpt", "resume=nowhere.ckpt: there is no such file"),
    ("resume=true", "resume must be a string or null, got true"),
    ("hydra.run.dir=run", "already holds a run: add resume=auto"),
]
OTHERS = [
    ("train", "experiment=digits", "views: there is no such key in bigr.train"),
    (
        "train",
        "experiment=digits_generator task.autoencoder=a.safetensors",
        "makes codes with code",
    ),
    (
        "train",
        "experiment=digits_generator task.autoencoder=g.safetensors",
        "is a generator (the format of this project), but a B-AE is needed here",
    ),
    (
        "train",
        "experiment=digits_generator task.autoencoder=nowhere.th",
        "nowhere.th",
    ),
    (
        "tokenize",
        "experiment=digits",
        "still needed: autoencoder (a released .th, or .safetensors or .ckpt from here) and output",
    ),
    (
        "tokenize",
        "experiment=digits autoencoder=a.safetensors output=o num_draws=0",
        "num_draws must be a positive integer, got 0",
    ),
    (
        "tokenize",
        "experiment=digits autoencoder=a.safetensors output=null",
        "output must be a string, got null",
    ),
    (
        "tokenize",
        "experiment=digits autoencoder=a.safetensors output=o splits=[test]",
        "splits must be ",
    ),
    (
        "tokenize",
        "experiment=digits autoencoder=a.safetensors output=o deterministic=maybe",
        "deterministic must be true or false, got 'maybe'",
    ),
    ("tokenize", "task=generator", "task: there is no such key. All keys: python -m bigr.tokenize"),
    ("sample", "", "still needed: generator (a released .pt, or .safetensors or .ckpt from here)"),
    ("sample", "generator=g.safetensors autoencoder=junk.pt", "junk.pt is not a checkpoint"),
    ("sample", "generator=no.pt autoencoder=junk.pt", "generator=no.pt: there is no such file"),
    ("sample", "generator=null autoencoder=junk.pt", "generator must be a string, got null"),
    ("sample", MODELS, "class 207: this generator has the classes 0..2"),
    ("sample", f"{MODELS} batch_size=null", "batch_size must be a positive integer, got null"),
    ("sample", f"{MODELS} batch_size=1.5", "batch_size must be a positive integer, got 1.5"),
    ("sample", f"{MODELS} device=meta", "device=meta: it can be auto, cpu, cuda"),
    ("sample", f"{MODELS} device=null", "device must be a string, got null"),
    ("sample", f"{MODELS} devices=0", "devices must be a positive integer, got 0"),
    ("sample", f"{MODELS} num_nodes=2", "num_nodes=2, but nothing says which node this is"),
    ("sample", f"{MODELS} animate=maybe", "animate must be true or false, got 'maybe'"),
    (
        "sample",
        f"application=edit {MODELS}",
        "still needed: application.image (a picture of any size; the centre square is edited) "
        "and application.class_name (the class to paint, as a number or a name)",
    ),
    ("sample", f"application=inpaint application.image=no.png {MODELS}", "there is no file no.png"),
    (
        "sample",
        f"application=interpolate application.first=0 application.second=tabby {MODELS}",
        "class 'tabby': this generator has no names for its classes, 0..2",
    ),
    ("sample", f"application=enrich application.image=x devices=2 {MODELS}", "2 processes"),
    ("sample", f"sampler.order=entropy {MODELS}", "sampler.order must be"),
    ("sample", f"{MODELS} device=cuda", "device=cuda can't"),
    (
        "evaluate",
        f"evaluation=digits {MODELS}",
        "evaluation=digits needs a generator of 10 classes, this one has 3",
    ),
    (
        "evaluate",
        f"evaluation=digits confirm=0 {MODELS}",
        "confirm must be a positive integer or n",
    ),
    ("evaluate", "evaluation=digit", "evaluation=digit: there is no such option. Did you mean dig"),
    ("evaluate", "task=autoencoder", "task=autoencoder has been renamed: use evaluation=reconstr"),
    ("evaluate", "application=inpaint", "application=inpaint has been renamed: use evaluation=edi"),
    ("demo", "port=0", "port must be an integer between 1 and 65535, got 0"),
    ("demo", "open_browser=maybe", "open_browser must be true or false, got 'maybe'"),
    ("demo", "limits.iterations=null", "limits must be"),
    ("probe", "data=digits generator=g.safetensors seed=null", "seed must be an integer of at le"),
]
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
    ("overrides", "message"),
    [UNREADABLE[0], UNREADABLE[2], UNREADABLE[3], UNREADABLE[5]],
    ids=["key", "group", "option", "missing"],
)
def test_misspelled_words_are_answered_without_importing_torch(
    folder: Path, overrides: str, message: str
) -> None:
    found = python("-c", RUN, "bigr.train", *overrides.split(), cwd=folder)
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
