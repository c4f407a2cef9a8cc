"""Names of the web app, and its password."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bigr.app.addresses import Address, credentials

PORT = 7860


@pytest.mark.parametrize(
    ("host", "port", "allowed", "good", "bad"),
    [
        (
            "127.0.0.1", 7860, [],
            ["localhost:7860", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST:7860"],
            ["evil.example", "evil.example:7860", "localhost", "localhost:7861", "127.0.0.1", "",
             "127.0.0.1.evil.example:7860", "localhost:7860.evil.example", "me@localhost:7860",
             "localhost:7860/x", "localhost:x", "192.168.0.7:7860", "localhost:7860@evil.example"],
        ),
        ("localhost", 80, [], ["localhost", "localhost:80"], ["localhost:8080", "evil.example"]),
        (
            "lab.example", 7860, ["proxy.example", "other.example:1234"],
            ["lab.example:7860", "proxy.example", "proxy.example:99", "other.example:1234"],
            ["localhost:7860", "lab.example", "other.example", "x.proxy.example"],
        ),
        (
            "0.0.0.0", 7860, [],
            ["localhost:7860", "192.168.0.7:7860", "[fe80::1]:7860"],
            ["evil.example:7860", "192.168.0.7", "192.168.0.7:80"],
        ),
    ],
)  # fmt: skip
def test_host_headers(
    host: str, port: int, allowed: list[str], good: list[str], bad: list[str]
) -> None:
    address = Address(host, port, allowed)
    assert [name for name in good if not address.accepts(name)] == []
    assert [name for name in bad if address.accepts(name)] == []


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("lab", False)],
)
def test_local_addresses(host: str, is_local: bool) -> None:
    assert Address(host, PORT).is_local == is_local


def test_credentials(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("ann:se:cret\nsecond line\n")
    assert credentials("ann:se:cret") == ("ann", "se:cret")
    assert credentials(str(file)) == ("ann", "se:cret")
    file.write_text("secret\n")
    os.mkfifo(tmp_path / "pipe")
    for bad in ("secret", "secret:", ":secret", str(file), str(tmp_path), str(tmp_path / "pipe")):
        with pytest.raises(ValueError, match="auth must") as error:
            credentials(bad)
        assert "secret" not in str(error.value)
