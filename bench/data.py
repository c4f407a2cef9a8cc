"""The data layer on one core: codes against the released trainer's reader, images against Pillow.

Then a store of 1.3 million codes (1 GB on disk, removed afterwards): opening it, its memory, an
epoch.
"""

from __future__ import annotations

import cProfile
import io
import pstats
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch.utils.data import DataLoader, Dataset, RandomSampler

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from bench.common import arguments, compare  # noqa: E402
from bigr.data.codes_format import StoreSettings  # noqa: E402
from bigr.data.codes_store import CodesStore  # noqa: E402
from bigr.data.codes_writer import StoreWriter  # noqa: E402
from bigr.data.decoding import decode  # noqa: E402
from bigr.data.packing import pack_codes  # noqa: E402
from bigr.data.released_codes import write_released  # noqa: E402
from bigr.data.transforms import center_crop, center_crop_pil  # noqa: E402
from bigr.training.data.batch import Batch  # noqa: E402
from bigr.training.data.codes_data import CodesDataModule  # noqa: E402

CODE_DIM, GRID = 24, 16
FEW, MANY = 32_768, 1_300_000
BATCH = 128
SHARD = 16_384
IMAGES = 48
SCALE = "--scale"


class ReleasedReader(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """As the released trainer reads: a ``fromfile`` per item, a byte per bit."""

    def __init__(self, folder: Path) -> None:
        self.ids, self.labels = folder / "train_ids.bin", folder / "train_lbs.bin"
        self.bits = CODE_DIM * GRID**2

    def __len__(self) -> int:
        return self.labels.stat().st_size // 2

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        codes = np.fromfile(self.ids, np.uint8, self.bits, offset=index * self.bits)
        label = np.fromfile(self.labels, np.uint16, 1, offset=index * 2)
        planes = codes.reshape(CODE_DIM, GRID, GRID)
        return torch.from_numpy(planes), torch.from_numpy(label.astype(np.int64))


def main() -> None:
    if sys.argv[1:2] == [SCALE]:
        torch.set_num_threads(1)
        bench_scale(Path(sys.argv[2]))
        return
    options = arguments(__doc__, rounds=5)
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="bigr-bench-"))
    try:
        bench_images(options.rounds)
        bench_codes(folder, options.rounds)
        store = make_store(folder / "many", MANY)
        # In a process of its own, whose memory nothing else has been in.
        subprocess.run([sys.executable, __file__, SCALE, str(store)], check=True)
    finally:
        shutil.rmtree(folder)


def bench_images(rounds: int) -> None:
    files = [photograph(shift) for shift in range(IMAGES)]

    def pillow() -> None:
        for data in files:
            with Image.open(io.BytesIO(data)) as image:
                cropped = center_crop_pil(image.convert("RGB"), 256)
            torch.from_numpy(np.array(cropped)).permute(2, 0, 1).contiguous()

    def ours() -> None:
        for data in files:
            center_crop(decode(data), 256)

    differences = [
        (center_crop(decode(data), 256).int() - center_crop(decode(data), 256, "pil").int())
        .abs()
        .float()
        for data in files
    ]
    worst = max(difference.mean().item() for difference in differences)
    print(f"images: mean difference from Pillow at most {worst:.4f} of 255 levels")
    compare(f"{IMAGES} JPEGs of 500x375 to 256x256", pillow, ours, rounds)


def photograph(shift: int) -> bytes:
    name = ("china.jpg", "flower.jpg")[shift % 2]
    left = shift * 11 % 140
    image = Image.fromarray(load_sample_image(name)[:375, left : left + 500])
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def bench_codes(folder: Path, rounds: int) -> None:
    store = make_store(folder / "few", FEW)
    write_released(CodesStore(store), folder / "released")
    size = sum(path.stat().st_size for path in store.iterdir()) / FEW
    print(
        f"store: {size:.1f} bytes an image of {CODE_DIM * GRID**2 // 8} bytes of bits, "
        f"{size / (CODE_DIM * GRID**2 / 8) - 1:.2%} more"
    )
    theirs = ReleasedReader(folder / "released")
    data = module(store)
    ours = data.train_dataloader()

    def released() -> None:
        for _ in DataLoader(theirs, BATCH, sampler=RandomSampler(theirs)):
            pass

    def packed() -> None:
        for _ in ours:
            pass

    def released_to_float() -> None:
        for codes, _ in DataLoader(theirs, BATCH, sampler=RandomSampler(theirs)):
            codes.flatten(2).transpose(1, 2).float()

    def unpacked() -> None:
        for batch in ours:
            data.on_after_batch_transfer(batch, 0)

    compare(f"{FEW} codes in batches of {BATCH}", released, packed, rounds)
    compare("the same, to floats for the step, on this core", released_to_float, unpacked, rounds)


def bench_scale(store: Path) -> None:
    before = private_memory()
    began = time.perf_counter()
    data = module(store)
    opened = time.perf_counter() - began
    began = time.perf_counter()
    CodesStore(store).verify()
    verified = time.perf_counter() - began
    loader = data.train_dataloader()
    profile = cProfile.Profile()
    began = time.perf_counter()
    count = 0
    profile.enable()
    for batch in loader:
        count += len(unpacked_codes(data, batch))
    profile.disable()
    seconds = time.perf_counter() - began
    print(
        f"{MANY} codes: opened in {opened:.2f} s, of which {verified:.2f} s compare "
        f"checksums; an epoch of {count} in {seconds:.1f} s "
        f"({count / seconds:.0f} a second, profiled); {private_memory() - before:.0f} MB of memory "
        "beside the page cache"
    )
    report = io.StringIO()
    pstats.Stats(profile, stream=report).sort_stats("tottime").print_stats(8)
    print("\n".join(line for line in report.getvalue().splitlines() if line.strip())[:1800])


def unpacked_codes(data: CodesDataModule, batch: Batch) -> torch.Tensor:
    codes = data.on_after_batch_transfer(batch, 0).codes
    assert codes is not None
    return codes


def private_memory() -> float:
    """Megabytes of this process that aren't a file's pages."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


def module(store: Path) -> CodesDataModule:
    data = CodesDataModule(
        root=str(store), code_dim=CODE_DIM, grid_size=GRID, num_classes=1000, batch_size=BATCH
    )
    data.setup("fit")
    return data


def make_store(folder: Path, count: int) -> Path:
    settings = StoreSettings(
        tokenizer_sha256="0" * 64,
        code_dim=CODE_DIM,
        grid_size=GRID,
        image_size=256,
        num_classes=1000,
        views=("center",),
        num_views=1,
        num_draws=1,
        deterministic=False,
        seed=0,
        decoder="torchvision",
        honour_exif=False,
        precision="bf16-mixed",
        shard_size=SHARD,
        sources={"train": "0"},
        num_images={"train": count},
        classes=tuple(str(label) for label in range(1000)),
    )
    writer = StoreWriter(folder, settings)
    codes = pack_codes(torch.randint(0, 2, (SHARD, GRID**2, CODE_DIM), dtype=torch.uint8)).numpy()
    for number in range(settings.num_shards("train")):
        indices = np.arange(number * SHARD, min((number + 1) * SHARD, count))
        writer.write("train", number, codes[: len(indices), None], indices % 1000, indices, [])
    writer.finish()
    return folder


if __name__ == "__main__":
    main()
