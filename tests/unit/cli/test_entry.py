"""Sweeps, old names and exit codes of the commands."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from bigr.cli import entry
from bigr.cli.configuration import config_dir, register_resolvers
from bigr.cli.messages import RENAMED, explain
from bigr.data import locks
from tests.folder_locks import locked


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, job: Any, *words: str) -> int | str | None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    arguments = ["bigr.train", *words]
    monkeypatch.setattr(sys, "argv", arguments)
    try:
        entry.run("train", job)
    except SystemExit as stop:
        return stop.code
    finally:
        assert sys.argv is arguments, "it is left as it was"
    return 0


def test_numbers_of_groups_need_no_quotes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sizes: list[int] = []

    def job(config: DictConfig) -> None:
        sizes.append(config.resolution.image_size)

    words = ("experiment=digits_autoencoder", "resolution=256,512", "seed=1", "-m")
    assert run(monkeypatch, tmp_path, job, *words) == 0
    assert run(monkeypatch, tmp_path, job, "experiment=digits_autoencoder", "resolution=512") == 0
    assert sizes == [256, 512, 512]


def test_paths_need_no_second_quotes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hydra's grammar has no accented letters, and no parentheses or tildes in values."""
    roots: list[str] = []

    def job(config: DictConfig) -> None:
        roots.append(config.data.root)

    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("Käfer (1)", "two words", "it's"):
        (tmp_path / name).mkdir()
        words = ("experiment=crops_autoencoder", f"data.root={tmp_path / name}")
        assert run(monkeypatch, tmp_path, job, *words) == 0
    words = ("experiment=crops_autoencoder", "data.root=~/Käfer (1)")
    assert run(monkeypatch, tmp_path, job, *words) == 0
    names = [Path(root).relative_to(tmp_path).name for root in roots[:-1]]
    assert names == ["Käfer (1)", "two words", "it's"]
    assert roots[-1] == "~/Käfer (1)"


def test_the_processes_of_a_job_print_no_tracebacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Unless that was asked for."""
    seen: list[str | None] = []

    def job(config: DictConfig) -> None:
        seen.append(os.environ.get("HYDRA_FULL_ERROR"))

    assert run(monkeypatch, tmp_path, job, "experiment=digits_autoencoder") == 0
    assert "HYDRA_FULL_ERROR" not in os.environ
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["bigr.train", "experiment=digits_autoencoder"])
    monkeypatch.chdir(tmp_path)
    entry.run("train", job)
    assert os.environ["HYDRA_FULL_ERROR"] == "1"
    assert seen == [None, "1"]


def test_threads_are_limited_before_the_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(entry, "limit_threads", lambda: seen.append("limited"))
    words = ("experiment=digits_autoencoder",)
    assert run(monkeypatch, tmp_path, lambda _: seen.append("job"), *words) == 0
    assert seen == ["limited", "job"]


def test_a_failed_job_of_a_sweep_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds: list[int] = []

    def job(config: DictConfig) -> None:
        seeds.append(config.seed)
        if config.seed == 1:
            raise entry.UserError("seed=1 is not liked.")

    words = ("experiment=digits_autoencoder", "seed=1,2,3", "-m")
    assert run(monkeypatch, tmp_path, job, *words) == 2
    assert seeds == [1, 2, 3]
    assert capsys.readouterr().err.endswith("bigr.train: seed=1 is not liked.\n")


def test_a_refused_command_leaves_no_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Unless it contains results."""

    def job(config: DictConfig) -> None:
        with entry.run_folder(config) as folder:
            if config.seed == 2:
                (folder / "result.txt").touch()
            raise entry.UserError("not like this.")

    words = ("experiment=digits_autoencoder", "hydra.run.dir=refused")
    assert run(monkeypatch, tmp_path, job, *words) == 2
    assert not (tmp_path / "refused").exists()
    assert run(monkeypatch, tmp_path, job, *words, "seed=2") == 2
    assert (tmp_path / "refused" / "result.txt").exists()


def test_a_refused_command_keeps_the_folder_of_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Which has only just begun, or holds the lock."""

    def job(config: DictConfig) -> None:
        raise entry.UserError("not like this.")

    (tmp_path / "begun" / ".hydra").mkdir(parents=True)
    for name in ("config", "hydra", "overrides"):
        (tmp_path / "begun" / ".hydra" / f"{name}.yaml").touch()
    os.utime(tmp_path / "begun" / ".hydra", (1e9, 1e9))
    words = ("experiment=digits_autoencoder", "hydra.run.dir=begun")
    assert run(monkeypatch, tmp_path, job, *words) == 2
    assert (tmp_path / "begun" / ".hydra").exists()
    with locked(tmp_path / "locked"):
        words = ("experiment=digits_autoencoder", "hydra.run.dir=locked")
        assert run(monkeypatch, tmp_path, job, *words) == 2
        assert (tmp_path / "locked" / locks.LOCK_FILE).exists()


def test_an_error_of_the_job_itself_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def job(config: DictConfig) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run(monkeypatch, tmp_path, job, "experiment=digits_autoencoder")


@pytest.mark.parametrize(
    ("message", "words", "expected"),
    [
        ("Could not override 'code'.", ["code=d32"], "code has been renamed: use autoencoder."),
        (
            "Could not override 'code.code_dim'.",
            ["code.code_dim=1"],
            "code has been renamed: use autoencoder.code_dim.",
        ),
        (
            "In 'train': Could not find 'data/imagenet_codes'",
            [],
            "data=imagenet_codes has been renamed: use data=codes.",
        ),
        (
            "Could not override 'sampler.precision'.",
            ["sampler.precision=float8"],
            "sampler.precision has been renamed: use execution.precision.",
        ),
    ],
)
def test_old_names(message: str, words: list[str], expected: str) -> None:
    assert explain(ValueError(message), "train", words) == expected


def test_new_names_are_not_old_ones() -> None:
    assert not set(RENAMED) & set(RENAMED.values())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # Of the evaluations, only ``edits`` has a region.
        (["evaluation=edits", "evaluation.regions=left"], "Did you mean evaluation.region"),
        (["sampler.gidance_scale=1"], "Did you mean sampler.guidance_scale"),
        (["smapler=paper_l"], "Did you mean sampler"),
    ],
)
def test_suggestions_know_the_keys_of_the_chosen_options(words: list[str], expected: str) -> None:
    register_resolvers()
    with (
        initialize_config_dir(str(config_dir()), version_base="1.3"),
        pytest.raises(ConfigCompositionException) as found,
    ):
        compose("evaluate", words)
    GlobalHydra.instance().clear()
    assert expected in explain(found.value, "evaluate", words)


def test_one_command_at_a_time_in_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def folder(name: str) -> DictConfig:
        return OmegaConf.create({"paths": {"output": str(tmp_path / name)}})

    monkeypatch.setattr(locks, "only_writer", functools.partial(locks.only_writer, wait_seconds=0))
    with locked(tmp_path / "run"):
        with (
            pytest.raises(entry.UserError, match=r"run is in use by .*choose another folder"),
            entry.run_folder(folder("run")),
        ):
            pytest.fail("the folder was locked")
        with entry.run_folder(folder("another")):
            pass
        # The other processes of a command rely on the first one.
        monkeypatch.setenv("LOCAL_RANK", "1")
        with entry.run_folder(folder("run")):
            pass
    monkeypatch.delenv("LOCAL_RANK")
    with entry.run_folder(folder("run")):
        pass
