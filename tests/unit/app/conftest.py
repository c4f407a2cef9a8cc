"""The whole app with a tiny model, and a page of it, without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bigr.app.addresses import Address
from tests.web_app import PageClient, tiny_actions

ADDRESS = Address("127.0.0.1", 7860)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Any]:
    pytest.importorskip("gradio")
    from starlette.testclient import TestClient

    from bigr.app.server import create

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setenv("GRADIO_ANALYTICS_MAX_EVENTS", "100")
        patch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        app = create(tiny_actions(), ADDRESS, folder)
        with TestClient(app, base_url=ADDRESS.url) as client:
            yield client
    # Nothing but the examples remains when the app has stopped.
    assert {path.name.split("_")[0] for path in folder.iterdir()} <= {"example"}


@pytest.fixture
def page(client: Any) -> PageClient:
    return PageClient(client)
