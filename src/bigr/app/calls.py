"""Checks of calls, so that Gradio only receives those that it can process without an error.

Gradio prints a traceback for a call that its browser client would never send, such as one with a
wrong number of values, a file that was not uploaded, or an event without its data.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from bigr.app.visitors import Visitor

PARTS = ("data", "event_data", "fn_index", "session_hash", "trigger_id")
"""The parts of a call that Gradio is given; everything else is left out."""


class CallCheck:
    """Checks the calls of a page.

    Args:
        page: complete, with all its listeners.
        shared: files that every visitor may use.
    """

    def __init__(self, page: gr.Blocks, shared: frozenset[str]) -> None:
        self.page = page
        self.shared = shared
        self.listeners: dict[int, Any] = {
            listener["id"]: listener
            for listener in page.get_config_file()["dependencies"]
            if listener["backend_fn"] and listener["queue"]
        }

    def __call__(self, call: dict[str, Any], visitor: Visitor) -> dict[str, Any]:
        """Return the parts of ``call`` that Gradio is to process.

        Args:
            call: JSON.
            visitor: only files of this visitor may be named.

        Raises:
            ValueError: if the page makes no such call.
        """
        index, values, trigger = (call.get(name) for name in ("fn_index", "data", "trigger_id"))
        listener = self.listeners.get(index) if type(index) is int else None
        if listener is None:
            raise ValueError(f"fn_index={str(index)[:20]}: the page has no such function.")
        if not isinstance(values, list) or len(values) != len(listener["inputs"]):
            raise ValueError(f"data must be a list of {len(listener['inputs'])} values.")
        if type(trigger) is not int or trigger not in self.page.blocks:
            call = {**call, "trigger_id": None}
        for place, value in zip(listener["inputs"], values, strict=True):
            self._check_files(value, visitor)
            self._check_model(place, value)
        event = call.get("event_data")
        index = event.get("index") if isinstance(event, dict) else None
        is_selection = any(event_name == "select" for _, event_name in listener["targets"])
        if is_selection and type(index) is not int:
            raise ValueError("event_data must have the index of the picture that was selected.")
        call = {**call, "event_data": {"index": index, "value": None} if is_selection else None}
        return {name: call[name] for name in PARTS if name in call}

    def _check_model(self, place: int, value: Any) -> None:
        """Raise ``ValueError`` if Gradio could not read a value for the component ``place``."""
        component = self.page.blocks[place]
        model = getattr(component, "data_model", None)
        if value is not None and model is not None:
            try:
                model.model_validate(value, context={"validate_meta": True})
            except (ValueError, TypeError):
                raise ValueError("this is not a picture that was uploaded.") from None

    def _check_files(self, value: Any, visitor: Visitor) -> None:
        """Raise ``ValueError`` if a file is named in ``value`` that is not the visitor's."""
        if isinstance(value, dict):
            if "path" in value:
                path = value["path"]
                if not isinstance(path, str) or not (path in self.shared or visitor.owns(path)):
                    raise ValueError("the picture is no longer there: upload it again.")
                if value.get("is_stream"):
                    raise ValueError("a picture can't be a stream.")
            for item in value.values():
                self._check_files(item, visitor)
        elif isinstance(value, list):
            for item in value:
                self._check_files(item, visitor)
