"""Who logs in where, with what, and what is to be reached there.

Everything here becomes an argument of ssh, or a line of its configuration: so what has a meaning there is refused, not
quoted (CVE-2025-14946 was a host name that began with a dash).
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from ntxengine.errors import OptionsError

SSH_PORT = 22
DEFAULT_PROCESSES = 4
MOST_PROCESSES = 64
FAR_HOST = "127.0.0.1"

_MAX_UNIX_PATH = 107
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_$])?", re.ASCII)
_FAR_PATH = re.compile(r"/[A-Za-z0-9._/@+=,-]+", re.ASCII)
_OURS = re.compile(r"/[^\"\\$\x00-\x1f\x7f]*")  # what neither ssh's quotes nor its variables change
_LOGIN = re.compile(r"(?:(?P<user>[^@]*)@)?(?P<host>\[[^\]]*\]|[^\[\]:]*)(?::(?P<port>[0-9]{1,5}))?", re.DOTALL)


@dataclass(frozen=True)
class SshLogin:
    """An ssh server, and the user there; "": the one that ssh takes by itself."""

    host: str
    port: int = SSH_PORT
    user: str = ""

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.host) and not _is_ipv6(self.host):
            raise OptionsError(f"ssh: {self.host[:80]!r} is not the name or the address of a host")
        if not 0 < self.port < 65536:
            raise OptionsError(f"ssh: port {self.port} is not from 1 to 65535")
        if self.user and not _USER.fullmatch(self.user):
            raise OptionsError(f"ssh: {self.user[:80]!r} is not the name of a user: letters, digits and ._- only")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}" if self.user else f"{host}:{self.port}"

    @property
    def in_known_hosts(self) -> str:
        """Its name in a file of known hosts."""
        return self.host if self.port == SSH_PORT else f"[{self.host}]:{self.port}"


def parse_ssh_login(text: str) -> SshLogin:
    """Return what `[ssh://][USER@]HOST[:PORT]` means.  Errors: OptionsError."""
    found = _LOGIN.fullmatch(text.removeprefix("ssh://").removesuffix("/"))
    if found is None or not found["host"]:
        raise OptionsError(f"{text[:80]!r} is not [USER@]HOST[:PORT], one host, an IPv6 address in brackets")
    return SshLogin(found["host"].strip("[]"), int(found["port"] or SSH_PORT), found["user"] or "")


@dataclass(frozen=True)
class FarEnd:
    """What is reached from the ssh server: the port of a host, or a unix socket."""

    host: str = FAR_HOST
    port: int = 0
    path: str = ""

    def __post_init__(self) -> None:
        if self.path:
            if not _FAR_PATH.fullmatch(self.path) or len(self.path) > _MAX_UNIX_PATH:
                raise OptionsError(
                    f"ssh: {self.path[:120]!r} is not the path of a socket there: absolute, at most {_MAX_UNIX_PATH} "
                    f"characters, letters, digits and ._/@+=,- only"
                )
        elif not 0 < self.port < 65536:
            raise OptionsError(f"ssh: port {self.port} there is not from 1 to 65535")
        else:
            SshLogin(self.host)

    def __str__(self) -> str:
        """Return it as ssh's -L takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path or f"{host}:{self.port}"


@dataclass(frozen=True)
class SshOptions:
    """How to log in.  `key` and `known_hosts`: None is what ssh takes by itself.

    `jump` is logged in to first, with the same key and the same file of known hosts.
    `processes` is how many ssh there are at most, one for each connection; further connections share them.
    """

    key: Path | None = None
    known_hosts: Path | None = None
    jump: SshLogin | None = None
    processes: int = DEFAULT_PROCESSES

    def __post_init__(self) -> None:
        if not 1 <= self.processes <= MOST_PROCESSES:
            raise OptionsError(f"{self.processes} ssh processes are not from 1 to {MOST_PROCESSES}")

    def check(self) -> None:
        """Look at the two files: blocks.  Errors: OptionsError, if others could use, read or change them."""
        if self.key is not None:
            _check_key(self.key)
        if self.known_hosts is not None:
            _check_known_hosts(self.known_hosts)


@dataclass(frozen=True)
class SshGateway:
    """An ssh server that connections go through, and how to log in to it."""

    login: SshLogin
    options: SshOptions


def as_argument(path: Path) -> str:
    """Return the path of a file of ours as ssh's configuration takes it.  Errors: OptionsError."""
    text = os.path.abspath(path)
    if not _OURS.fullmatch(text):
        raise OptionsError(f"{text!r}: ssh would read its name as another: use a path without quotes, \\ and $")
    return '"' + text.replace("%", "%%") + '"'


def _check_key(path: Path) -> None:
    found = _look(path, "--ssh-key")
    # The key of another user that we may read is one that was handed to us, as systemd does with credentials.
    open_to = stat.S_IRWXG | stat.S_IRWXO if found.st_uid == os.geteuid() else stat.S_IRWXO
    if found.st_mode & open_to:
        raise OptionsError(
            f"--ssh-key: {path} can be used by others (mode {stat.S_IMODE(found.st_mode):04o}): chmod 600 {path}"
        )
    if found.st_uid not in (0, os.geteuid()):
        raise OptionsError(f"--ssh-key: {path} belongs to user {found.st_uid}, who can change it: make a copy of yours")


def _check_known_hosts(path: Path) -> None:
    found = _look(path, "--ssh-known-hosts")
    if found.st_mode & stat.S_IWOTH:
        raise OptionsError(f"--ssh-known-hosts: {path} can be changed by anybody: chmod o-w {path}")
    if found.st_uid not in (0, os.geteuid()):
        raise OptionsError(f"--ssh-known-hosts: {path} belongs to user {found.st_uid}, who can change it")


def _look(path: Path, option: str) -> os.stat_result:
    as_argument(path)
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise OptionsError(f"{option}: {path} is not a file")
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as exc:
        raise OptionsError(f"{option}: {path} cannot be read: {exc.strerror}") from exc
    return found


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.IPv6Address(text).scope_id is None
    except ValueError:
        return False
