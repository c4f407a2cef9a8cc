"""Talk to the web app as its page does."""

from __future__ import annotations

import io
import json
import uuid
from typing import Any

import numpy as np
from PIL import Image

from bigr import BiGRPipeline, SamplerConfig
from bigr.app.actions import Actions
from bigr.app.limits import Limits
from tests.models import tiny_autoencoder, tiny_generator

SAMPLER = SamplerConfig(
    num_denoise_steps=4, num_iterations=3, order="random", gumbel_temperature=0.1
)


def tiny_actions(**limits: Any) -> Actions:
    """Three classes, pictures of 8x8 pixels."""
    pipeline = BiGRPipeline(tiny_generator(), tiny_autoencoder(), device="cpu", batch_size=2)
    return Actions(pipeline, SAMPLER, Limits(**{"pictures": 6, **limits}), "tiny")


def photo(seed: int = 0, width: int = 50, height: int = 30) -> bytes:
    """A PNG file of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class PageClient:
    """A page of the app.

    Args:
        client: of Starlette or HTTPX, with the app's address.
        config: what the app says of its page, if that is known.
    """

    def __init__(self, client: Any, config: dict[str, Any] | None = None) -> None:
        self.client = client
        self.session = uuid.uuid4().hex[:11]
        client.get("/").raise_for_status()
        self.config = client.get("/config").json() if config is None else config
        self.listeners = self.config["dependencies"]
        self.labels = {
            one["id"]: one["props"].get("label") or one["props"].get("value")
            for one in self.config["components"]
        }

    def listener(self, label: str, event: str = "click", place: int = 0) -> dict[str, Any]:
        """The listener of the button, file or gallery called ``label``."""
        found = [
            one
            for one in self.listeners
            for target, name in one["targets"]
            if one["backend_fn"] and name == event and self.labels[target] == label
        ]
        return found[place]

    def values(self, listener: dict[str, Any], **changes: Any) -> list[Any]:
        """The values on the page, with some of them replaced by their labels."""
        initial = {one["id"]: one["props"].get("value") for one in self.config["components"]}
        return [
            changes.get(str(self.labels[place]).replace(" ", "_"), initial[place])
            for place in listener["inputs"]
        ]

    def join(self, listener: dict[str, Any], data: Any, **more: Any) -> Any:
        """The response to the call of a function."""
        call = {"fn_index": listener["id"], "session_hash": self.session, "data": data, **more}
        return self.client.post("/gradio_api/queue/join", content=json.dumps(call))

    def messages(self) -> list[dict[str, Any]]:
        """What the app sends until it has done everything."""
        response = self.client.get(f"/gradio_api/queue/data?session_hash={self.session}")
        lines = response.text.split("\n\n")
        return [json.loads(line.removeprefix("data: ")) for line in lines if line]

    def call(self, listener: dict[str, Any], data: list[Any], **more: Any) -> dict[str, Any]:
        """Call a function, and return its last message."""
        self.join(listener, data, **more).raise_for_status()
        done = [one for one in self.messages() if one["msg"] == "process_completed"]
        return done[-1]

    def upload(self, content: bytes, name: str = "photo.png") -> dict[str, Any]:
        """Upload a picture, and return the value of the widget that holds it."""
        response = self.client.post(
            "/gradio_api/upload", files={"files": (name, content, "image/png")}
        )
        response.raise_for_status()
        return {"path": response.json()[0], "meta": {"_type": "gradio.FileData"}}
