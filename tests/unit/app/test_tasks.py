"""The tabs: their values become jobs, and the settings of the pictures become the same values."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bigr.app.limits import Knobs
from bigr.app.visitors import Visitor
from tests.web_app import photo, tiny_actions

gr = pytest.importorskip("gradio")

from bigr.app.tasks import (  # noqa: E402
    EditTask,
    GenerateTask,
    InterpolateTask,
    ReproduceTask,
    save_examples,
)

KNOBS = Knobs(2.0, 3, 0.1, 5)


@pytest.fixture
def request_of_page(tmp_path: Path) -> Any:
    visitor = Visitor(tmp_path / "visitor", 10**7)
    return types.SimpleNamespace(state=types.SimpleNamespace(visitor=visitor))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    actions = tiny_actions()
    examples = save_examples(actions, tmp_path_factory.mktemp("examples"))
    with gr.Blocks(analytics_enabled=False):
        found = [GenerateTask(actions), EditTask(actions, examples), InterpolateTask(actions),
                 ReproduceTask(actions)]  # fmt: skip
    return {task.name: task for task in found}


@pytest.mark.parametrize(
    ("name", "values"), [("generate", [[2, 0], 3]), ("interpolate", [2, 1, 5])]
)
def test_values_are_restored(
    tasks: dict[str, Any], request_of_page: Any, name: str, values: list[Any]
) -> None:
    settings = tasks[name].start(values, KNOBS).describe()
    for other, task in tasks.items():
        restored = task.restore(request_of_page, settings)
        assert restored == (values if other == name else None)


@pytest.mark.parametrize(
    ("mode", "label"), [("inpaint", -1), ("inpaint", 2), ("outpaint", 1), ("enrich", 1)]
)
def test_edits_are_restored(
    tasks: dict[str, Any], request_of_page: Any, mode: str, label: int
) -> None:
    """With the picture and with what was painted, pixel by pixel."""
    visitor, task = request_of_page.state.visitor, tasks["edit"]
    layer = Image.new("RGBA", (640, 384))
    layer.paste((1, 2, 3, 255), (256, 128, 390, 256))
    layer.save(visitor.folder / "layer.png")
    painted = {"layers": [{"path": str(visitor.folder / "layer.png")}]}
    path = str(visitor.store("photo.png", photo()))
    first = task.start([path, painted, mode, label, 2, "poisson"], KNOBS).describe()
    new_path, editor, *rest = task.restore(request_of_page, first)
    assert rest == [mode, label, 2, "paste" if mode == "enrich" else "poisson"]
    painted = {"layers": [{"path": one} for one in editor["layers"]]}
    again = task.start([new_path, painted, *rest], KNOBS).describe()
    assert again.application == first.application
    assert again.images().keys() == first.images().keys()
    for name, image in first.images().items():
        assert np.array_equal(np.array(image), np.array(again.images()[name]))
    assert {**again.arguments, **first.images()} == first.arguments


@pytest.mark.parametrize("mode", ["edit", None, 3, ["inpaint"], "describe"])
def test_unknown_modes(tasks: dict[str, Any], mode: Any) -> None:
    with pytest.raises(ValueError, match="What to do can be inpaint, outpaint, enrich"):
        tasks["edit"].start([None, None, mode, -1, 1, "paste"], KNOBS)
