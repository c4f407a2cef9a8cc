"""Calls that Gradio could not process are refused before it sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

gr = pytest.importorskip("gradio")

from bigr.app.calls import CallCheck  # noqa: E402
from bigr.app.visitors import Visitor, Visitors  # noqa: E402


@pytest.fixture
def page() -> Any:
    with gr.Blocks(analytics_enabled=False) as page:
        number, file, gallery = gr.Number(0), gr.File(), gr.Gallery()
        gr.Button("one").click(lambda *_: None, [number, file])
        gr.Button("two").click(None, js="() => 1")
        gr.Button("three").click(lambda: None, queue=False)
        gallery.select(lambda: None)
    return page


@pytest.fixture
def visitor(tmp_path: Path) -> Visitor:
    return Visitors(tmp_path / ".", 1000, 1000).welcome(None)[1]


def file(path: Any, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}, **more}


def call(index: Any, data: Any, **more: Any) -> dict[str, Any]:
    return {"fn_index": index, "data": data, "session_hash": "page1", **more}


def test_what_gradio_gets(page: Any, visitor: Visitor) -> None:
    """The parts of a call, without what the page never sends."""
    check = CallCheck(page, frozenset({"/shared/example.png"}))
    path = visitor.store("a.png", b"picture")
    for value in (None, file(path), file("/shared/example.png")):
        made = call(0, [1, value], event_data={"x": 1}, trigger_id=10**9, batched=True)
        assert check(made, visitor) == call(0, [1, value], event_data=None, trigger_id=None)
    selected = call(3, [], event_data={"index": 2, "value": {"path": "/etc/passwd"}})
    assert check(selected, visitor)["event_data"] == {"index": 2, "value": None}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (call(9, []), "fn_index=9: the page has no such function"),
        (call(1, []), "fn_index=1: the page has no such function"),  # runs in the browser
        (call(2, []), "fn_index=2: the page has no such function"),  # would not be queued
        (call(None, []), "fn_index=None"),
        (call(True, []), "fn_index=True"),
        (call([0], []), "fn_index"),
        (call(0, [1]), "data must be a list of 2 values"),
        (call(0, [1, None, 3]), "data must be a list of 2 values"),
        (call(0, {"0": 1}), "data must be a list of 2 values"),
        (call(0, [1, "text"]), "not a picture that was uploaded"),
        (call(0, [1, file("/etc/passwd")]), "the picture is no longer there"),
        (call(0, [{"deep": [{"path": "/etc/passwd"}]}, None]), "the picture is no longer there"),
        (call(0, [1, file("http://127.0.0.1/x.png")]), "the picture is no longer there"),
        (call(0, [1, {"path": 3}]), "the picture is no longer there"),
        (call(3, []), "event_data must have the index"),
        (call(3, [], event_data={"index": "1"}), "event_data must have the index"),
        (call(3, [], event_data=[1]), "event_data must have the index"),
    ],
)
def test_calls_that_the_page_does_not_make(
    page: Any, visitor: Visitor, made: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CallCheck(page, frozenset())(made, visitor)


def test_files_of_others_and_streams(page: Any, visitor: Visitor, tmp_path: Path) -> None:
    _, other = Visitors(tmp_path, 1000, 1000).welcome(None)
    check = CallCheck(page, frozenset())
    with pytest.raises(ValueError, match="no longer there"):
        check(call(0, [1, file(other.store("a.png", b"other"))]), visitor)
    mine = visitor.store("a.png", b"mine")
    with pytest.raises(ValueError, match="can't be a stream"):
        check(call(0, [1, file(mine, is_stream=True)]), visitor)
    with pytest.raises(ValueError, match="not a picture"):
        check(call(0, [1, {"path": str(mine)}]), visitor)  # Gradio wants to be told that it is one
