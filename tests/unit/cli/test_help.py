"""The help texts of the commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import bigr
import bigr.__main__
from bigr import convert, fetch, sweep, train
from bigr.cli.configuration import register_resolvers
from bigr.cli.entry import quote_numbers
from bigr.cli.help import COMMANDS, GROUPS, OTHER_COMMANDS, command_help, overview
from bigr.presets import config_dir

INTERNAL_GROUPS = {"callbacks", "hydra", "paths", "recipe", "variant"}


@pytest.fixture(params=[80, 120])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The width of the terminal."""
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_the_terminal_and_names_every_option(name: str, width: int) -> None:
    text = command_help(name)
    assert max(map(len, text.splitlines())) <= min(width, 80)
    assert COMMANDS[name].purpose in text
    samples = name not in ("tokenize", "fit", "probe")
    assert ("\n  sampler " in text) == samples
    if samples:
        samplers = text.split("\n  sampler ")[1]
        for option in (path.stem for path in (config_dir() / "sampler").glob("*.yaml")):
            assert option in samplers.replace("\n", " ").split("  sweep ")[0], option
    assert ("ablation_x0" in text) == (name == "train")
    assert ("digits_probe" in text.split("Groups")[1]) == (name == "probe")
    assert ("reproduce/…" in text) == (name == "evaluate")
    has_data = name in ("train", "tokenize", "evaluate", "probe")
    assert ("\n  data " in text) == has_data
    assert ("\n  resolution " in text) == (has_data or name == "fit")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_the_keys_that_exist(name: str) -> None:
    """All keys at the top level that are no group, and those of groups that are described."""
    register_resolvers()
    words = {
        "evaluate": ["evaluation=reconstruction"],
        "sample": ["application=inpaint"],
    }.get(name, [])
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        plain, other = hydra.compose(name), hydra.compose(name, words)
    GlobalHydra.instance().clear()
    listed = re.findall(r"^  ([a-z][\w.]+)(?: |$)", command_help(name), flags=re.MULTILINE)
    for key in COMMANDS[name].keys:
        assert key in listed
        parent, _, last = key.rpartition(".")
        nodes = [OmegaConf.select(found, parent) for found in (plain, other)]
        assert any(last in node.keys() for node in nodes if node is not None), key  # noqa: SIM118
    values = {str(key) for key in plain if key not in GROUPS.keys() | INTERNAL_GROUPS}
    own = {
        "evaluation",
        "probe",
        *(["seed"] if name == "probe" else []),
    }  # keys of evaluations and their groups
    assert values - own - set(COMMANDS[name].unused) <= set(listed)


def test_an_option_of_a_key_is_described(width: int) -> None:
    text = " ".join(command_help("sample").split())
    assert (
        "batch_size images per device at a time, which does not change the images (default: 16)"
        in text
    )
    assert "released which of the released models" in text  # from a file of its own


@pytest.mark.parametrize(
    ("name", "example"),
    [(name, example) for name, command in COMMANDS.items() for example in command.examples],
)
def test_examples_compose(name: str, example: str) -> None:
    register_resolvers()
    words = [
        word.replace("guidance_scale=1,2", "guidance_scale=1")
        for word in quote_numbers(shlex.split(example))
        if word != "-m" and not word.startswith("hydra.")
    ]
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        assert hydra.compose(name, words)
    GlobalHydra.instance().clear()


def test_an_example_can_be_copied_into_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = command_help("evaluate")
    block = text.split("Examples:\n")[1].split("\n\n")[0]
    commands = block.replace("\\\n", " ").splitlines()
    copied = [shlex.split(line)[3:] for line in commands]
    assert copied == [shlex.split(example) for example in COMMANDS["evaluate"].examples]


def test_what_a_command_does_not_use_is_left_out() -> None:
    """The probe inherits the keys of evaluations, but has neither samples nor a reference."""
    for line in command_help("probe").splitlines():
        assert not line.startswith(("  samples", "  reference", "  evaluation", "  sampler "))
    assert "  samples  " in command_help("evaluate")


@pytest.mark.parametrize(
    ("main", "example"),
    [
        (convert.main, "python -m bigr.convert bigr_L_d24.pt bigr_L_d24.safetensors\n"),
        (fetch.main, "python -m bigr.fetch inception\n"),
        (sweep.main, "python -m bigr.sweep outputs/sweep --best digits_frechet\n"),
    ],
)
def test_help_of_commands_without_a_configuration(
    main: Callable[[], None],
    example: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.argv", ["bigr", "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    text = capsys.readouterr().out
    assert "\nexamples:\n" in text
    assert f"  {example}" in text
    assert max(map(len, text.splitlines())) <= 80


def test_every_group_is_described_or_internal() -> None:
    folders = {path.name for path in config_dir().iterdir() if path.is_dir()}
    assert folders == GROUPS.keys() | INTERNAL_GROUPS


def test_commands_are_all_entry_points() -> None:
    package = Path(bigr.__file__).parent
    files = {path.stem for path in package.glob("*.py") if "def main(" in path.read_text()}
    assert files - {"__main__"} == COMMANDS.keys() | OTHER_COMMANDS.keys()
    assert all(f"python -m bigr.{name}" in overview() for name in files - {"__main__"})
    assert max(map(len, overview().splitlines())) <= 80


def test_help_and_version_run_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bigr.train", "--help", "model=unknown"])
    train.main()
    assert capsys.readouterr().out == command_help("train") + "\n"
    for main in (train.main, bigr.__main__.main):
        monkeypatch.setattr("sys.argv", ["bigr", "--version"])
        main()
        assert capsys.readouterr().out == f"bigr-lightning {bigr.__version__}\n"
    monkeypatch.setattr("sys.argv", ["bigr"])
    bigr.__main__.main()
    assert capsys.readouterr().out == overview() + "\n"
