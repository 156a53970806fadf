"""Where a Prism is, who asks, and how its certificate is judged: all checked before anything is sent."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ntxengine.errors import OptionsError
from ntxengine.ids import is_uuid
from ntxengine.prism.http.accounts import Account, account_of
from ntxengine.prism.http.secret import Secret
from ntxengine.prism.http.trust import Trust

__all__ = ["DEFAULT_PORT", "Endpoint", "Secret", "Trust", "authority", "check_url"]

DEFAULT_PORT = 9440

SNAPSHOT_TIMEOUT_S = 600.0
"""How long Prism may take to freeze or to delete; a quiesced VM under load needs minutes."""

_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True)
class Endpoint:
    """A Prism Central or a Prism Element, and the account to use there.

    `url` is `https://HOST[:PORT]`, port 9440 if none.  `timeout_s` limits each request from start to last byte,
    `snapshot_timeout_s` how long it may take to make a recovery point, or to delete one.
    `auth` is the kind of account (accounts.py); the `password` of `api_key` is the key, and its user name may be empty.
    `project` is the extId of the project that recovery points are made in, where Prism asks for one.

    The certificate: `ca_file` is a PEM file with the authority that signed it, None for those that the machine trusts;
    `fingerprint` is the SHA-256 of the certificate, which is then trusted whoever signed it; with `trust_file` the
    first certificate that a host shows is trusted and remembered there; `insecure` trusts any.  `elements` says the
    same of the Prism Elements that a Prism Central names; as it comes, `ca_file` and `trust_file` hold for them too.
    With `is_element` this endpoint is one of them, and `elements` says how its own certificate is judged.
    Errors: OptionsError if a part cannot be right.
    """

    url: str
    username: str
    password: Secret
    ca_file: str | None = None
    insecure: bool = False
    timeout_s: float = 60.0
    auth: str = "local"
    project: str | None = None
    fingerprint: str | None = None
    trust_file: str | None = None
    elements: Trust | None = None
    is_element: bool = False
    snapshot_timeout_s: float = SNAPSHOT_TIMEOUT_S
    host: str = field(init=False)
    port: int = field(init=False)
    account: Account = field(init=False, repr=False, compare=False)
    trust: Trust = field(init=False)
    element_trust: Trust = field(init=False)

    def __post_init__(self) -> None:
        host, port = check_url(self.url)
        fingerprints = () if self.fingerprint is None else (self.fingerprint,)
        trust = Trust(self.ca_file, self.insecure, fingerprints, trust_file=self.trust_file)
        elements = self.elements or Trust(self.ca_file, trust_file=self.trust_file)
        object.__setattr__(self, "host", host)
        object.__setattr__(self, "port", port)
        object.__setattr__(self, "account", account_of(self.auth, self.username, self.password))
        object.__setattr__(self, "trust", elements if self.is_element else trust)
        object.__setattr__(self, "element_trust", elements)
        if not self.timeout_s > 0:
            raise OptionsError(f"the Prism time limit must be more than 0 seconds, not {self.timeout_s}")
        if not self.snapshot_timeout_s > 0:
            raise OptionsError(
                f"the limit of a recovery point must be more than 0 seconds, not {self.snapshot_timeout_s}"
            )
        if self.project is not None and not is_uuid(self.project):
            raise OptionsError("the extId of a project is a UUID")


def authority(host: str, port: int) -> str:
    """Return `host:port` as it stands in a URL, with brackets round an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
