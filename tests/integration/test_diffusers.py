"""Scripts for diffusers run with BiGR, and diffusers loads BiGR as a custom pipeline."""

from __future__ import annotations

import inspect
import logging
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bigr import BiGRPipeline
from tests.conftest import REPOSITORY
from tests.hub_server import Hub, released_hub, run_with
from tests.models import tiny_autoencoder, tiny_generator

PAGE = (REPOSITORY / "docs" / "diffusers.md").read_text()
CUSTOM = REPOSITORY / "examples" / "diffusers_pipeline"
CHANGES = {
    "from diffusers import DiTPipeline, DPMSolverMultistepScheduler": "from bigr import "
    "BiGRPipeline as DiTPipeline\nfrom diffusers import DPMSolverMultistepScheduler",
    '"facebook/DiT-XL-2-256"': '"digits"',
    '["white shark", "umbrella"]': '["3", "8"]',
}
"""What has to be changed in the example of DiTPipeline: import, model, and class names."""
LOAD = """
import torch
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(CUSTOM, custom_pipeline=CUSTOM, trust_remote_code=True)
pipe = pipe.to("cpu")
images = pipe(class_labels=[2, None], num_inference_steps=2, num_denoise_steps=2,
              generator=torch.manual_seed(5)).images
print(type(pipe).__mro__[1].__name__, pipe.device, *(image.tobytes().hex() for image in images))
"""


def contents(pictures: Any) -> list[bytes]:
    return [picture.tobytes() for picture in pictures]


def dit_example() -> str:
    """The example in the documentation of DiTPipeline, in the version that is installed."""
    from diffusers import DiTPipeline

    text = inspect.getdoc(DiTPipeline.__call__)
    assert text is not None
    return "\n".join(re.findall(r"^\s*>>> (.*)$", text, flags=re.MULTILINE))


def test_the_example_of_dit(caplog: pytest.LogCaptureFixture) -> None:
    """It runs after three changes, and "cuda" must be the device that there is."""
    script = dit_example()
    for before, after in CHANGES.items():
        assert script.count(before) == 1
        script = script.replace(before, after)
    if not torch.cuda.is_available():
        assert script.count('"cuda"') == 1
        script = script.replace('"cuda"', '"cpu"')
    names: dict[str, Any] = {}
    with caplog.at_level(logging.WARNING):
        exec(script, names)
    assert "assigning a DPMSolverMultistepScheduler has no effect" in caplog.text
    pipeline = BiGRPipeline.from_pretrained("digits").to(torch.bfloat16)
    torch.manual_seed(33)
    seeds = [int(torch.randint(2**62, (1,))) for _ in range(2)]
    expected = pipeline.generate([3, 8], seeds=seeds, num_iterations=25)
    assert contents(names["output"].images) == contents(expected)
    assert names["image"].tobytes() == expected[0].tobytes()


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of docs/diffusers.md, block after block."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(textwrap.dedent(blocks[0] + blocks[1]), names)
    assert (tmp_path / "three.png").is_file()
    # Where diffusers copies the custom pipeline to and imports it from.
    modules = "diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE"
    monkeypatch.setattr(modules, str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(blocks[2], names)
    seed = int(torch.randint(2**62, (1,), generator=torch.manual_seed(0)))
    pipeline = BiGRPipeline.from_pretrained("digits")
    assert contents([names["image"]]) == contents(
        pipeline.generate("3", seeds=[seed], num_iterations=16)
    )
    assert names["pipe"].bigr.generate(3)[0].size == (16, 16)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with released_hub(tmp_path / "hub") as server:
        yield server


def test_the_custom_pipeline_loads_the_released_weights(hub: Hub, tmp_path: Path) -> None:
    """By default, from the repository of the released weights, which a server stands in for."""
    code, said = run_with(hub, tmp_path, LOAD.replace("CUSTOM", repr(str(CUSTOM))))
    assert code == 0, said
    pipeline = BiGRPipeline(tiny_generator(), tiny_autoencoder(), device="cpu")
    expected = pipeline(
        [2, None], num_inference_steps=2, num_denoise_steps=2, generator=torch.manual_seed(5)
    ).images
    pictures = " ".join(picture.hex() for picture in contents(expected))
    assert f"DiffusionPipeline cpu {pictures}" in said.splitlines()
