"""The files of a chain, opened for reading so that nobody writes to them meanwhile.

The locks are qemu's own, on the descriptors: they last as long as any duplicate of them, such as those that the core
keeps.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import PortableError
from ntxengine.files.locks import FLOCK
from ntxengine.images.header import BadHeader, opened

# What qemu locks of a file (file-posix.c): bytes 100 + p are held by who uses permission p, bytes 200 + p by who
# does not share it with others.
_CONSISTENT_READ, _WRITE, _RESIZE = 0, 1, 3
_USED, _NOT_SHARED = 100, 200

_Identity = tuple[int, int, int, int]


class CannotMap(PortableError):
    """The image cannot be read in this way; the message is the reason."""


@dataclass(frozen=True)
class HeldImages:
    """The files of `chain`, nearest image first, behind `fds`."""

    chain: Sequence[Path]
    fds: tuple[int, ...]
    identities: tuple[_Identity, ...]

    async def check_unchanged(self) -> None:
        """Check that the paths lead to the files as they were when they were opened.  Errors: CannotMap."""
        if list(self.identities) != await to_thread_joined(_identities, self.chain):
            raise CannotMap("an image was changed or replaced meanwhile")


@asynccontextmanager
async def held(chain: Sequence[Path]) -> AsyncIterator[HeldImages]:
    """Open the files of `chain`, following no link, and keep writers that ask for qemu's locks out meanwhile.

    Errors: CannotMap.
    """
    with ExitStack() as stack:
        fds = await to_thread_joined(_open_all, chain, stack)
        yield HeldImages(chain, fds, tuple(_identity(os.fstat(fd)) for fd in fds))


def _open_all(chain: Sequence[Path], stack: ExitStack) -> tuple[int, ...]:
    return tuple(stack.enter_context(_opened(path)) for path in chain)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        with opened(path) as fd:
            _keep_writers_out(fd, path)
            yield fd
    except BadHeader as exc:
        raise CannotMap(f"{path}: {exc}") from exc


def _keep_writers_out(fd: int, path: Path) -> None:
    """Do what qemu does when it opens an image for reading: nobody may write to it or resize it, nor does now."""
    try:
        for byte in (_USED + _CONSISTENT_READ, _NOT_SHARED + _WRITE, _NOT_SHARED + _RESIZE):
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
        for byte in (_USED + _WRITE, _USED + _RESIZE, _NOT_SHARED + _CONSISTENT_READ):
            answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
            if FLOCK.unpack(answer)[0] != fcntl.F_UNLCK:
                raise CannotMap(f"{path}: another process writes to it")
    except (BlockingIOError, PermissionError) as exc:
        raise CannotMap(f"{path}: another process has locked it") from exc
    except OSError:
        pass  # no locks on this file system: qemu goes on without, too


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _identities(chain: Sequence[Path]) -> list[_Identity]:
    try:
        return [_identity(os.stat(path)) for path in chain]
    except OSError as exc:
        raise CannotMap(f"{exc.filename}: {exc.strerror}") from exc
