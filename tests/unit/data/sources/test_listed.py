"""Files that list images and their labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bigr.data.sources.listed import find_list, read_listed

ROWS = [("b/2.png", "dog"), ("1.png", "cat"), ("a/3.png", "dog")]
CONTENTS: dict[str, tuple[str, Any]] = {
    "columns in another order": (
        "labels.csv",
        "label,size,file\n" + "".join(f"{label},7,{file}\n" for file, label in ROWS),
    ),
    "byte order mark and quotes": (
        "labels.csv",
        "\ufefffile_name,category\r\n" + "".join(f'"{file}","{label}"\r\n' for file, label in ROWS),
    ),
    "mapping": ("labels.json", json.dumps(dict(ROWS))),
    "pairs": ("labels.json", json.dumps(ROWS)),
    "objects": ("labels.json", json.dumps([{"label": b, "file": a} for a, b in ROWS])),
    "StyleGAN": ("dataset.json", json.dumps({"labels": ROWS})),
}


def write_images(folder: Path) -> None:
    for name, _ in ROWS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(name.encode())


@pytest.mark.parametrize("kind", CONTENTS)
def test_every_form_of_a_list(tmp_path: Path, kind: str) -> None:
    file, text = CONTENTS[kind]
    write_images(tmp_path)
    (tmp_path / file).write_text(text, encoding="utf-8", newline="")
    found = find_list(tmp_path)
    assert found == tmp_path / file
    source = read_listed(found)
    assert source.classes == ["cat", "dog"]
    pairs = [(source.read(i).decode(), int(source.labels[i])) for i in range(3)]
    assert pairs == [("1.png", 0), ("a/3.png", 1), ("b/2.png", 1)]  # by class and path


def test_numbers_are_the_numbers_of_classes(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "labels.json").write_text(json.dumps({"1.png": 2, "b/2.png": 0}))
    source = read_listed(tmp_path / "labels.json")
    assert (source.labels.tolist(), source.classes) == ([0, 2], ["0", "1", "2"])


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("labels.csv", "", "there is no column file, only none"),
        ("labels.csv", "name,label\n", "there is no column file, only name, label"),
        ("labels.csv", "file,label\n", "labels.csv is empty"),
        ("labels.csv", "file,label\n1.png\n", "line 2 is incomplete"),
        ("labels.csv", "file,label\n9.png,cat\n", "lists 9.png, but there is no such file"),
        ("labels.csv", "file,label\n1.png,a\n1.png,b\n", "lists 1.png more than once"),
        ("labels.json", "{", "can't be read as a list of labels"),
        ("labels.json", "[1]", "can't be read as a list of labels"),
        ("labels.json", "3", "can't be read as a list of labels"),
        ("labels.json", '{"1.png": 0.5}', "the label of 1.png is 0.5"),
        ("labels.json", '{"1.png": true}', "the label of 1.png is True"),
        ("labels.json", '[{"file": "1.png", "label": "a"}, {"file": "2.png"}]', "can't be read"),
    ],
)
def test_wrong_lists_are_explained(tmp_path: Path, file: str, text: str, message: str) -> None:
    write_images(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_listed(tmp_path / file)
