"""How to export: which way a control plane reaches the disks, where it is told of them, and how long it may take."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ntxengine.capture import CaptureOptions
from ntxengine.errors import OptionsError
from ntxengine.prism import Secret
from ntxengine.tunnel.options import FarEnd, SshGateway

DEFAULT_TIME_LIMIT_S = 12 * 3600
MAX_TIME_LIMIT_S = 7 * 86400
DEFAULT_CONNECTIONS = 8
MAX_CONNECTIONS = 64

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", re.ASCII)
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)
_LONGEST_SOCKET = "/20260101T000000Z-000000-9999.sock"


@dataclass(frozen=True)
class ServerTls:
    """PEM files: what we show, and the CA whose certificates clients must show."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class PortOptions:
    """TCP with TLS.  `advertise` is the host that the control plane connects to; `bind` the address that is listened
    at, "": all of this machine.  `ports` are the first and the last that may be taken."""

    advertise: str
    ports: tuple[int, int]
    tls: ServerTls
    bind: str = ""

    def __post_init__(self) -> None:
        first, last = self.ports
        if not 0 < first <= last < 65536:
            raise OptionsError(f"ports {first}-{last}: FIRST-LAST, from 1 to 65535")
        if not _HOST.fullmatch(self.advertise) and not is_address(self.advertise):
            raise OptionsError(f"advertise {self.advertise[:80]!r}: is not the name or the address of a host")
        if self.bind and not is_address(self.bind):
            raise OptionsError(f"bind {self.bind[:80]!r}: is not an address of this machine")

    @property
    def listen_at(self) -> str:
        """The address that is listened at."""
        return self.bind or ("::" if ":" in self.advertise else "0.0.0.0")

    @property
    def count(self) -> int:
        """How many ports there are."""
        return self.ports[1] - self.ports[0] + 1


@dataclass(frozen=True)
class TunnelOptions:
    """Unix sockets, which ssh makes in `folder` on the control plane: that is there, and nobody else's."""

    gateway: SshGateway
    folder: str

    def __post_init__(self) -> None:
        try:
            FarEnd(path=self.folder.rstrip("/") + _LONGEST_SOCKET)
        except OptionsError as exc:
            raise OptionsError(
                f"tunnel folder {self.folder[:120]!r}: is not a folder that sockets can be made in: absolute, at most "
                f"{107 - len(_LONGEST_SOCKET)} characters, letters, digits and ._/@+=,- only"
            ) from exc

    def socket(self, name: str) -> str:
        """Return the path of a socket there."""
        return f"{self.folder.rstrip('/')}/{name}.sock"


Way = PortOptions | TunnelOptions


@dataclass(frozen=True)
class NotifyOptions:
    """Who is told.  `ca`: who may have signed its certificate, None: whom this machine trusts.  `is_insecure` allows
    http.  `attempts` in all; `timeout_s` is of one."""

    url: str
    token: Secret | None = None
    ca: Path | None = None
    is_insecure: bool = False
    attempts: int = 8
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as exc:
            raise OptionsError(f"notify {self.url[:200]!r}: is not a URL: {exc}") from exc
        if parts.scheme not in ("https", "http") or not parts.hostname or port == 0 or not self.url.isprintable():
            raise OptionsError(f"notify {self.url[:200]!r}: is not a URL: write https://HOST[:PORT]/PATH")
        if parts.username is not None or parts.password is not None:
            raise OptionsError(
                f"notify https://{parts.hostname}/: a user or a password in a URL can be seen by everybody: give a "
                f"token (--notify-token-file)"
            )
        if parts.fragment or " " in self.url:
            raise OptionsError(f"notify {self.url[:200]!r}: no spaces and no fragment")
        if parts.scheme == "http" and not self.is_insecure:
            raise OptionsError(
                f"notify {self.url[:200]}: links and token would be sent for all to read: use https://, or allow it "
                f"with --insecure-notify"
            )


@dataclass(frozen=True)
class ExportOptions:
    """`since` is the recovery point that the control plane has, "" if it has none.  `capture` has what an export takes
    of a capture: consistency, vss, expiry, volume_groups, parallel, and on_lost_tracking ("full" or "fail")."""

    way: Way
    notify: NotifyOptions
    since: str = ""
    time_limit_s: float = DEFAULT_TIME_LIMIT_S
    connections: int = DEFAULT_CONNECTIONS
    capture: CaptureOptions = field(default_factory=lambda: CaptureOptions(on_lost_tracking="full"))

    def __post_init__(self) -> None:
        if not 0 < self.time_limit_s <= MAX_TIME_LIMIT_S:
            raise OptionsError(f"time limit {self.time_limit_s} s: more than 0 and at most {MAX_TIME_LIMIT_S} s")
        if not 1 <= self.connections <= MAX_CONNECTIONS:
            raise OptionsError(f"connections {self.connections}: from 1 to {MAX_CONNECTIONS}")
        if self.capture.on_lost_tracking == "scan":
            raise OptionsError("on lost tracking: there are no digests to scan against: full or fail")


def parse_ports(text: str) -> tuple[int, int]:
    """Return what `FIRST-LAST`, or one port, means.  Errors: OptionsError."""
    found = _PORTS.fullmatch(text.strip())
    if found is None:
        raise OptionsError(f"{text[:80]!r} is not FIRST-LAST, two ports such as 10809-10899")
    first, last = int(found[1]), int(found[2] or found[1])
    if not 0 < first <= last < 65536:
        raise OptionsError(f"{text[:80]!r}: the first port is at least 1 and not behind the last, that at most 65535")
    return first, last


def is_address(text: str) -> bool:
    """Say whether a text is an IP address, without a zone."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return getattr(address, "scope_id", None) is None
