"""A private folder for a socket, which does not outlive us for long.

Its lock is held while we live.  A folder whose lock is free belongs to a process that was killed: the next one removes
it.  The folder gets its final name only when it is locked, so a fresh one is never taken for a dead one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from ntxengine import machine
from ntxengine.errors import MachineError, machine_error
from ntxengine.files.locks import give_back, take

log = logging.getLogger(__name__)

MAX_SOCKET_PATH = 107  # sun_path holds 108 bytes, with the zero at the end
_PREFIX = "ntx-run-"
_FRESH_PREFIX = ".ntx-run-"
_LOCK = "lock"


class PrivateFolder:
    """A folder that only we can enter, from `__init__` to `close`."""

    def __init__(self) -> None:
        """Make it, where a socket in it has a short enough path.  Errors: MachineError."""
        base = _base()
        try:
            _remove_dead(base)
            fresh = Path(tempfile.mkdtemp(prefix=_FRESH_PREFIX, dir=base))
            # Not told by the name before it: whoever sees that in a folder of all could take this one first.
            self.path = base / f"{_PREFIX}{secrets.token_hex(4)}"
            try:
                self._fd = os.open(fresh / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with suppress(OSError):  # where there are no locks, nobody takes it for dead either
                    take(self._fd, fcntl.LOCK_EX)
                fresh.rename(self.path)
            except OSError:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
        except OSError as exc:
            action = f"{base}: no private folder for a socket can be made"
            raise machine_error(action, exc) or MachineError(f"{action}: {exc.strerror or exc}") from exc

    def close(self) -> None:
        """Remove it and all in it.  A second time is allowed."""
        if self._fd >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            give_back(self._fd)
            self._fd = -1


def _base() -> Path:
    base = Path(machine.temporary_folder()).absolute()
    longest = base / f"{_PREFIX}12345678" / "nbd.sock"
    return base if len(os.fsencode(longest)) <= MAX_SOCKET_PATH else Path("/tmp")


def _remove_dead(base: Path) -> None:
    for folder in base.glob(f"{_PREFIX}*"):
        try:
            if folder.lstat().st_uid != os.geteuid() or folder.is_symlink():
                continue
            fd = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                take(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
                log.info("%s: removed, its process was killed", folder)
            finally:
                give_back(fd)
        except OSError:  # in use, or being removed by another: both are fine
            continue
