"""The server of the web app: the page behind its gate, until Ctrl+C or SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import warnings
import webbrowser
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from PIL import Image

from bigr.app.actions import Actions
from bigr.app.addresses import Address
from bigr.app.calls import CallCheck
from bigr.app.gate import Gate
from bigr.app.page import HEAD, STYLE, THEME, build
from bigr.app.visitors import Visitors

log = logging.getLogger(__name__)

MAX_WAITING = 32
"""Number of requests, of all visitors together, that can wait for the model."""
MAX_STATES = 200
"""Number of pages whose state Gradio keeps in memory."""
MAX_STATISTICS = 100
"""Number of finished requests of which Gradio keeps statistics."""
SWEEP_SECONDS = 5.0
SHUTDOWN_SECONDS = 2


def serve(
    actions: Actions,
    address: Address,
    folder: Path,
    *,
    auth: tuple[str, str] | None,
    open_browser: bool,
) -> None:
    """Serve the app until it is interrupted.

    Args:
        actions: does the work.
        address: where to listen, and which names are accepted.
        folder: a private folder for all files.
        auth: user and password, or None.
        open_browser: open the page in a browser of this machine.

    Raises:
        OSError: if the port can't be used.
    """
    with listening(address) as listener:
        server = uvicorn.Server(
            uvicorn.Config(
                create(actions, address, folder, auth=auth),
                log_level="warning",
                access_log=False,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
        )
        log.info("the app is at %s; press Ctrl+C to stop it", address.url)
        if open_browser:
            webbrowser.open(address.url)
        with contextlib.suppress(KeyboardInterrupt):  # raised again after the server has stopped
            server.run(sockets=[listener])


def create(
    actions: Actions, address: Address, folder: Path, *, auth: tuple[str, str] | None = None
) -> Gate:
    """Return the ASGI app: Gradio's, behind a gate.

    Args:
        actions: does the work.
        address: where it is going to be served.
        folder: a private folder for all files.
        auth: user and password, or None.
    """
    # 1. Limits of the libraries. By default, Pillow only warns about a large image, and rejects one
    # of twice the size.
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = str(MAX_STATISTICS)
    Image.MAX_IMAGE_PIXELS = int(actions.limits.megapixels * 1e6)
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    # 2. The page. Every call goes through its queue.
    page = build(actions, folder)
    page.state_session_capacity = MAX_STATES
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=1, api_open=False)
    shared = frozenset(map(str, folder.rglob("*.png")))
    limits = actions.limits
    visitors = Visitors(folder, limits.visitor_mb * 2**20, limits.total_mb * 2**20)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                await asyncio.sleep(SWEEP_SECONDS)
                await asyncio.to_thread(visitors.sweep)

        sweeping = asyncio.create_task(sweep())
        yield
        sweeping.cancel()
        visitors.close()

    # 3. An app with a CORS policy of its own keeps Gradio from adding one. This one allows nobody.
    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.add_middleware(CORSMiddleware)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=address.host,
        server_port=address.port,
        max_file_size=int(limits.upload_mb * 2**20),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        theme=THEME,
        css_paths=STYLE,
        head_paths=HEAD,
    )
    return Gate(
        app,
        address,
        visitors,
        CallCheck(page, shared),
        max_upload_bytes=limits.upload_mb * 2**20,
        shared=shared,
        auth=auth,
    )


@contextlib.contextmanager
def listening(address: Address) -> Iterator[socket.socket]:
    """Yield a socket that listens at ``address``.

    Raises:
        OSError: if the port can't be used; the message names host and port.
    """
    host = address.host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, address.port))
            listener.listen(128)
        except OSError as error:
            raise OSError(
                f"host={address.host} port={address.port} can't be used "
                f"({error.strerror or error}): choose another one with port=…."
            ) from error
        yield listener
