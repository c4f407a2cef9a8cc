"""Words that a shell and Hydra read as they are meant."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from bigr.cli.command_words import command_line, override, quote_paths, with_preset_files

NAMES = ["photos", "my photos", "Käfer (1)", "it's", 'a "b"', "a,b", "#1", "$x `y`", "two  spaces"]


def read_by_hydra(word: str) -> object:
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("name", NAMES)
def test_a_printed_command_is_read_as_it_is_meant(name: str) -> None:
    line = command_line("bigr.fit", override("images", name), "seed=1")
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "bigr.fit"]
    assert words[4] == "seed=1"
    assert read_by_hydra(words[3]) == name


def test_quotes_are_readable() -> None:
    assert command_line("bigr.fit", override("images", "my photos")).endswith("'images=my photos'")
    line = command_line("bigr.fit", override("images", "Käfer (1)"))
    assert line.endswith("\"images='Käfer (1)'\"")


@pytest.mark.parametrize("name", NAMES)
def test_existing_paths_are_quoted(name: str, tmp_path: Path) -> None:
    words = [f"images={tmp_path / name}", "seed=1", "-m"]
    (tmp_path / name).mkdir()
    quoted = quote_paths(words)
    assert read_by_hydra(quoted[0]) == str(tmp_path / name)
    assert quoted[1:] == ["seed=1", "-m"]


def test_other_words_stay_as_they_are(tmp_path: Path) -> None:
    missing = [f"images={tmp_path}/nowhere (1)", "a=~nobody-has-this-name/x", f"b={'x(' * 9999}"]
    assert quote_paths([*missing, "c=[1,2]", "d=", "--help"]) == [
        *(*missing, "c=[1,2]", "d=", "--help")
    ]


def test_a_preset_file_stands_for_its_settings(tmp_path: Path) -> None:
    """Overrides after it replace its values, as Hydra takes the last one."""
    path = tmp_path / "best.yaml"
    path.write_text("# Found.\norder: [halton, random]\nguidance_scale: 2.5\nreuse_decided: true\n")
    words = with_preset_files(
        ["seed=1", f"sampler={path}", "sampler.guidance_scale=3", "sampler=digits"]
    )
    assert words == [
        "seed=1", "sampler=model", 'sampler.order=["halton", "random"]',
        "sampler.guidance_scale=2.5", "sampler.reuse_decided=true", "sampler.guidance_scale=3",
        "sampler=digits",
    ]  # fmt: skip
    path.write_text("- 1\n")
    for name, message in ((path, "contains no settings"), (tmp_path / "no.yaml", "cannot be read")):
        with pytest.raises(ValueError, match=message):
            with_preset_files([f"sampler={name}"])
