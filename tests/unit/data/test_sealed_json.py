"""JSON files with a checksum of their content."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bigr.data import sealed_json
from bigr.data.sealed_json import DamagedFileError, read_sealed, seal, unseal

CONTENT = {"b": [1, 2.5, None], "a": {"10": "ten", "9": "nine"}, "word": "Frühling"}


def test_what_was_sealed_is_read(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_bytes(seal(CONTENT))
    assert read_sealed(tmp_path / "file.json") == CONTENT
    # Keys that are numbers become strings, whose order is another.
    assert unseal(seal({10: 0.1, 9: float("inf")})) == {"10": 0.1, "9": float("inf")}  # type: ignore[dict-item]


def test_layout_does_not_count_and_content_does() -> None:
    content = json.loads(seal(CONTENT))
    assert unseal(json.dumps(dict(reversed(content.items())), indent=7)) == CONTENT
    for change in ({"b": [1, 2.5, 0]}, {"word": "Fruhling"}, {"c": 1}, {"sha256": "0" * 64}):
        with pytest.raises(ValueError, match="its content does not match its checksum"):
            unseal(json.dumps({**content, **change}))


def test_files_without_a_checksum() -> None:
    assert unseal(b'{"a": 1}', needs_checksum=False) == {"a": 1}
    with pytest.raises(ValueError, match="it has no checksum"):
        unseal(b'{"a": 1}')
    with pytest.raises(ValueError, match="does not match its checksum"):
        unseal(b'{"a": 1, "sha256": null}', needs_checksum=False)


MALFORMED = {
    "empty": (b"", "Expecting value"),
    "cut off": (seal(CONTENT)[:40], "Expecting|Unterminated"),
    "a list": (b"[1]", "a list instead of a mapping"),
    "not UTF-8": (b'{"a": "\xff"}', "codec can't decode"),
    "nested": (b"[" * 200_000, "nested too deeply"),
    "a number of too many digits": (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_files_are_named(tmp_path: Path, kind: str) -> None:
    data, message = MALFORMED[kind]
    (tmp_path / "file.json").write_bytes(data)
    with pytest.raises(DamagedFileError, match=rf"file\.json is damaged \(.*({message})"):
        read_sealed(tmp_path / "file.json", needs_checksum=False)


def test_special_and_huge_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DamagedFileError, match="pipe is a named pipe"):
        read_sealed(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        read_sealed(tmp_path / "missing")
    (tmp_path / "file.json").write_bytes(seal(CONTENT))
    monkeypatch.setattr(sealed_json, "MAX_SIZE", 10)
    with pytest.raises(DamagedFileError, match="which is too many"):
        read_sealed(tmp_path / "file.json")
