"""``python -m bigr.tokenize``: exact, killed or not, with one process or two."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from bigr.checkpoints.identity import weights_sha256
from bigr.checkpoints.load import load_autoencoder
from bigr.checkpoints.native import save_autoencoder
from bigr.cli.configuration import config_dir, register_resolvers
from bigr.data.codes_format import read_shard
from bigr.data.codes_store import CodesStore
from bigr.data.decoding import decode
from bigr.data.packing import unpack_codes
from bigr.data.transforms import make_views
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.codes import grid_to_tokens
from tests.image_files import encoded, photograph, write_folders
from tests.models import randomise, tiny_autoencoder
from tests.processes import ReadyProcess, python

COUNT = 53
BAD = (4, 17, 18, 40)
SETTINGS = ["shard_size=5", "batch_size=2", "num_draws=2", "data.num_workers=0"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and a B-AE of 8x8 pixels."""
    root = tmp_path_factory.mktemp("inputs")
    images = {
        (f"class{n % 3}", f"{n:03d}.JPEG"): encoded(photograph(40 + n, 50, shift=9 * n), quality=85)
        for n in range(COUNT)
    }
    for n in BAD:
        images[f"class{n % 3}", f"{n:03d}.JPEG"] = b"broken"
    write_folders(root, "train", images)
    write_folders(root, "val", {key: data for key, data in images.items() if key[1] < "003.JPEG"})
    save_autoencoder(opinionated(0), root / "a.safetensors")
    return root


def opinionated(seed: int) -> BinaryAutoencoder:
    """A B-AE whose bits depend on the image, mostly for sure."""
    autoencoder = tiny_autoencoder()
    randomise(autoencoder, seed, 0.3)
    return autoencoder


def arguments(inputs: Path, output: Path, *more: str) -> list[str]:
    return [
        f"autoencoder={inputs / 'a.safetensors'}",
        f"data.root={inputs}",
        f"output={output}",
        f"hydra.run.dir={output.parent / 'run'}",
        "trainer=cpu",
        "resolution.image_size=8",
        "data.max_broken_share=0.1",
        *SETTINGS,
        *more,
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was made without interruptions."""
    folder = tmp_path_factory.mktemp("whole")
    process = start(folder, arguments(inputs, folder / "store"))
    assert process.wait(120) == 0, (folder / "log").read_text()
    return folder


def start(folder: Path, overrides: list[str], log: str = "log") -> ReadyProcess:
    """The command in a folder, which writes to a file there."""
    words = ("-m", "bigr.tokenize", *overrides)
    return ReadyProcess(*words, cwd=folder, stdout=folder / log)


def names_and_files(inputs: Path) -> list[Path]:
    return sorted((inputs / "train").rglob("*.JPEG"))


def test_codes_are_the_tokenizers(inputs: Path, whole: Path) -> None:
    """Bits are 1 as often as the B-AE says, in the right place, for every view of every image."""
    store = CodesStore(whole / "store")
    autoencoder = load_autoencoder(inputs / "a.safetensors")
    assert store.settings.tokenizer_sha256 == weights_sha256(autoencoder)
    files = names_and_files(inputs)
    good = [path for path in files if path.read_bytes() != b"broken"]
    codes = store.split("train")
    assert len(codes) == len(good) == COUNT - len(BAD)
    assert codes.labels.tolist() == [int(path.parent.name[-1]) for path in good]
    likelihood, bits = [], []
    for image, path in enumerate(good):
        views = make_views(decode(path.read_bytes()), 8, ("center", "mirror"))
        with torch.no_grad():
            probs = grid_to_tokens(autoencoder.encode(views.float() / 255))
        for entry in range(4):
            packed = codes.take(np.array([image * 4 + entry]))
            bits.append(unpack_codes(torch.from_numpy(packed), 6)[0])
            likelihood.append(probs[entry // 2])
    p, x = torch.stack(likelihood), torch.stack(bits)
    assert p.std() > 0.1  # the tiny B-AE does have an opinion
    # The sum of (x - p) / sqrt(p (1 - p)) over n independent bits is N(0, n).
    z = ((x - p) / (p * (1 - p)).clamp_min(1e-6).sqrt()).sum() / p.numel() ** 0.5
    assert abs(z) < 4
    # Its own probabilities explain the bits far better than another token's, view's or bit's.
    surprise = torch.nn.functional.binary_cross_entropy(p, x, reduction="sum")
    for other in (p.flip(1), p[torch.arange(len(p)) ^ 2], p.roll(1, 2)):
        assert torch.nn.functional.binary_cross_entropy(other, x, reduction="sum") > surprise + 100
    draws = x.view(-1, 2, 2, 16, 6)
    assert not torch.equal(draws[:, :, 0], draws[:, :, 1])


def test_the_number_of_classes_follows(inputs: Path, whole: Path) -> None:
    register_resolvers()
    for data, root in (("images", inputs), ("codes", whole / "store")):
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = hydra.compose("train", [f"data={data}", f"data.root={root}", "paths.output=o"])
        assert config.model.num_classes == config.data.num_classes == 3
    assert OmegaConf.create({"n": "${bigr.num_classes:null,7}"}).n == 7


def test_left_out_images(inputs: Path, whole: Path) -> None:
    files = [path.relative_to(inputs / "train").as_posix() for path in names_and_files(inputs)]
    bad = [f"class{n % 3}/{n:03d}.JPEG" for n in BAD]
    report = (whole / "store" / "broken_files.txt").read_text()
    assert report.splitlines() == [f"{name}: not an image" for name in files if name in bad]
    manifest = json.loads((whole / "store" / "manifest.json").read_text())
    assert manifest["left_out"] == {"train": len(BAD), "val": 0}
    shards = sorted((whole / "store").glob("train-*.safetensors"))
    indices = np.concatenate([read_shard(path)["indices"] for path in shards])
    assert [files[index] for index in indices] == [name for name in files if name not in bad]
    log = (whole / "log").read_text()
    assert "train: 49 images, 4 left out (see broken_files.txt)" in log
    assert log.count("left out class") == len(BAD)


def test_deterministic_bits(inputs: Path, tmp_path: Path) -> None:
    result = python(
        "-m",
        "bigr.tokenize",
        *arguments(inputs, tmp_path / "store", "deterministic=true", "num_draws=1"),
        "splits=val",
        "views=[mirror]",
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    codes = CodesStore(tmp_path / "store").split("val")
    autoencoder = load_autoencoder(inputs / "a.safetensors")
    for image, path in enumerate(sorted((inputs / "val").rglob("*.JPEG"))):
        view = make_views(decode(path.read_bytes()), 8, ("mirror",))
        with torch.no_grad():
            expected = grid_to_tokens(autoencoder.encode(view.float() / 255) > 0.5)
        packed = torch.from_numpy(codes.take(np.array([image])))
        assert torch.equal(unpack_codes(packed, 6), expected.float())


def test_killed_anywhere_it_goes_on(inputs: Path, whole: Path, tmp_path: Path) -> None:
    """SIGKILL at 20 random moments; each time the next start ends with the same bytes."""
    expected = contents(whole / "store")
    chance = random.Random(0)
    partial = []
    for trial in range(20):
        output = tmp_path / f"{trial}" / "store"
        output.parent.mkdir()
        log = output.parent / "log"
        process = start(output.parent, arguments(inputs, output))
        while not (output / "manifest.json").exists():
            assert process.poll() is None, log.read_text()
            time.sleep(0.002)
        number = chance.randrange(13)  # 11 shards of training, 1 of validation, then the manifest
        deadline = time.monotonic() + 60
        while len(list(output.glob("*.safetensors"))) < number and process.poll() is None:
            assert time.monotonic() < deadline
        time.sleep(chance.random() * 0.01)
        process.kill()
        partial.append(len(list(output.glob("*.safetensors"))))
        again = start(output.parent, arguments(inputs, output))
        assert again.wait(120) == 0, log.read_text()
        assert contents(output) == expected, trial
    assert len(set(partial)) >= 5, "the moments were not spread"
    assert min(partial) < 6


def test_stopped_by_a_signal(inputs: Path, tmp_path: Path) -> None:
    """SIGTERM ends it before the next shard is complete, with the usual exit code."""
    output = tmp_path / "store"
    process = start(tmp_path, arguments(inputs, output, "num_draws=3000"))
    deadline = time.monotonic() + 120
    while not list(output.glob("*.safetensors")):
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 128 + signal.SIGTERM
    assert len(list(output.glob("*.safetensors"))) < 12
    assert "finished shards are kept: repeat the command" in (tmp_path / "log").read_text()


def test_two_processes_make_the_same(inputs: Path, whole: Path, tmp_path: Path) -> None:
    result = python(
        "-m",
        "bigr.tokenize",
        *arguments(inputs, tmp_path / "store", "trainer.devices=2", "strategy=ddp"),
        cwd=tmp_path,
        OMP_NUM_THREADS="1",
    )
    assert result.returncode == 0, result.stderr
    assert contents(tmp_path / "store") == contents(whole / "store")


def test_finished_again_changes_nothing(inputs: Path, whole: Path) -> None:
    before = {path: os.stat(path).st_mtime_ns for path in (whole / "store").glob("*.safetensors")}
    assert start(whole, arguments(inputs, whole / "store"), "again").wait(120) == 0
    assert before == {path: os.stat(path).st_mtime_ns for path in before}


def test_a_flipped_bit_is_found_when_the_command_is_repeated(
    inputs: Path, whole: Path, tmp_path: Path
) -> None:
    """Once, the checksum of the damaged file was written into the manifest."""
    shutil.copytree(whole / "store", tmp_path / "store")
    path = tmp_path / "store" / "train-00003.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    before = contents(tmp_path / "store")
    code = start(tmp_path, arguments(inputs, tmp_path / "store")).wait(120)
    text = (tmp_path / "log").read_text()
    assert code == 2, text
    assert f"{path} is damaged (its checksum differs): remove it, and run the" in text
    assert "Traceback" not in text
    assert contents(tmp_path / "store") == before


WRONG = {
    "tokenizer": (
        ["autoencoder={inputs}/other.safetensors"],
        "contains codes that were made with tokenizer_sha256=",
    ),
    "views": (
        ["views=[center]"],
        "contains codes that were made with views=['center', 'mirror'], but this command has "
        "views=['center']: choose",
    ),
    "unknown_view": (
        ["views=[left]"],
        "views=['left']: give one or more of center, mirror, ten_crop",
    ),
    "unwritable": (["output={inputs}/a.safetensors/codes"], "can't be written"),
    "pixels": (["resolution.image_size=16"], "is for 8 pixels, and data.image_size is 16"),
    "draws": (["deterministic=true"], "num_draws=2 is useless with deterministic=true, because"),
    "broken": (["output={tmp}/new", "data.max_broken_share=0.03"], "of 56 images are broken"),
    "split": (["splits=[test]"], "each value is train or val, got ['test']"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_refused(inputs: Path, whole: Path, tmp_path: Path, kind: str) -> None:
    save_autoencoder(opinionated(1), inputs / "other.safetensors")
    before = contents(whole / "store")
    overrides, message = WRONG[kind]
    more = [override.format(inputs=inputs, tmp=tmp_path) for override in overrides]
    given = [
        argument
        for argument in arguments(inputs, whole / "store")
        if argument.split("=")[0] not in {override.split("=")[0] for override in more}
    ]
    code = start(tmp_path, [*given, *more]).wait(120)
    text = (tmp_path / "log").read_text()
    assert code == 2, text
    assert message in text
    assert "Traceback" not in text
    assert contents(whole / "store") == before
