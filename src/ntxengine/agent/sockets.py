"""Sockets that listen: a unix socket with its mode and group before anybody can connect, and TCP at addresses.

lock     beside a unix socket, held while it is listened to: two agents never take it from each other
look     what is at the path: nothing, a socket that nobody listens at any more (removed), something else (refused)
bind     the file is there, for nobody; group and mode are set; then it listens: before that nobody can connect
"""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ntxengine.config.listening import MAX_SOCKET_PATH, TcpAddress
from ntxengine.errors import LockedError, NtxError, OptionsError, TargetError
from ntxengine.files.lock_file import LockFile

BACKLOG = 128
FOLDER_MODE = 0o755
_ASK_TIMEOUT_S = 1.0

_REMEDIES = {
    errno.EACCES: "; start the agent as a user that may write there, or name another place",
    errno.EPERM: "; start the agent as root or as a member of that group, or name another",
    errno.EROFS: "; name another place",
    errno.EADDRINUSE: ": another program, or this agent, listens at that port; name another",
    errno.EADDRNOTAVAIL: ": this machine has no such address",
}


@dataclass(frozen=True)
class Access:
    """Who may connect to a unix socket: its mode, and its group by name or number (None: that of the process)."""

    mode: int = 0o660
    group: str | None = None

    def group_id(self) -> int:
        """Return the number of the group, -1 for that of the process.  Errors: OptionsError (there is no such one)."""
        if self.group is None:
            return -1
        if self.group.isdigit():
            return int(self.group)
        try:
            return grp.getgrnam(self.group).gr_gid
        except KeyError:
            raise OptionsError(f"group {self.group!r}: this machine has none of that name (getent group)") from None


class UnixSocket:
    """A unix socket that is listened to, from `open` to `close`, which removes it."""

    def __init__(self, path: Path, access: Access) -> None:
        self.path = path
        self._access = access
        self._lock = LockFile(path.with_name(f"{path.name}.lock"), f"the socket {path}")
        self._at: os.stat_result | None = None
        self.sockets: tuple[socket.socket, ...] = ()

    def open(self) -> None:
        """Make it.  Errors: OptionsError, LockedError (somebody listens there), NtxError (it cannot be made)."""
        group = self._access.group_id()
        length = len(os.fsencode(self.path))
        if length > MAX_SOCKET_PATH:
            raise OptionsError(
                f"{self.path}: is too long for a unix socket: {length} bytes, {MAX_SOCKET_PATH} at most; name another"
            )
        with _saying(f"the socket {self.path}"):
            _make_folder(self.path.parent)
        try:
            self._lock.acquire()
        except LockedError as exc:
            raise LockedError(f"{exc}, or give this agent a socket of its own") from exc
        except TargetError as exc:
            raise NtxError(f"the socket {self.path} cannot be used: {exc}") from exc
        try:
            with _saying(f"the socket {self.path}"):
                self._bind(group)
        except BaseException:
            self.close()
            raise

    def _bind(self, group: int) -> None:
        _remove_stale(self.path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.sockets = (listening,)
        os.fchmod(listening.fileno(), 0)  # the mode that the file begins with
        listening.bind(str(self.path))
        self._at = os.lstat(self.path)
        _permit(self.path, self._access.mode, group)
        listening.listen(BACKLOG)

    def permit(self, access: Access) -> None:
        """Change who may connect from now on.  Errors: OptionsError, NtxError; then it is as it was."""
        group = access.group_id()
        with _saying(f"the socket {self.path}"):
            _permit(self.path, access.mode, os.getegid() if group < 0 else group)
        self._access = access

    def close(self) -> None:
        """Remove it, if it is still ours, and listen no more."""
        with suppress(OSError):
            if self._at is not None and os.path.samestat(os.lstat(self.path), self._at):
                os.unlink(self.path)
        for each in self.sockets:
            each.close()
        self.sockets = ()
        self._lock.release()


class TcpSockets:
    """Sockets at the addresses of one port."""

    def __init__(self, address: TcpAddress) -> None:
        self._address = address
        self.sockets: tuple[socket.socket, ...] = ()

    def open(self) -> None:
        """Listen at each.  An IPv6 that this machine has not is left out where there is another.  Errors: NtxError."""
        opened: list[socket.socket] = []
        try:
            for host in self._address.hosts:
                with _saying(f"the port {self._address.port} of {host}"):
                    try:
                        opened.append(_listening(host, self._address.port))
                    except OSError as exc:
                        if not opened or exc.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                            raise
        except BaseException:
            for each in opened:
                each.close()
            raise
        self.sockets = tuple(opened)

    def close(self) -> None:
        for each in self.sockets:
            each.close()
        self.sockets = ()


def _listening(host: str, port: int) -> socket.socket:
    # No name is looked up: `host` is an address.
    flags = socket.AI_PASSIVE | socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)[0]
    opened = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(where)
        opened.listen(BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened


def _make_folder(folder: Path) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        each.chmod(FOLDER_MODE)  # whoever may connect has to get there, whatever our umask is
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens at.  Errors: LockedError, OptionsError, OSError."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OptionsError(f"{path}: is there, and is no socket: move it away, or name another place for the socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_ASK_TIMEOUT_S)
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except (TimeoutError, BlockingIOError):
            pass  # more clients wait there than it takes: somebody does listen
    raise LockedError(f"{path}: another program listens at it: end that, or name another place for the socket")


def _permit(path: Path, mode: int, group: int) -> None:
    """Set group and mode of the socket at `path`, and of nothing that took its place."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        same = f"/proc/self/fd/{fd}"
        if group >= 0:
            os.chown(same, -1, group)
        os.chmod(same, mode)
    finally:
        os.close(fd)


@contextmanager
def _saying(what: str) -> Iterator[None]:
    """Make one line of a file or socket error."""
    try:
        yield
    except OSError as exc:
        remedy = _REMEDIES.get(exc.errno or 0, "")
        text = remedy[2:] if remedy.startswith(": ") else f"{exc.strerror or exc}{remedy}"
        raise NtxError(f"{what} cannot be used: {text}") from exc


Sockets = UnixSocket | TcpSockets
