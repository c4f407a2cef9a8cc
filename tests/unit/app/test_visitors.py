"""Files of visitors: whose they are, how many are kept, and when they are deleted."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bigr.app.visitors import (
    GRACE_SECONDS,
    KEPT_RUNS,
    MOST_RUNNING,
    MOST_SESSIONS,
    MOST_VISITORS,
    PREFIX,
    STALE_SECONDS,
    RefusedError,
    Visitor,
    Visitors,
    private_folder,
)
from bigr.data.locks import only_writer


@pytest.fixture
def visitors(tmp_path: Path) -> Visitors:
    return Visitors(tmp_path, visitor_bytes=100, total_bytes=250)


def test_files_belong_to_one_visitor(visitors: Visitors, tmp_path: Path) -> None:
    _, ann = visitors.welcome(None)
    _, bob = visitors.welcome(None)
    path = ann.store("../../cat picture.png", b"cat")
    assert path.parent == ann.folder
    assert path.name.endswith("_cat_picture.png")
    assert ann.owns(path)
    assert not bob.owns(path)
    (ann.folder / "link").symlink_to("/etc/hostname")
    others = ["/etc/hostname", str(ann.folder / "link"), str(ann.folder), "no\0path", ""]
    assert not any(ann.owns(other) for other in others)
    assert not ann.owns(f"{bob.folder}/../{bob.folder.name}/x")


def test_the_oldest_uploads_make_room(visitors: Visitors) -> None:
    _, visitor = visitors.welcome(None)
    paths = []
    for number in range(3):
        paths.append(visitor.store("a.png", bytes([number]) * 40))
        os.utime(paths[-1], (number, number))
    assert [path.exists() for path in paths] == [False, True, True]
    assert visitor.store("a.png", bytes([2]) * 40) == paths[2]  # the same content again
    assert paths[1].exists()
    assert visitor.size() == 80


def test_the_same_upload_several_times_at_once(visitors: Visitors) -> None:
    """Gradio's editor sends background and composite at the same time, which may be equal."""
    _, visitor = visitors.welcome(None)
    barrier = threading.Barrier(8)

    def store(number: int) -> Path:
        barrier.wait()
        return visitor.store("a.png", bytes([number // 4]) * 40)

    for _ in range(20):
        with ThreadPoolExecutor(8) as pool:
            paths = list(pool.map(store, range(8)))
        assert len(set(paths)) == 2
        assert [path.read_bytes()[:1] for path in paths[3:5]] == [b"\0", b"\1"]
    assert visitor.size() == 80


def test_results_are_deleted_while_files_are_counted(visitors: Visitors) -> None:
    """A request deletes the folders of earlier ones while an upload looks for space."""
    _, visitor = visitors.welcome(None)
    is_finished = threading.Event()

    def generate() -> None:
        while not is_finished.is_set():
            with visitor.run("page") as (folder, _):
                (folder / "result.png").write_text("result")

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(generate)
        try:
            for number in range(300):
                visitors.check_space(1)
                visitor.store("a.png", bytes([number % 2]))
        finally:
            is_finished.set()
        running.result()


def test_old_results_are_deleted(visitors: Visitors) -> None:
    _, visitor = visitors.welcome(None)
    runs = []
    for _ in range(KEPT_RUNS + 2):
        with visitor.run("page") as (folder, _):
            (folder / "result.png").write_text("result")
            runs.append(folder)
    assert [run.exists() for run in runs] == [False, False] + [True] * KEPT_RUNS


def test_results_of_running_requests_stay(visitors: Visitors) -> None:
    """Also if the visitor has finished many others since, and no visitor can fill the line."""
    _, visitor = visitors.welcome(None)
    with visitor.run("page") as (first, _):
        for _ in range(2 * KEPT_RUNS):
            with visitor.run("other"):
                pass
        assert first.exists()
        with contextlib.ExitStack() as stack:
            for number in range(MOST_RUNNING - 1):
                stack.enter_context(visitor.run(f"page{number}"))
            with pytest.raises(RefusedError, match="4 of your requests are not finished"):
                stack.enter_context(visitor.run("one too many"))
    with visitor.run("page"):
        pass


def test_a_request_is_stopped_by_its_own_page(visitors: Visitors) -> None:
    _, visitor = visitors.welcome(None)
    visitor.stop("one")  # nothing runs
    with visitor.run("one") as one, visitor.run("other") as other:
        visitor.stop("one")
        assert one.stop.is_set()
        assert not other.stop.is_set()


def test_visitors_stay_while_a_page_is_open_or_a_request_runs(tmp_path: Path) -> None:
    visitor = Visitor(tmp_path / "visitor", 100)
    path = visitor.store("a.png", b"a")
    soon, late = visitor.left_at + 1, visitor.left_at + 1e6
    visitor.open_page()
    assert not visitor.leave(late)
    with visitor.run("page"):
        visitor.close_page()
        assert not visitor.leave(late)
    assert not visitor.leave(soon)
    assert path.exists()
    assert visitor.leave(visitor.left_at + GRACE_SECONDS + 1)
    assert not visitor.folder.exists()
    with pytest.raises(RefusedError, match="the page was closed"), visitor.run("page"):
        pass


def test_only_known_cookies_count(visitors: Visitors) -> None:
    token, visitor = visitors.welcome("mine")
    assert token != "mine"
    assert visitors.find("mine") is None
    assert visitors.welcome(token) == (token, visitor)
    assert visitors.find(token) is visitor


def test_pages_belong_to_one_visitor(visitors: Visitors) -> None:
    _, ann = visitors.welcome(None)
    _, bob = visitors.welcome(None)
    visitors.enter(ann, "page1")
    visitors.enter(ann, "page1")
    with pytest.raises(RefusedError, match="another visitor"):
        visitors.enter(bob, "page1")
    for name in ("", "../x", "a" * 65, "page 1"):
        with pytest.raises(RefusedError, match="1 to 64 letters"):
            visitors.enter(bob, name)
    for number in range(3 * MOST_SESSIONS):
        visitors.enter(bob, f"bob{number}")
    assert len(bob.sessions) == MOST_SESSIONS


def test_the_number_of_visitors_is_limited(visitors: Visitors) -> None:
    _, first = visitors.welcome(None)
    present = [visitors.welcome(None)[1] for _ in range(MOST_VISITORS - 1)]
    for visitor in present:
        visitor.open_page()
    visitors.welcome(None)[1].open_page()  # in place of the first one, who has no open page
    assert len(visitors) == MOST_VISITORS
    assert not first.folder.exists()
    assert all(visitor.folder.exists() for visitor in present)
    with pytest.raises(RefusedError, match="too many people"):
        visitors.welcome(None)
    visitors.close()
    assert not any(visitor.folder.exists() for visitor in present)


def test_the_total_size_is_limited(visitors: Visitors) -> None:
    for _ in range(3):
        visitors.welcome(None)[1].store("a.png", b"x" * 80)
    visitors.check_space(10)
    with pytest.raises(RefusedError, match="no space left"):
        visitors.check_space(11)


def test_sweeping_removes_those_who_left(
    visitors: Visitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, gone = visitors.welcome(None)
    _, here = visitors.welcome(None)
    here.open_page()
    gone.left_at -= GRACE_SECONDS + 1
    here.left_at -= GRACE_SECONDS + 1
    visitors.sweep()
    assert len(visitors) == 1
    assert not gone.folder.exists()
    assert here.folder.exists()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def interrupted() -> None:
    """Use the private folder, and be interrupted."""
    place = Path(tempfile.gettempdir())
    with private_folder() as folder:
        assert folder.parent == place
        assert folder.stat().st_mode & 0o777 == 0o700
        with tempfile.NamedTemporaryFile(delete=False) as file:
            assert Path(file.name).parent == folder
        (folder / "own").write_text("x")
        assert (folder / "own").stat().st_mode & 0o777 == 0o600
        raise KeyboardInterrupt


def test_the_private_folder(temporary: Path) -> None:
    mask = os.umask(0o022)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert list(temporary.iterdir()) == []
        assert tempfile.gettempdir() == str(temporary)
        (temporary / "after").write_text("x")
        assert (temporary / "after").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(mask)


def test_folders_of_dead_apps_are_removed(temporary: Path) -> None:
    """Not those of running apps, of apps that are about to start, or what others link to."""
    names = ("dead", "running", "young", "link")
    dead, running, young, link = (temporary / f"{PREFIX}{name}" for name in names)
    for folder in (dead, running, young):
        folder.mkdir()
        (folder / "picture.png").write_text("x")
    (temporary / "other").mkdir()
    link.symlink_to(temporary / "other")
    with only_writer(running):
        old = running.stat().st_mtime - STALE_SECONDS - 1
        for folder in (dead, running):
            os.utime(folder, (old, old))
        with private_folder():
            assert not dead.exists()
            assert (running / "picture.png").exists()
            assert (young / "picture.png").exists()
            assert link.exists()
