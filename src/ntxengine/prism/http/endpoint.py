"""Where a Prism is and who asks: an address that was checked, and secrets that do not print themselves."""

from __future__ import annotations

import hmac
import ipaddress
import re
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import urlsplit

from ntxengine.errors import OptionsError

DEFAULT_PORT = 9440
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


class Secret:
    """A text that repr, str, format and pickle do not give away; only `reveal` does."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")


@dataclass(frozen=True)
class Endpoint:
    """A Prism Central or a Prism Element, and the account to use there.

    `url` is `https://HOST[:PORT]`, port 9440 if none.  `ca_file` is a PEM file with the authority that signed the
    certificate, None for those that the machine trusts.  `timeout_s` limits each request from start to last byte.
    Errors: OptionsError if a part cannot be right.
    """

    url: str
    username: str
    password: Secret
    ca_file: str | None = None
    insecure: bool = False
    timeout_s: float = 60.0
    host: str = field(init=False)
    port: int = field(init=False)

    def __post_init__(self) -> None:
        host, port = check_url(self.url)
        object.__setattr__(self, "host", host)
        object.__setattr__(self, "port", port)
        check_username(self.username)
        if not self.timeout_s > 0:
            raise OptionsError(f"the Prism time limit must be more than 0 seconds, not {self.timeout_s}")


def authority(host: str, port: int) -> str:
    """Return `host:port` as it stands in a URL, with brackets round an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_username(name: str) -> None:
    """Refuse a name that no request could carry.  Errors: OptionsError."""
    if not name or ":" in name or any(ord(letter) < 0x20 for letter in name):
        raise OptionsError(
            "the Prism user name is empty, or holds a colon or a control character: basic auth cannot send it"
        )


def check_url(url: str) -> tuple[str, int]:
    """Return host and port of the address of a Prism.

    Errors: OptionsError.  Its messages do not repeat the text: a password may stand in it.
    """
    form = "write https://HOST or https://HOST:9440"
    if not url or _CONTROL.search(url):
        raise OptionsError(f"the Prism address is empty or holds a space or control character: {form}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise OptionsError(f"the Prism address has a bad host or port: {form}") from exc
    if parts.scheme != "https":
        raise OptionsError(f"the Prism address does not start with https://: {form}")
    if "@" in parts.netloc:
        raise OptionsError(f"the Prism address holds a user or password: {form}, and give the user as --username")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "?" in url or "#" in url:
        raise OptionsError(f"the Prism address has more than host and port: {form}")
    if not host or not _is_host(host) or port == 0:
        raise OptionsError(f"the Prism address has no usable host or port: {form}")
    return host, DEFAULT_PORT if port is None else port


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return len(host) <= 253 and _HOST_NAME.fullmatch(host) is not None
    return "%" not in host
