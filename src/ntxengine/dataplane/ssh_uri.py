"""The URI of an export behind an ssh server: nbd+ssh://[USER@]HOST[:PORT]/[EXPORT][?socket=PATH or ?port=N].

HOST is the ssh server; the NBD server is on that machine, at port 10809 of 127.0.0.1 unless the query says otherwise.
"""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from ntxengine.errors import OptionsError
from ntxengine.tunnel.options import SSH_PORT, FarEnd, SshLogin

_FORM = "nbd+ssh://[USER@]HOST[:PORT]/EXPORT, with ?socket=PATH or ?port=N for where the NBD server is there"
_MAX_EXPORT = 4096  # bytes


def parse_ssh_uri(text: str, *, nbd_port: int) -> tuple[SshLogin, FarEnd, str]:
    """Return who logs in where, what is reached there, and the name of the export.  Errors: OptionsError."""
    try:
        parts = urlsplit(text)
        if parts.password is not None:
            raise OptionsError("an nbd+ssh URI takes no password: log in with a key (--ssh-key)")
        export = unquote(parts.path.removeprefix("/"))
        if not parts.hostname or parts.fragment or len(export.encode()) > _MAX_EXPORT:
            raise ValueError(text)
        port = SSH_PORT if parts.port is None else parts.port
        return SshLogin(unquote(parts.hostname), port, _user(parts)), _far(parts, nbd_port), export
    except ValueError as exc:
        raise OptionsError(f"{_without_password(text)}: write {_FORM}") from exc
    except OptionsError as exc:
        raise OptionsError(f"{_without_password(text)}: {exc}") from exc


def _far(parts: SplitResult, nbd_port: int) -> FarEnd:
    query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    if len(query) > 1 or not query.keys() <= {"socket", "port"}:
        raise ValueError(parts.query)
    [value] = next(iter(query.values()), [str(nbd_port)])
    if "socket" in query:
        return FarEnd(path=value or "/")
    if not (value.isascii() and value.isdecimal() and len(value) < 6):
        raise ValueError(value)
    return FarEnd(port=int(value))


def _user(parts: SplitResult) -> str:
    if parts.username is None:
        return ""
    user = unquote(parts.username)
    if not user:
        raise ValueError(user)
    return user


def _without_password(text: str) -> str:
    """Leave out all before the last @ of what may hold one."""
    scheme, _, rest = text.partition("//")
    host, slash, path = rest.partition("/")
    return f"{scheme}//...@{host.rpartition('@')[2]}{slash}{path}" if ":" in host.rpartition("@")[0] else text
