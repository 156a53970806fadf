"""From TlsOptions to what the core needs: files are read once, and refused where others could read or change them."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from ntxengine._core.tls import Tls
from ntxengine.dataplane.location import Location
from ntxengine.dataplane.security import TlsOptions
from ntxengine.errors import OptionsError

_MAX_FILE = 1 << 20
"""A bundle of all public CAs has a quarter of it."""

_PSK = re.compile(r"(?P<user>[^:\0]+):(?P<key>(?:[0-9A-Fa-f]{2})+)")


def credentials(location: Location, options: TlsOptions | None) -> Tls | None:
    """Return what the server at `location` is known by, None if it is not reached by TLS.  Reads files: use a thread.

    Errors: OptionsError (whom to trust is not said, a file is missing, wrong, or open to others).
    """
    if not location.is_tls:
        return None
    if options is None:
        raise OptionsError(
            f"{location.text}: whom to trust is not said: name the CA of the server (--tls-ca FILE), or a key that it "
            f"has too (--tls-psk FILE)"
        )
    if options.psk is not None:
        user, key = _find_psk(options.psk, location)
        try:
            return Tls.with_psk(user.encode(), key)
        except OptionsError as exc:
            raise OptionsError(f"{options.psk}: {exc}") from exc
    if location.user:
        raise OptionsError(f"{location.text}: a user goes with a pre-shared key (--tls-psk FILE), which was not given")
    assert options.ca is not None, "TlsOptions has one of the two"
    return Tls.with_certificates(
        _host_of(location, options).encode(),
        read_pem(options.ca),
        read_pem(options.certificate) if options.certificate else None,
        read_pem(options.key, is_secret=True) if options.key else None,
    )


def _host_of(location: Location, options: TlsOptions) -> str:
    """Return what the certificate must be for.  Never nothing: then any certificate of the CA would do."""
    host = location.host.partition("%")[0] if options.host_name is None else options.host_name
    if location.kind == "nbd_unix" and not host:
        raise OptionsError(
            f"{location.text}: a socket has no host name that the server's certificate could be for: give it "
            f"(--tls-hostname NAME)"
        )
    try:
        plain = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError as exc:
        raise OptionsError(f"{host!r} is no host name") from exc
    plain = plain.removesuffix(".")
    if not plain or not plain.isprintable() or plain.startswith("."):
        raise OptionsError(f"{host!r} is no host name")
    return plain


def read_pem(path: Path, *, is_secret: bool = False) -> tuple[bytes, bytes]:
    """Return what messages call the file, and what is in it.  Errors: OptionsError (missing, or open to others)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # who opens a pipe waits for its writer
        try:
            _check_open_to(path, os.fstat(fd), is_secret=is_secret)
            with open(fd, "rb", closefd=False) as file:
                content = file.read(_MAX_FILE + 1)
        finally:
            os.close(fd)
    except OSError as exc:
        raise OptionsError(f"{path}: {exc.strerror}") from exc
    if len(content) > _MAX_FILE:
        raise OptionsError(f"{path}: has more than {_MAX_FILE} bytes, so it is none of ours")
    return os.fsencode(path), content


def _check_open_to(path: Path, status: os.stat_result, *, is_secret: bool) -> None:
    """Refuse a file that others may have changed, and a secret that they may have read."""
    if not stat.S_ISREG(status.st_mode):
        raise OptionsError(f"{path}: is no regular file")
    mode = stat.S_IMODE(status.st_mode)
    if is_secret and status.st_uid not in (0, os.geteuid()):
        raise OptionsError(f"{path}: belongs to another user (uid {status.st_uid}): a key must be yours")
    # A group may read what is root's, as that of the programs that share a key does.
    forbidden = (0o037 if status.st_uid == 0 else 0o077) if is_secret else 0o002
    if mode & forbidden:
        what = "read or changed" if is_secret else "changed"
        raise OptionsError(
            f"{path}: can be {what} by others (mode {mode:04o}): chmod {mode & ~forbidden & 0o7777:04o} {path}"
        )


def _find_psk(path: Path, location: Location) -> tuple[str, bytes]:
    """Return the user and the key; of a file with one line the user need not be named."""
    keys: dict[str, bytes] = {}
    for number, line in enumerate(read_pem(path, is_secret=True)[1].split(b"\n"), 1):
        text = line.decode("utf-8", "replace").strip()
        if not text or text.startswith("#"):
            continue
        found = _PSK.fullmatch(text)
        if found is None:
            raise OptionsError(f"{path}: line {number} is not USER:KEY, the key in hexadecimal")
        keys.setdefault(found["user"], bytes.fromhex(found["key"]))
    if location.user:
        if location.user not in keys:
            raise OptionsError(f"{path}: has no key of {location.user!r}")
        return location.user, keys[location.user]
    if len(keys) != 1:
        raise OptionsError(f"{path}: has keys of {len(keys)} users: write nbds://USER@HOST/EXPORT to say whose")
    return next(iter(keys.items()))
