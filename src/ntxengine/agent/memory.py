"""Memory that runs have given back, given back to the system.

Captures take and give back buffers and tables in many threads.  The C library keeps what it gets, in a heap for each
thread, up to eight for each processor: after a thousand captures that is as much again as the agent needs.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

INTERVAL_S = 60.0

_M_ARENA_MAX = -8
_HEAPS = 2


def share_heaps() -> None:
    """Let all threads share two heaps, from now on.  Nothing where the C library is not glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _HEAPS)


def give_back() -> None:
    """Give back what is free in the heaps.  Blocks for some milliseconds.  Nothing where the C library is not glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
