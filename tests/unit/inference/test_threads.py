"""The number of threads in containers, whose files are made up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bigr.inference.threads import cpu_limit, limit_threads


def container(folder: Path, group: str, limits: dict[str, str]) -> Path:
    """Write the files of a process in ``group`` with these limits, and return their folder."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(f"3:cpuset:/elsewhere\n0::{group}\n")
    (folder / "sys/fs/cgroup" / group.lstrip("/")).mkdir(parents=True)
    for name, limit in limits.items():
        (folder / "sys/fs/cgroup" / name.lstrip("/") / "cpu.max").write_text(f"{limit}\n")
    return folder


@pytest.mark.parametrize(
    ("group", "limits", "expected"),
    [
        ("/", {"/": "200000 100000"}, 2),  # a container, which sees its own group as the root
        ("/", {"/": "150000 100000"}, 2),
        ("/", {"/": "10000 100000"}, 1),
        ("/", {"/": "max 100000"}, None),
        ("/", {}, None),
        ("/pod/app", {"/pod": "400000 100000", "/pod/app": "max 100000"}, 4),
        ("/pod/app", {"/pod": "400000 100000", "/pod/app": "60000 20000"}, 3),
        ("/pod/app", {"/pod": "100000 100000", "/pod/app": "300000 100000"}, 1),
        ("/pod/app", {"/": "500000 100000"}, 5),
        ("/", {"/": "something else"}, None),
    ],
)
def test_limits(group: str, limits: dict[str, str], expected: int | None, tmp_path: Path) -> None:
    assert cpu_limit(container(tmp_path, group, limits)) == expected


def test_systems_without_control_groups(tmp_path: Path) -> None:
    assert cpu_limit(tmp_path) is None
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("3:cpuset:/\n")  # version 1 only
    assert cpu_limit(tmp_path) is None


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin with four threads of PyTorch that nobody asked for."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("limit", "expected"), [(3, 3), (4, 4), (8, 4), (None, 4)])
def test_threads(limit: int | None, expected: int, tmp_path: Path) -> None:
    limits = {} if limit is None else {"/": f"{limit}00000 100000"}
    limit_threads(container(tmp_path, "/", limits))
    assert torch.get_num_threads() == expected


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_explicit_numbers_stay(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "4")
    limit_threads(container(tmp_path, "/", {"/": "100000 100000"}))
    assert torch.get_num_threads() == 4
