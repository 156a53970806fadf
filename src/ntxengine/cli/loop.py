"""Which event loop: uvloop where it is installed and can run."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

_IO_URING_SETUP, _IO_URING_ENTER = 425, 426  # the same on every architecture: younger than the common table
_PARAMS_SIZE = 120  # struct io_uring_params


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the loop; None for that of the standard library."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop if _can_use_rings() else None


def _can_use_rings() -> bool:
    """Say whether a system that lets us make an io_uring also lets us use it.

    A sandbox that refuses only io_uring_enter() makes libuv abort the process.  Where no ring can be made at all (most
    containers), libuv does without.
    """
    call = ctypes.CDLL(None).syscall
    ring = call(_IO_URING_SETUP, 1, ctypes.create_string_buffer(_PARAMS_SIZE))
    if ring < 0:
        return True
    try:
        return bool(call(_IO_URING_ENTER, ring, 0, 0, 0, None, 0) == 0)
    finally:
        os.close(ring)
