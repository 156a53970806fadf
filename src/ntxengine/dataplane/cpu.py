"""How much processor time copies may take: a part of this machine, over all threads, and processes that work for us.

The core measures this process and keeps to the part (csrc/cpu_bucket.h); what our processes took it is told from here.
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator
from contextlib import suppress

from ntxengine.errors import OptionsError

_PART = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,2})?) ?%")
_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")
_TAKEN = slice(11, 15)
"""Among the fields of /proc/PID/stat behind the name, in ticks: its own, and of its children that ended (proc(5))."""


def parse_cpu_limit(text: str) -> float:
    """Return the part of the machine that `5%` or `0.5%` means.  Errors: OptionsError."""
    match = _PART.fullmatch(text.strip())
    part = float(match[1]) / 100 if match else 0.0
    if not 0 < part <= 1:
        raise OptionsError(f"CPU limit {text!r}: write a part of all processors of this machine, from 0.01% to 100%")
    return part


def share_ppm(part: float) -> int:
    """Return a part of all processors of this machine in millionths of one."""
    return round(part * (os.cpu_count() or 1) * 10**6)


def children_ns() -> int:
    """Return the processor time of the processes that this one has started, and of theirs, also those that ended.

    LIMIT: on a kernel without CONFIG_PROC_CHILDREN one counts when it has ended.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round((ended.ru_utime + ended.ru_stime) * 10**9) + sum(_taken_ns(pid) for pid in _descendants("self"))


def _descendants(pid: str) -> Iterator[str]:
    children: list[str] = []
    with suppress(OSError):  # it has ended meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
                children += file.read().split()
    for child in children:
        yield child
        yield from _descendants(child)


def _taken_ns(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return sum(map(int, fields[_TAKEN])) * _TICK_NS
    except (OSError, ValueError):
        return 0
