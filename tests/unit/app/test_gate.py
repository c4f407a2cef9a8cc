"""What the gate lets through, in front of an app that answers everything."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("gradio")

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from bigr.app.addresses import Address
from bigr.app.gate import MAX_CALL_BYTES, Gate
from bigr.app.visitors import Visitor, Visitors

PORT = 7860
HERE = f"http://127.0.0.1:{PORT}"
MB = 2**20


async def backend(scope: Any, receive: Any, send: Any) -> None:
    """Tell what arrived; fail on request."""
    request = Request(scope, receive)
    body = await request.body()
    if b"explode" in body:
        raise RuntimeError("the backend exploded")
    content = {
        "path": scope["path"],
        "query": scope["query_string"].decode(),
        "body": body.decode(),
    }
    await JSONResponse(content)(scope, receive, send)


def check_call(call: dict[str, Any], visitor: Visitor) -> dict[str, Any]:
    if call.get("fn_index") != 0:
        raise ValueError("there is no such function.")
    return call


def gate(tmp_path: Path, **more: Any) -> Gate:
    address = more.pop("address", Address("127.0.0.1", PORT))
    visitors = Visitors(tmp_path, visitor_bytes=2 * MB, total_bytes=3 * MB)
    return Gate(backend, address, visitors, check_call, **{"max_upload_bytes": MB, **more})


def browser(app: Gate, **headers: str) -> TestClient:
    return TestClient(app, base_url=HERE, headers=headers)


@pytest.fixture
def app(tmp_path: Path) -> Gate:
    return gate(tmp_path)


@pytest.fixture
def page(app: Gate) -> TestClient:
    """A browser that has loaded the page."""
    client = browser(app)
    assert client.get("/").status_code == 200
    return client


def png(side: int = 4, **more: Any) -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(3 * side * side)).save(buffer, "PNG", **more)
    return buffer.getvalue()


def upload(client: TestClient, content: bytes, kind: str = "image/png", name: str = "a.png") -> Any:
    return client.post("/gradio_api/upload", files={"files": (name, content, kind)})


REQUESTS = [
    ("GET", "/"),
    ("POST", "/"),
    ("OPTIONS", "/gradio_api/queue/join"),
    ("GET", "/config"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/run/predict"),
    ("GET", "/gradio_api/queue/data?session_hash=a"),
    ("GET", "/gradio_api/heartbeat/a"),
    ("GET", "/gradio_api/file=/etc/hostname"),
]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_foreign_hosts_and_origins(page: TestClient, method: str, path: str) -> None:
    """Also with the cookie of a visitor, which a browser would not even send."""
    for headers in (
        {"host": "evil.example"},
        {"host": f"evil.example:{PORT}", "origin": f"http://evil.example:{PORT}"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:7861"},
        {"origin": f"http://localhost:{PORT}"},  # not the origin of a page at 127.0.0.1
        {"x-forwarded-host": "evil.example"},
        {"x-gradio-server": "http://evil.example"},
    ):
        response = page.request(method, path, headers=headers)
        assert response.status_code == 403, headers
        assert not any("access-control" in name for name in response.headers)
        assert "set-cookie" not in response.headers


def test_a_request_without_or_with_two_hosts(app: Gate) -> None:
    client = browser(app)
    two = [("host", f"127.0.0.1:{PORT}"), ("host", f"localhost:{PORT}")]
    assert client.get("/", headers=two).status_code == 403


def test_websockets(app: Gate) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), browser(app).websocket_connect("/queue/join"):
        pass


def test_the_page_and_its_own_requests(app: Gate, page: TestClient) -> None:
    for origin in (HERE, HERE.replace("http:", "https:")):
        assert page.get("/", headers={"origin": origin}).status_code == 200
    response = page.get("/?deep_link=x&__theme=dark")
    assert response.json() == {"path": "/", "query": "", "body": ""}
    assert response.headers["content-security-policy"] == "frame-ancestors 'self'"
    assert len(app.visitors) == 1  # the cookie is sent back
    cookie = browser(app).get("/").headers["set-cookie"]
    assert cookie.startswith(f"bigr_{PORT}=")
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert page.get("/assets/index.js").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["run/predict", "run/predict/", "api/predict", "call/predict", "call/v2/predict",
     "process_recording", "component_server", "vibe-edit", "stream/1", "queue/join/", "upload/"],
)  # fmt: skip
def test_the_rest_of_gradios_interface_does_not_exist(page: TestClient, path: str) -> None:
    response = page.post(f"/gradio_api/{path}", json={"data": [], "session_hash": "a"})
    assert response.status_code == 404


def test_nothing_without_the_page(app: Gate) -> None:
    client = browser(app)
    call = {"fn_index": 0, "session_hash": "a"}
    for response in (
        client.post("/gradio_api/queue/join", json=call),
        client.get("/gradio_api/heartbeat/a"),
        client.get("/gradio_api/queue/data?session_hash=a"),
        upload(client, png()),
        browser(app, cookie=f"bigr_{PORT}=guess").post("/gradio_api/queue/join", json=call),
    ):
        assert response.status_code == 403
        assert response.text.startswith("Reload the page")
    assert list(app.visitors.folder.iterdir()) == []


def test_calls(page: TestClient) -> None:
    """They are checked, belong to a page of the visitor, and are small."""
    join = "/gradio_api/queue/join"
    call = {"fn_index": 0, "session_hash": "page1", "data": ["ä", float("nan")]}
    response = page.post(join, content=json.dumps(call))
    assert response.status_code == 200
    assert json.loads(response.json()["body"])["data"][0] == "ä"
    for content, status in (
        ({**call, "fn_index": 7}, 422),
        ({**call, "session_hash": 3}, 400),
        ({**call, "session_hash": "../x"}, 400),
        ({**call, "data": ["x" * MAX_CALL_BYTES]}, 413),
        ([], 400),
    ):
        assert page.post(join, content=json.dumps(content)).status_code == status
    for raw in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"session_hash":'):
        assert page.post(join, content=raw).status_code == 400
    assert page.get("/gradio_api/queue/data?session_hash=page1").status_code == 200
    assert page.get("/gradio_api/queue/data?session_hash=page2").status_code == 404
    assert page.get("/gradio_api/queue/data").status_code == 404


def test_a_visitor_cannot_use_the_page_of_another(app: Gate, page: TestClient) -> None:
    other = browser(app)
    other.get("/")
    call = {"fn_index": 0, "session_hash": "page1", "event_id": "1"}
    assert page.post("/gradio_api/queue/join", json=call).status_code == 200
    for path in ("queue/join", "cancel"):
        assert other.post(f"/gradio_api/{path}", json=call).status_code == 403
    assert other.get("/gradio_api/heartbeat/page1").status_code == 403
    assert other.get("/gradio_api/queue/data?session_hash=page1").status_code == 404


def test_bodies_are_limited_before_they_are_read(app: Gate, page: TestClient) -> None:
    """By their declared length, and by what comes without one."""

    def long() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 2**16

    for path in ("queue/join", "upload"):
        for headers in ({"content-length": str(10**9)}, {"content-length": "9" * 5000}, {}):
            response = page.post(f"/gradio_api/{path}", content=long(), headers=headers)
            assert response.status_code == 413
            assert "maximum allowed size" in response.text


def test_uploads(app: Gate, page: TestClient) -> None:
    content = png()
    response = upload(page, content, name="../../über cat.png")
    assert response.status_code == 200
    (path,) = response.json()
    assert Path(path).read_bytes() == content
    assert Path(path).is_relative_to(app.visitors.folder)
    assert page.get(f"/gradio_api/file={path}").status_code == 200
    other = browser(app)
    other.get("/")
    assert other.get(f"/gradio_api/file={path}").status_code == 404
    assert page.get("/gradio_api/file=/etc/hostname").status_code == 404
    assert page.get("/gradio_api/file=http://127.0.0.1/x").status_code == 404


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"no picture", "image/png", 415),
        (b"", "image/png", 415),
        (b"<svg/>", "image/svg+xml", 415),
        (b"\x89PNG", "text/html", 415),
        (b"<html>", "application/octet-stream", 415),
        (b"\x89PNG" + b"x" * MB, "image/png", 413),
    ],
)
def test_refused_uploads(
    app: Gate, page: TestClient, content: bytes, kind: str, status: int
) -> None:
    response = upload(page, content, kind)
    assert response.status_code == status
    assert response.text.count("\n") == 0
    assert list(app.visitors.folder.rglob("*.png")) == []


def test_refused_forms(app: Gate, page: TestClient) -> None:
    two = [("files", ("a.png", png(), "image/png")), ("files", ("b.png", png(), "image/png"))]
    assert page.post("/gradio_api/upload", files=two).status_code == 400
    assert page.post("/gradio_api/upload", data={"files": "text"}).status_code == 400
    fields = {f"field{number}": "x" for number in range(99)}
    one = {"files": ("a.png", png(), "image/png")}
    assert page.post("/gradio_api/upload", data=fields, files=one).status_code == 400
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x", "text/plain", "\xff"):
        headers = {"content-type": kind.encode("latin-1")}
        response = page.post("/gradio_api/upload", content=b"--x\r\nbad", headers=headers)  # type: ignore[arg-type]
        assert response.status_code == 400, kind
    assert [path for path in app.visitors.folder.rglob("*") if path.is_file()] == []


def test_the_total_size_of_uploads(app: Gate, page: TestClient) -> None:
    """Of one visitor, whose oldest pictures go, and of all of them."""
    pictures = [upload(page, b"BM" + bytes([n]) * (MB - 10)).json()[0] for n in range(3)]
    assert sum(Path(path).exists() for path in pictures) == 2
    other = browser(app)
    other.get("/")
    assert upload(other, b"BM" + b"x" * (MB - 10)).status_code == 200
    response = upload(other, b"BM" + b"y" * (MB - 10))
    assert response.status_code == 507
    assert response.text.startswith("The app has no space left")


def test_frames_of_other_sites(tmp_path: Path) -> None:
    """Only those that were named, which need a cookie that browsers keep within frames."""
    place = Address("127.0.0.1", PORT, embedders=["https://huggingface.co"])
    headers = browser(gate(tmp_path, address=place)).get("/").headers
    expected = "frame-ancestors 'self' https://huggingface.co"
    assert headers["content-security-policy"] == expected
    assert headers["set-cookie"].endswith("; HttpOnly; SameSite=None; Secure; Partitioned")


def test_passwords(tmp_path: Path) -> None:
    app = gate(tmp_path, auth=("ann", "se:cret"))
    for given in (None, "ann:wrong", "ann", "bob:se:cret", "ann:se:cret "):
        encoded = None if given is None else base64.b64encode(given.encode()).decode()
        headers = {} if encoded is None else {"authorization": f"Basic {encoded}"}
        response = browser(app).get("/", headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Basic")
    for word in ("Basic %%%", "Bearer x", "Basic"):
        assert browser(app).get("/assets/x.js", headers={"authorization": word}).status_code == 401
    client = browser(app)
    client.auth = ("ann", "se:cret")
    assert client.get("/").status_code == 200
    assert upload(client, png()).status_code == 200
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403


def test_an_error_of_the_app_is_one_line(
    app: Gate, page: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    call = {"fn_index": 0, "session_hash": "a", "data": ["explode"]}
    response = page.post("/gradio_api/queue/join", json=call)
    assert response.status_code == 500
    assert [record.getMessage() for record in caplog.records] == [
        "POST /gradio_api/queue/join: the backend exploded"
    ]
    assert caplog.records[0].exc_info is None


def test_a_broken_stream_is_ended(app: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """The response has begun, so it cannot become an error any more."""

    async def breaking(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data", "more_body": True})
        raise RuntimeError("lost")

    app.app = breaking
    response = browser(app).get("/")
    assert (response.status_code, response.content) == (200, b"data")
    assert "GET /: lost" in caplog.text


def test_a_connection_that_the_server_has_closed(app: Gate) -> None:
    """Nothing can be sent any more; that is no error of the app."""
    sent = []

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])
        raise RuntimeError("the connection is closed")

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    assert sent == ["http.response.start"]
