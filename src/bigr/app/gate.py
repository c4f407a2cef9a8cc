"""The gate between the network and Gradio, which only passes on requests of the page itself.

A local web app can be reached by every web page that its user opens, so each request is checked
before Gradio sees it:

1. The Host header must name the address that the app is bound to (otherwise another site could
   let its own name point to this machine, "DNS rebinding").
2. An Origin header must be the app's own address, so other pages, including those on other ports of
   this machine, can neither call nor read anything.
3. With a password, every request needs it (HTTP Basic authentication).
4. Only the paths that the page uses exist; the rest of Gradio's API is not served.
5. Everything but the page itself needs the cookie of a visitor whose page is open.
6. Bodies are limited in size before they are read. Uploads are stored here, in the private folder
   of the visitor; calls are checked so that Gradio can process them.

An exception of the app behind the gate becomes one line in the log.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import json
import logging
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders, UploadFile
from starlette.requests import Request, cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bigr.app.addresses import Address
from bigr.app.visitors import RefusedError, Visitor, Visitors

log = logging.getLogger(__name__)

API = "/gradio_api"
PAGE_PATHS = (
    "/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt",
    f"{API}/app_id", f"{API}/info", f"{API}/startup-events", f"{API}/theme.css",
)  # fmt: skip
"""Paths of the page and of what belongs to it, the same for everyone."""
PAGE_FOLDERS = ("/assets/", "/static/", "/svelte/")
HEARTBEAT = f"{API}/heartbeat/"
FILE = f"{API}/file="
UPLOAD = f"{API}/upload"
JOIN = f"{API}/queue/join"
EVENTS = f"{API}/queue/data"
RESET = f"{API}/reset"
"""Ends a call of Gradio's page, which does not send the name of the session with it."""
CALLS = (JOIN, f"{API}/cancel", RESET)
FORWARDED = ("x-forwarded-host", "x-gradio-server")
"""Headers from which Gradio would take its own address."""
MAX_CALL_BYTES = 2**18
MAX_FORM_BYTES = 2**16
"""Largest size of a form without the file in it."""
BODY_SECONDS = 60.0
DISCONNECT_SECONDS = 1.0
UPLOADS_AT_A_TIME = 4
"""Number of uploads that are in memory at a time; further ones wait."""
UNDECLARED = "application/octet-stream"
"""Type of the layers that the editor sends."""
SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"GIF8")
"""How files of the picture formats begin."""
SETTINGS_TYPES = ("application/zip", "application/x-zip-compressed", "application/json")
SETTINGS_SIGNATURES = (b"PK\x03\x04", b"{")
"""How files with the settings of pictures begin, which can also be uploaded."""
PROTECTION = {
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}

CheckCall = Callable[[dict[str, Any], Visitor], dict[str, Any]]


class Gate:
    """An ASGI app that lets the requests of its own page through to another one.

    Args:
        app: Gradio's app.
        address: where it is served.
        visitors: the visitors whose requests are answered.
        check_call: checks the call of a function of the page, and returns the call that is passed
            on to Gradio, or raises ``ValueError``.
        max_upload_bytes: size of an uploaded file.
        shared: files of the page itself, which every visitor may see.
        auth: user and password, or None.
    """

    def __init__(
        self,
        app: ASGIApp,
        address: Address,
        visitors: Visitors,
        check_call: CheckCall,
        *,
        max_upload_bytes: float,
        shared: Collection[str] = (),
        auth: tuple[str, str] | None = None,
    ) -> None:
        self.app = app
        self.address = address
        self.visitors = visitors
        self.check_call = check_call
        self.max_upload_bytes = max_upload_bytes
        self.shared = frozenset(shared)
        self.auth = auth
        frames = " ".join(["frame-ancestors 'self'", *address.embedders])
        self._protection = {**PROTECTION, "content-security-policy": frames}
        self.cookie = f"bigr_{address.port}"
        """Name of the cookie; cookies do not depend on the port, so the port is in the name."""
        self._uploads = asyncio.Semaphore(UPLOADS_AT_A_TIME)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, and never raise an exception."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":  # the page uses none
            await send({"type": "websocket.close", "code": 1008})
            return
        has_begun = False

        async def protected(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                MutableHeaders(scope=message).update(self._protection)
            await send(message)

        try:
            await self._serve(scope, receive, protected)
        except RefusedError as refused:
            headers = {"www-authenticate": 'Basic realm="bigr"'} if refused.status == 401 else None
            text = str(refused)
            response = PlainTextResponse(text[:1].upper() + text[1:], refused.status, headers)
            await _answer(response, scope, receive, protected)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, Exception):
                log.warning(
                    "%s %s: %s", scope["method"], scope["path"][:80], str(error) or repr(error)
                )
                log.debug("the request failed with", exc_info=error)
            if has_begun:
                with contextlib.suppress(Exception):  # it may have been complete
                    await send({"type": "http.response.body"})
            else:
                response = PlainTextResponse(
                    "The app could not answer; its log has the reason.", 500
                )
                await _answer(response, scope, receive, protected)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        self._check_address(headers)
        self._check_password(headers)
        token = cookie_parser(headers.get("cookie", "")).get(self.cookie)
        # 1. The page.
        if method in ("GET", "HEAD") and (path in PAGE_PATHS or path.startswith(PAGE_FOLDERS)):
            if path == "/":
                scope = {**scope, "query_string": b""}
                token, _ = self.visitors.welcome(token)
                send = self._with_cookie(send, token)
            await self.app(scope, receive, send)
            return
        # 2. What the open page asks for.
        is_known = path.startswith((HEARTBEAT, FILE)) if method in ("GET", "HEAD") else False
        is_known |= (method, path) in {("GET", EVENTS), ("POST", UPLOAD)}
        if not is_known and not (method == "POST" and path in CALLS):
            raise RefusedError(404, "the page does not use this address.")
        visitor = self.visitors.find(token)
        if visitor is None:
            raise RefusedError(403, "reload the page: it was closed, or the app was restarted.")
        scope.setdefault("state", {})["visitor"] = visitor
        if path.startswith(HEARTBEAT):
            await self._heartbeat(visitor, scope, receive, send)
        elif path.startswith(FILE):
            name = path.removeprefix(FILE)
            if name not in self.shared and not visitor.owns(name):
                raise RefusedError(404, "there is no such file.")
            await self.app(scope, receive, send)
        elif path == EVENTS:
            query = parse_qs(scope["query_string"].decode("latin-1"))
            if "".join(query.get("session_hash", [])) not in visitor.sessions:
                raise RefusedError(404, "this page has not asked for anything.")
            await self.app(scope, receive, send)
        elif path in CALLS:
            await self._call(visitor, scope, receive, send)
        else:
            await (await self._upload(visitor, scope, receive))(scope, receive, send)

    # --- who asks -------------------------------------------------------------------------

    def _check_address(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        for host in [*hosts, *(value for name in FORWARDED for value in headers.getlist(name))]:
            if not self.address.accepts(host):
                raise RefusedError(
                    403,
                    f"this app is not served as {host[:100]!r}: open {self.address.url}, or start "
                    "it with allowed_hosts=[…].",
                )
        if len(hosts) != 1:
            raise RefusedError(403, "a request needs exactly one Host header.")
        own = (f"http://{hosts[0]}".lower(), f"https://{hosts[0]}".lower())
        if any(origin.lower() not in own for origin in headers.getlist("origin")):
            raise RefusedError(403, "other pages can't use this app.")

    def _check_password(self, headers: Headers) -> None:
        if self.auth is None:
            return
        scheme, _, encoded = headers.get("authorization", "").partition(" ")
        given = b""
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                given = b""
        if not hmac.compare_digest(given, ":".join(self.auth).encode()):
            raise RefusedError(401, "a user name and a password are needed.")

    def _with_cookie(self, send: Send, token: str) -> Send:
        """Return ``send`` with the cookie of the visitor added to the response."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Within a frame of another site, only a cookie of its own kind is kept and sent.
                is_framed = bool(self.address.embedders)
                site = "None; Secure; Partitioned" if is_framed else "Strict"
                cookie = f"{self.cookie}={token}; Path=/; HttpOnly; SameSite={site}"
                MutableHeaders(scope=message).append("set-cookie", cookie)
            await send(message)

        return sending

    # --- what is asked for ----------------------------------------------------------------

    async def _heartbeat(
        self, visitor: Visitor, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Keep the visitor while the page holds this connection open."""
        self.visitors.enter(visitor, scope["path"].removeprefix(HEARTBEAT))
        visitor.open_page()
        try:
            await self.app(scope, receive, send)
        finally:
            visitor.close_page()

    async def _call(self, visitor: Visitor, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call of a function on if it is one that Gradio can process."""
        received = await _read(scope, receive, MAX_CALL_BYTES)
        try:
            call = json.loads(received)
        except (ValueError, RecursionError):
            raise RefusedError(400, "the body is not JSON.") from None
        required = "event_id" if scope["path"] == RESET else "session_hash"
        if not isinstance(call, dict) or not isinstance(call.get(required), str):
            raise RefusedError(400, f"the body is not a call with a {required}.")
        if scope["path"] == RESET:
            call = {required: call[required]}
        else:
            self.visitors.enter(visitor, call[required])
        if scope["path"] == JOIN:
            try:
                call = self.check_call(call, visitor)
            except RefusedError:
                raise
            except (ValueError, RecursionError) as error:
                raise RefusedError(422, str(error) or "the call is nested too deeply.") from None
        body = json.dumps(call).encode()
        await self.app(_with_length(scope, body), _replay(body, receive), send)

    async def _upload(self, visitor: Visitor, scope: Scope, receive: Receive) -> Response:
        """Store a picture in the visitor's folder, and answer with its path."""
        async with self._uploads:
            limit = int(self.max_upload_bytes)
            body = await _read(scope, receive, limit + MAX_FORM_BYTES)
            request = Request(scope, _replay(body, receive))
            try:
                async with request.form(max_files=1, max_fields=9) as form:
                    file = next(part for part in form.values() if isinstance(part, UploadFile))
                    content = await file.read()
            except Exception:  # the parser may raise anything for a malformed form
                raise RefusedError(400, "the body is not a form with a single file.") from None
        kind = file.content_type or ""
        is_declared = kind.startswith("image/") or kind == UNDECLARED
        is_picture = is_declared and content.startswith(SIGNATURES)
        has_settings = kind in SETTINGS_TYPES and content.startswith(SETTINGS_SIGNATURES)
        if not is_picture and not has_settings:
            raise RefusedError(415, "the file is not a complete picture in a supported format.")
        if len(content) > limit:
            raise RefusedError(413, f"the file is larger than {limit / 2**20:g} MB.")
        await asyncio.to_thread(self.visitors.check_space, len(content))
        stored = await asyncio.to_thread(visitor.store, file.filename or "picture", content)
        return JSONResponse([str(stored)])


async def _answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a response, unless the server has already closed the connection as a malformed one."""
    try:
        await response(scope, receive, send)
    except Exception:
        log.debug("the connection is lost", exc_info=True)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_disconnected(receive), DISCONNECT_SECONDS)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the body of a request, which must have at most ``limit`` bytes, or raise an error."""
    too_large = RefusedError(413, f"the request exceeds the maximum allowed size of {limit} bytes.")
    length = Headers(scope=scope).get("content-length", "0")
    if not length.isdecimal() or len(length) > 18 or int(length) > limit:
        raise too_large
    body = bytearray()

    async def read() -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RefusedError(400, "the connection was closed.")
            body.extend(message.get("body", b""))
            if len(body) > limit:
                raise too_large
            if not message.get("more_body", False):
                return

    try:
        await asyncio.wait_for(read(), BODY_SECONDS)
    except asyncio.TimeoutError:
        raise RefusedError(408, "the request took too long to arrive.") from None
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives ``body`` once, and then what the connection gives."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replaying() -> Message:
        return messages.pop() if messages else await receive()

    return replaying


def _with_length(scope: Scope, body: bytes) -> Scope:
    """Return ``scope`` with headers that say that ``body`` is JSON, and how long it is."""
    left_out = (b"content-length", b"transfer-encoding", b"content-type")
    headers = [pair for pair in scope["headers"] if pair[0] not in left_out]
    headers += [
        (b"content-length", str(len(body)).encode()),
        (b"content-type", b"application/json"),
    ]
    return {**scope, "headers": headers}
