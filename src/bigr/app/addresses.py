"""Who may open the web app: the names under which it is served, and its password."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from bigr.data.files import check_regular

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
ANY_ADDRESS = ("0.0.0.0", "::", "")


class Address(NamedTuple):
    """Where the app is served, and under which other names it may be reached.

    Args:
        host: the name or address that the server is bound to.
        port: its port.
        allowed: more values of the Host header, such as ``my.machine`` (any port) or
            ``my.machine:8080``.
        embedders: other sites whose pages may show the app in a frame, such as
            ``https://huggingface.co``. Browsers then need HTTPS to keep the cookie of a visitor.
    """

    host: str
    port: int
    allowed: Collection[str] = ()
    embedders: Collection[str] = ()

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        host = self.host.strip("[]").lower()
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def url(self) -> str:
        """The address of the page for a browser on this machine."""
        if self.host in ANY_ADDRESS:
            return f"http://localhost:{self.port}"
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def accepts(self, host: str) -> bool:
        """Whether ``host``, the value of a Host header, means this app."""
        try:
            parts = urlsplit(f"//{host.lower()}")
            name, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if parts.netloc != host.lower() or "@" in host:
            return False
        written = f"[{name}]" if ":" in name else name
        allowed = [entry.lower() for entry in self.allowed]
        if written in allowed or f"{written}:{port}" in allowed:
            return True
        if port != self.port:
            return False
        if self.is_local:
            return written in LOOPBACK or name == self.host.lower()
        if self.host not in ANY_ADDRESS:
            return name == self.host.strip("[]").lower()
        # Bound to every address: a page of another site can't have an address as its name.
        return written in LOOPBACK or name == socket.gethostname().lower() or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def credentials(auth: str) -> tuple[str, str]:
    """Return user and password from ``user:password``, or from the first line of a file.

    Raises:
        ValueError: if there is no password; the message does not repeat the input.
    """
    path = Path(auth).expanduser()
    if ":" not in auth or path.is_file():
        try:
            auth = check_regular(path).read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, ValueError) as error:
            raise ValueError(
                "auth must be user:password, or a file that contains such a line."
            ) from error
    user, _, password = auth.partition(":")
    if not user or not password:
        raise ValueError("auth must have a user name and a password, as in user:password.")
    return user, password
