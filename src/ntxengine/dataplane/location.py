"""What a person writes as SOURCE or TARGET, and what it means.

    disk.raw  /dev/sdb  ./odd:name            a regular file or a block device
    nbd://HOST[:PORT]/[EXPORT]                an NBD server over TCP
    nbd+unix:///[EXPORT]?socket=PATH          an NBD server on a unix socket
    nbd+ssh://[USER@]HOST[:PORT]/[EXPORT]     an NBD server behind an ssh server (ssh_uri.py)
    nbds://  nbds+unix://                     the same through TLS; with a pre-shared key also nbds://USER@HOST
    null:                                     a target that drops what it gets
    pattern:SIZE                              a source in which every 8 bytes hold their own offset
    -                                         of `ntx copy`: standard input or output (standard.py)

The NBD URIs are those of the NBD project's uri.md.  What is written decides, never what lies in the folder: a name that
looks like an address, or like a word that means something here, is a file only as ./NAME.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

from ntxengine.dataplane.ssh_uri import parse_ssh_uri
from ntxengine.errors import OptionsError
from ntxengine.tunnel.options import FarEnd, SshLogin
from ntxengine.units import parse_size

NBD_PORT = 10809
STREAM = "-"
_MAX_SIZE = 2**63 - 1
_MAX_UNIX_PATH = 107  # sun_path without its NUL

_NBD = ("nbd", "nbd+unix", "nbds", "nbds+unix")
_NOT_YET = {
    "nbds+ssh": "nbd+ssh:// is encrypted as far as the ssh server, and speaks in the clear to the NBD server there",
    "nbd+vsock": "use nbd:// or nbd+unix://, in a tunnel",
}
_PLAIN_PATH = ("/", "./", "../")
_WORDS = {
    "null": "write null: to drop the bytes",
    "pattern": "write pattern:SIZE for a source without a disk",
}
_ADDRESS = re.compile(r"(?!file:)[^/:]+://", re.IGNORECASE)
_HOST_AND_PORT = re.compile(r"([^/:@]+|\[[0-9a-f:.%]+\]):[0-9]{1,5}(/.*)?", re.IGNORECASE | re.DOTALL)
_ON_ANOTHER_MACHINE = re.compile(r"(?!unix:)[^/:]+:/(?!/).*|[^/:@]+@[^/:]+:.*", re.DOTALL)  # as NFS and scp write it
_USER = re.compile(r"//[^/@\s]*@")
_QEMU_NBD = re.compile(r"(?:unix:(?P<path>[^:]+)|(?P<server>[^/:]+(?::[0-9]+)?))(?::exportname=(?P<export>.*))?")


@dataclass(frozen=True)
class Location:
    """A parsed SOURCE or TARGET; only the fields of its `kind` are set.  `text` is as it was written."""

    kind: Literal["file", "nbd_unix", "nbd_tcp", "nbd_ssh", "null", "pattern", "stream"]
    text: str
    path: str = ""
    host: str = ""
    port: int = 0
    export: str = ""
    size: int = 0
    login: SshLogin | None = None
    far: FarEnd | None = None
    is_tls: bool = False
    user: str = ""
    """Whose pre-shared key it is; "" where that is not said."""


def parse(text: str) -> Location:
    """Return what `text` means.

    Errors: OptionsError that quotes it and says what would be right.
    """
    if not text or "\0" in text:
        raise OptionsError(f"{text!r} names nothing: write a path, or an NBD URI such as nbd://host/export")
    if text.startswith(_PLAIN_PATH):
        return _file(text)
    if text == STREAM:
        return Location("stream", text)
    scheme = _scheme(text)
    if scheme == "nbd+ssh":
        login, far, export = parse_ssh_uri(text, nbd_port=NBD_PORT)
        return Location("nbd_ssh", text, export=export, login=login, far=far)
    if scheme in _NBD:
        return _parse_nbd(text)
    if scheme in _NOT_YET:
        raise OptionsError(f"{text}: {scheme}:// is not supported: {_NOT_YET[scheme]}")
    if scheme == "null":
        if text.lower() != "null:":
            raise OptionsError(f"{text}: null: takes nothing behind the colon; {_really(text)}")
        return Location("null", text)
    if scheme == "pattern":
        size = parse_size(text.split(":", 1)[1])
        if size > _MAX_SIZE:
            raise OptionsError(f"{text}: at most {_MAX_SIZE} bytes")
        return Location("pattern", text, size=size)
    if advice := _meant_as_path(text) or _meant_as_device(text):
        raise _refusal(text, advice)
    return _file(text)


def _file(text: str) -> Location:
    if text.endswith("/"):
        raise OptionsError(f"{text}: is a folder: name the file in it")
    return Location("file", text, path=text)


def check_path(text: str) -> None:
    """Refuse what is no path of this machine, where a file, a folder or a repository is asked for.

    Errors: OptionsError, if it is an address or looks like one, or if it is empty, as an unset variable of a shell is.
    """
    if text.startswith(_PLAIN_PATH):
        return
    if not text:
        raise OptionsError("'' names nothing: write a path; . is the working directory")
    scheme = _scheme(text)
    if scheme in (*_NBD, *_NOT_YET, "nbd+ssh"):
        advice = f"only a path can be given here: `ntx copy FILE {_right_nbd(text)}` sends a disk to a server"
    elif scheme in _WORDS or _meant_as_device(text):
        advice = "looks like an address, and only a path can be given here"
    else:
        advice = _meant_as_path(text)
    if advice:
        raise _refusal(text, advice)


def _refusal(text: str, advice: str) -> OptionsError:
    """Return the error for what looks like something else; a password that an address holds is left out."""
    return OptionsError(_USER.sub("//...@", f"{text}: {advice}; {_really(text)}"))


def _scheme(text: str) -> str:
    return text.split(":", 1)[0].lower() if ":" in text else ""


def socket_uri(path: str) -> str:
    """Return the URI of the NBD server that listens on a unix socket."""
    return f"nbd+unix:///?socket={quote(path)}"


def _really(text: str) -> str:
    return f"if that is the name of a file or a folder, write ./{text}"


def _meant_as_path(text: str) -> str:
    """Return how a path is written that `text` seems to mean, "" if it seems to mean none, or itself."""
    if text == STREAM:
        return "standard input and output cannot be used here: write a path"
    if text.lower().startswith("file:/"):
        return f"write the path: {unquote(urlsplit(text).path)}"
    if _ON_ANOTHER_MACHINE.fullmatch(text):
        return "looks like a path on another machine: mount it, and write where"
    return ""


def _meant_as_device(text: str) -> str:
    """Return how a source or a target is written that `text` seems to mean, "" if it seems to mean none."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text.lower().startswith("unix:/"):
        return f"looks like a socket: write {socket_uri(text[5:])}"
    if _ADDRESS.match(text):
        return "unknown kind of address: write a path, nbd://HOST/EXPORT or nbd+unix:///EXPORT?socket=PATH"
    if _HOST_AND_PORT.fullmatch(text):
        return f"looks like a server: write nbd://{text}{'' if '/' in text else '/'}"
    if right := _in_brackets(f"nbd://{text}"):
        return f"looks like a server: write {right}"
    return ""


def _right_nbd(text: str) -> str:
    """Return the URI that `text` means, which may be written as qemu does: nbd:HOST:PORT:exportname=NAME."""
    old = _QEMU_NBD.fullmatch(text.split(":", 1)[1])
    if "://" in text:
        return text
    if old is None:
        return "nbd://HOST[:PORT]/EXPORT"
    export = quote(old["export"] or "")
    return f"nbd+unix:///{export}?socket={quote(old['path'])}" if old["path"] else f"nbd://{old['server']}/{export}"


def _in_brackets(text: str) -> str:
    """Return the URI that an IPv6 address without brackets means, "" if it is none.

    What is an address as a whole is one, and has no port: nobody can tell whether 80 is the end of ::1:80.
    """
    scheme = _scheme(text)
    host, _, rest = text.partition("://")[2].partition("/")
    address, _, port = host.rpartition(":")
    if _is_ipv6(host):
        return f"{scheme}://[{host}]/{rest}"
    return f"{scheme}://[{address}]:{port}/{rest}" if _is_ipv6(address) and port.isdecimal() else ""


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _parse_nbd(text: str) -> Location:
    scheme = _scheme(text)
    is_tls = scheme.startswith("nbds")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as exc:
        right = _in_brackets(text) or f"{scheme}://HOST[:PORT]/EXPORT, an IPv6 address in brackets"
        raise OptionsError(_USER.sub("//...@", f"{text}: its host or port cannot be read: write {right}")) from exc
    if parts.password is not None or (parts.username is not None and not is_tls):
        raise OptionsError("an NBD URI takes no user or password; with TLS it may have the user of a pre-shared key")
    user = unquote(parts.username or "")
    export = unquote(parts.path.removeprefix("/"))
    if len(export.encode()) > 4096:
        raise OptionsError("an NBD export name has at most 4096 bytes")
    if scheme in ("nbd", "nbds"):
        if not parts.hostname or parts.query:
            right = f"{scheme}://HOST[:PORT]/EXPORT" if "://" in text else _right_nbd(text)
            raise OptionsError(f"{text}: write {right}; {_really(text)}")
        host = unquote(parts.hostname)  # fe80::1%25eth0: an address of one interface
        port = NBD_PORT if port is None else port
        return Location("nbd_tcp", text, host=host, port=port, export=export, is_tls=is_tls, user=user)
    query = parse_qs(parts.query, keep_blank_values=True)
    if (
        parts.netloc.rpartition("@")[2]
        or set(query) != {"socket"}
        or len(query["socket"]) != 1
        or not query["socket"][0]
    ):
        raise OptionsError(f"{text}: write {scheme}:///EXPORT?socket=PATH; {_really(text)}")
    path = query["socket"][0]
    if len(path.encode()) > _MAX_UNIX_PATH:
        raise OptionsError(f"{path}: a unix socket's path has at most {_MAX_UNIX_PATH} bytes")
    return Location("nbd_unix", text, path=path, export=export, is_tls=is_tls, user=user)
