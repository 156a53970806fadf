"""The three standard descriptors as we were given them: closed, full, read by nobody, or on a terminal that is gone.

    print, click, rich, logging  ->  sys.stdout, sys.stderr  ->  Stream  ->  the descriptor

Whatever writes goes through a Stream, so nothing else has to think of it.  stderr never raises.  stdout raises an
OutputError while it carries what a command is for (a list, a digest); a command that has done work calls
`only_tells_of_work` first, and then stdout never raises either.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ntxengine.errors import NtxError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

AT_ONCE = select.PIPE_BUF
"""Bytes for which `poll` promises room when it says that there is some."""

LAST_WAIT_MS = 1000
"""How long a process that was told to stop waits for a reader of what it has left to say."""

MAX_KEPT = 1024 * 1024
"""Bytes of stderr that wait for a reader; more are left out: only memory would end them."""


_LOOK_S = 0.02
"""How often we look whether a reader that was slow has taken something."""


class OutputError(NtxError):
    """The result could not be written: what was read from stdout is not whole."""

    def __init__(self, message: str, *, errno: int) -> None:
        super().__init__(message)
        self.errno = errno


class Stream(io.RawIOBase):
    """Writes to a descriptor that may fail, or be read by nobody.

    A failure is kept, and all that comes after it is dropped.  `patience_ms` is how long a write waits for room (None:
    as long as it takes); what finds none is kept, and is written later.  stderr has no patience before the end, and
    then `last_patience_ms`.

    LIMIT: another process that fills the same pipe between our question and our write makes us wait.
    """

    def __init__(
        self, descriptor: int, name: str, *, is_strict: bool, patience_ms: int | None, max_kept: int | None = None
    ) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._max_kept = max_kept
        self._kept = bytearray()
        self._bytes_left_out = 0
        self.is_raised = False
        self.name = name
        self.is_strict = is_strict
        self.patience_ms = patience_ms
        self.last_patience_ms: int | None = None
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data)
        if self.failure is not None:
            return view.nbytes
        if self._max_kept is not None and len(self._kept) + view.nbytes > self._max_kept:
            self._bytes_left_out += view.nbytes
        else:
            self._kept += view
        self.drain()
        return view.nbytes

    def drain(self) -> None:
        """Write what is kept, as far as our patience goes.

        Errors: OutputError if strict, once; not while a coroutine runs, whose work it would end.
        """
        while self._kept and self.failure is None and self._has_room():
            try:
                del self._kept[: os.write(self._descriptor, self._kept[:AT_ONCE])]
            except BlockingIOError:
                continue
            except OSError as exc:
                self.failure = exc
                self._kept.clear()
        if self.failure is not None:
            self._raise_once(self.failure)
        elif not self._kept and self._bytes_left_out:
            self._kept += f"ntx: {self._bytes_left_out} bytes left out here: nobody read {self.name}\n".encode()
            self._bytes_left_out = 0
            self.drain()

    def _has_room(self) -> bool:
        """Return whether there is room, or an error to be found by writing."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(self.patience_ms))

    def _raise_once(self, failure: OSError) -> None:
        if self.is_strict and self.patience_ms != 0 and not self.is_raised:
            self.is_raised = True
            raise OutputError(self.problem, errno=failure.errno or 0) from failure

    @property
    def is_behind(self) -> bool:
        """Whether there is something that no reader has taken yet, and may."""
        return bool(self._kept) and self.failure is None

    @property
    def problem(self) -> str:
        """What there is to say about a failure; "" if there was none, or the reader has seen enough (`| head`)."""
        if self.failure is None or self.failure.errno == errno.EPIPE:
            return ""
        return f"{self.name}: {self.failure.strerror}: the result is not whole"


_OUT = Stream(1, "stdout", is_strict=True, patience_ms=None)
_ERR = Stream(2, "stderr", is_strict=False, patience_ms=0, max_kept=MAX_KEPT)


_closed: set[int] = set()


def was_closed(descriptor: int) -> bool:
    """Return whether a descriptor was closed when we were started: what is there now leads nowhere."""
    return descriptor in _closed


def take_over() -> None:
    """Make sys.stdin, sys.stdout and sys.stderr usable, whatever they are.  First of all, before a file is opened.

    A closed descriptor becomes /dev/null: else the next file that is opened, a disk image, would be our stdout.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            _closed.add(descriptor)
            # The lowest number that is free, and inherited by what we start, like a descriptor that was given to us.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    sys.stdout = _text(_OUT, sys.stdout)
    sys.stderr = _text(_ERR, sys.stderr)


def _text(stream: Stream, given: object) -> io.TextIOWrapper:
    encoding = getattr(given, "encoding", None) or "utf-8"
    is_by_line = stream is _ERR or stream.isatty()
    # What a terminal cannot show must not end the work either.
    return io.TextIOWrapper(io.BufferedWriter(stream), encoding, "backslashreplace", line_buffering=is_by_line)


def only_tells_of_work() -> None:
    """From here on stdout tells of work that is done: if that fails, the work is no less done."""
    _OUT.is_strict = False


@contextmanager
def without_waiting() -> Iterator[None]:
    """Within, stdout does not wait for a reader either: an event loop has other things to do."""
    _OUT.patience_ms = 0
    try:
        yield
    finally:
        _OUT.patience_ms = _OUT.last_patience_ms


async def taken() -> None:
    """Wait, in an event loop, until a reader has taken what was written: a long result must not pile up in memory.

    Errors: OutputError if it cannot be written: nobody reads what else there is.
    """
    import asyncio  # whoever waits here has loaded it; `ntx --help` does without

    sys.stdout.flush()
    while _OUT.is_behind:
        await asyncio.sleep(_LOOK_S)
        _OUT.drain()
    if _OUT.failure is not None:
        _OUT.is_raised = True
        raise OutputError(_OUT.problem, errno=_OUT.failure.errno or 0)


def hurry() -> None:
    """Do not wait for a reader for long, once there is nothing else to do: we were told to stop."""
    _OUT.last_patience_ms = _ERR.last_patience_ms = LAST_WAIT_MS


def write_result() -> None:
    """Write all of stdout.  Errors: OutputError if it is the result, and cannot be written."""
    sys.stdout.flush()
    _OUT.drain()


def end_stdout() -> str:
    """Write what is left of stdout, at the end.  Return what is wrong with it if that was not raised, else ""."""
    _OUT.patience_ms = _OUT.last_patience_ms
    _OUT.is_strict = False
    write_result()
    return "" if _OUT.is_raised else _OUT.problem


def end_stderr() -> None:
    """Write what is left of stderr, after everything else."""
    _ERR.patience_ms = _ERR.last_patience_ms
    sys.stderr.flush()
    _ERR.drain()
