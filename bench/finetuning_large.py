"""Fine-tunes a BiGR-L with random weights in the released layout, and exports it.

``python bench/finetuning_large.py`` writes the file as the released code does, loads it, gives it
10 classes and a grid of 8x8 tokens instead of 1,000 classes and 16x16 tokens, trains one step on
the CPU, and exports both layouts. Prints what was copied, the times and the memory. Needs 10 GB of
memory, and 5 GB in the temporary folder.
"""

from __future__ import annotations

import functools
import logging
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bigr import BiGRConfig, load_generator  # noqa: E402
from bigr.checkpoints.export import save_released_generator  # noqa: E402
from bigr.models.bigr import BiGR  # noqa: E402
from bigr.training.callbacks.weight_export import ExportWeights  # noqa: E402
from bigr.training.generator_module import GeneratorModule  # noqa: E402
from bigr.training.optimizers import adamw  # noqa: E402
from tests.tiny_training import tiny_trainer  # noqa: E402


def main() -> None:
    """Run everything in a temporary folder."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory: {peak:.1f} GB")


def run(folder: Path) -> None:
    """Write, start, train and export."""
    torch.manual_seed(0)
    released, exported = folder / "bigr_L_d24.pt", folder / "fine_tuned.pt"
    sizes: dict[str, Any] = {"code_dim": 24}
    config = BiGRConfig.preset("l", grid_size=8, num_classes=10, **sizes)
    with timed("write the released layout"):
        base = BiGRConfig.preset("l", grid_size=16, num_classes=1000, **sizes)
        save_released_generator(BiGR(base), released)
    with timed("load, and start from it"):
        optimizer = functools.partial(adamw, lr=1e-4, layer_decay=0.9)
        module = GeneratorModule(config, optimizer, init_from=str(released))
    codes = torch.randint(0, 2, (4, 64, 24))
    loader: Any = torch.utils.data.DataLoader([[codes, torch.arange(4)]], batch_size=None)
    with timed("one step, and the export"):
        tiny_trainer(1, ExportWeights(str(folder))).fit(module, loader)
    with timed("export the released layout, and load both"):
        save_released_generator(module.model, exported)
        for file in (folder / "generator.safetensors", exported):
            loaded = load_generator(file)
            assert loaded.config.grid_size == 8
            assert loaded.config.num_classes == 10
            for name, weight in loaded.state_dict().items():
                assert torch.equal(weight, module.model.state_dict()[name]), name


class timed:  # noqa: N801  # used like a function
    """Prints how long its block took."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        self.start = time.process_time()

    def __exit__(self, *_: object) -> None:
        print(f"{self.what}: {time.process_time() - self.start:.1f} CPU seconds", flush=True)


if __name__ == "__main__":
    main()
