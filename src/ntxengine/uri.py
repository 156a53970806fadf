"""What a person writes as SOURCE or TARGET, and what it means.

    disk.raw  /dev/sdb  ./odd:name            a regular file or a block device
    nbd://HOST[:PORT]/[EXPORT]                an NBD server over TCP
    nbd+unix:///[EXPORT]?socket=PATH          an NBD server on a unix socket
    null:                                     a target that drops what it gets
    pattern:SIZE                              a source in which every 8 bytes hold their own offset

The NBD URIs are those of the NBD project's uri.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

from ntxengine.errors import OptionsError
from ntxengine.units import parse_size

NBD_PORT = 10809
_MAX_SIZE = 2**63 - 1
_MAX_UNIX_PATH = 107  # sun_path without its NUL


@dataclass(frozen=True)
class Location:
    """A parsed SOURCE or TARGET; only the fields of its `kind` are set.  `text` is as it was written."""

    kind: Literal["file", "nbd_unix", "nbd_tcp", "null", "pattern"]
    text: str
    path: str = ""
    host: str = ""
    port: int = 0
    export: str = ""
    size: int = 0


def parse(text: str) -> Location:
    """Return what `text` means.

    Errors: OptionsError that quotes it and says what would be right.
    """
    if not text or "\0" in text:
        raise OptionsError(f"{text!r} names nothing: write a path, or an NBD URI such as nbd://host/export")
    scheme = text.split(":", 1)[0].lower() if ":" in text else ""
    if scheme in ("nbd", "nbd+unix"):
        return _parse_nbd(text)
    if scheme in ("nbds", "nbds+unix", "nbd+ssh", "nbds+ssh", "nbd+vsock"):
        raise OptionsError(f"{text}: {scheme}:// is not supported: use nbd:// or nbd+unix://, in a tunnel")
    if scheme == "null":
        if text != "null:":
            raise OptionsError(f"{text}: null: takes nothing behind the colon")
        return Location("null", text)
    if scheme == "pattern":
        size = parse_size(text.split(":", 1)[1])
        if size > _MAX_SIZE:
            raise OptionsError(f"{text}: at most {_MAX_SIZE} bytes")
        return Location("pattern", text, size=size)
    if "://" in text:
        known = "nbd://HOST/EXPORT or nbd+unix:///EXPORT?socket=PATH"
        raise OptionsError(f"{text}: unknown kind of address: write a path, {known}")
    return Location("file", text, path=text)


def _parse_nbd(text: str) -> Location:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as exc:
        raise OptionsError(f"{text}: {exc}") from exc
    if parts.username is not None or parts.password is not None:
        raise OptionsError("an NBD URI takes no user or password: NBD without TLS has none")
    export = unquote(parts.path.removeprefix("/"))
    if len(export.encode()) > 4096:
        raise OptionsError("an NBD export name has at most 4096 bytes")
    if parts.scheme == "nbd":
        if not parts.hostname or parts.query:
            raise OptionsError(f"{text}: write nbd://HOST[:PORT]/EXPORT")
        return Location("nbd_tcp", text, host=parts.hostname, port=NBD_PORT if port is None else port, export=export)
    query = parse_qs(parts.query, keep_blank_values=True)
    if parts.netloc or set(query) != {"socket"} or len(query["socket"]) != 1 or not query["socket"][0]:
        raise OptionsError(f"{text}: write nbd+unix:///EXPORT?socket=PATH")
    path = query["socket"][0]
    if len(path.encode()) > _MAX_UNIX_PATH:
        raise OptionsError(f"{path}: a unix socket's path has at most {_MAX_UNIX_PATH} bytes")
    return Location("nbd_unix", text, path=path, export=export)
