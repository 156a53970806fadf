"""What of this machine a command needs before it begins.

Without a descriptor or a thread, libuv aborts the process, and asyncio leaves things half made that it complains of
later.  So there is a look before: it costs less than a millisecond.
"""

from __future__ import annotations

import os
import resource
import threading
from contextlib import ExitStack

from ntxengine.errors import machine_error

MAX_DESCRIPTORS = 65536
"""Of our own; the hard limit may be lower, and one that is higher already stays."""

NEEDED_DESCRIPTORS = 16
"""To begin: those of the loop, and of the first files."""

NEEDED_THREADS = 4
"""To begin: libuv has as many for looking up names."""


def make_room() -> None:
    """Allow as many descriptors as we may have, and see that there are descriptors and threads to begin with.

    Errors: MachineError.
    """
    _raise_descriptor_limit()
    try:
        _open_some()
        _start_some()
    except (OSError, RuntimeError) as exc:
        error = machine_error("this machine has no room to begin", exc)
        if error is None:
            raise
        raise error from exc


def _raise_descriptor_limit() -> None:
    """64 disks take about a thousand, and many systems begin with 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(MAX_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _open_some() -> None:
    with ExitStack() as opened:
        for _ in range(NEEDED_DESCRIPTORS):
            opened.callback(os.close, os.open("/", os.O_RDONLY | os.O_CLOEXEC))


def _start_some() -> None:
    end = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(NEEDED_THREADS):
            thread = threading.Thread(target=end.wait)
            thread.start()
            started.append(thread)
    finally:
        end.set()
        for thread in started:
            thread.join()
