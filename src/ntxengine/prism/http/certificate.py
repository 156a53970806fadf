"""What stands in a certificate, whoever signed it: Python's ssl reads only one that an authority vouches for.

    Certificate -> tbsCertificate -> [version] serial algorithm issuer validity subject key ... [extensions]

What comes from a stranger is read within its own bounds, and what cannot be read is left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from ntxengine.prism.http.error_body import one_line

_SEQUENCE, _SET, _OID, _UTC_TIME, _GENERAL_TIME = 0x30, 0x31, 0x06, 0x17, 0x18
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87
_ALTERNATIVE_NAMES = bytes.fromhex("551d11")
_PARTS = {"550403": "CN", "55040a": "O", "55040b": "OU", "550406": "C", "550408": "ST", "550407": "L"}
_MAX_NAMES = 5
_MAX_PARTS = 8

Item = tuple[int, bytes]


@dataclass(frozen=True)
class Certificate:
    """What a server showed.  `names` are those that it is for; a time is None where it could not be read."""

    fingerprint: str
    names: tuple[str, ...] = ()
    subject: str = ""
    issuer: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None

    @property
    def all_names(self) -> set[str]:
        """Every name in it: those that it is for, and the parts of who has it and who signed it."""
        parts = [part for name in (self.subject, self.issuer) for part in re.findall(r"=([^,]+)", name)]
        return {*parts, *self.names}


def fingerprint_of(certificate: bytes | None) -> str:
    """Return the SHA-256 of a certificate (DER), as 64 digits."""
    return hashlib.sha256(certificate or b"").hexdigest()


def read_certificate(der: bytes | None) -> Certificate:
    """Return what a certificate (DER) says, as far as it can be read; the fingerprint always."""
    fingerprint = fingerprint_of(der)
    with contextlib.suppress(ValueError, IndexError):
        fields = [item for item in _items(_first(_first(der or b""))) if item[0] != _VERSION]
        issuer, validity, subject = (fields[number][1] for number in (2, 3, 4))
        extensions = next((content for tag, content in fields[5:] if tag == _EXTENSIONS), b"")
        begin, end = (_time(item) for item in list(_items(validity))[:2])
        names = tuple(_alternative_names(extensions)) if extensions else ()
        return Certificate(fingerprint, names[:_MAX_NAMES], _name(subject), _name(issuer), begin, end)
    return Certificate(fingerprint)


def _items(data: bytes) -> Iterator[Item]:
    """Yield tag and content of each item of a sequence.  Errors: ValueError, IndexError."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            if not 0 < count <= 4:
                raise ValueError("length of a length")
            length, at = int.from_bytes(data[at : at + count], "big"), at + count
        if at + length > len(data):
            raise ValueError("longer than what holds it")
        yield tag, data[at : at + length]
        at += length


def _first(data: bytes) -> bytes:
    item = next(_items(data), None)
    if item is None:  # a StopIteration would become a RuntimeError in a generator
        raise ValueError("nothing in it")
    return item[1]


def _name(data: bytes) -> str:
    """Return a distinguished name as people write it: `CN=pc.example.com, O=Example`."""
    parts = []
    for _, relative in list(_items(data))[:_MAX_PARTS]:
        (_, oid), (_, value) = list(_items(_first(relative)))[:2]
        kind = _PARTS.get(oid.hex())
        if kind is not None:
            parts.append(f"{kind}={value.decode(errors='replace')}")
    return one_line(", ".join(parts))


def _time(item: Item) -> datetime | None:
    tag, content = item
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERAL_TIME: "%Y%m%d%H%M%SZ"}.get(tag)
    if form is None:
        return None
    return datetime.strptime(content.decode("ascii"), form).replace(tzinfo=UTC)


def _alternative_names(extensions: bytes) -> Iterator[str]:
    for _, extension in _items(_first(extensions)):
        oid, *rest = (content for _, content in _items(extension))
        if oid != _ALTERNATIVE_NAMES:
            continue
        for tag, content in _items(_first(rest[-1])):
            if tag == _DNS_NAME:
                yield one_line(content.decode(errors="replace"))
            elif tag == _IP_ADDRESS and len(content) in (4, 16):
                yield str(ipaddress.ip_address(content))
