"""Memory that runs leave free does not stay with the agent."""

from __future__ import annotations

import asyncio
import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from ntxengine.agent import memory
from ntxengine.agent.clock import Clock
from tests.agent.acting import Acting
from tests.agent.test_service import built, serving, until
from tests.support.servers import skip

_HEAPS = """
import ctypes, re, sys, threading
from ntxengine.agent import memory

C = ctypes.CDLL(None)
C.malloc.restype = C.fopen.restype = ctypes.c_void_p
C.free.argtypes = C.fclose.argtypes = [ctypes.c_void_p]
C.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def heaps():
    file = C.fopen(sys.argv[1].encode(), b"w")
    C.malloc_info(0, file)
    C.fclose(file)
    return len(re.findall("<heap ", open(sys.argv[1]).read()))

def at_once(threads):
    meet = threading.Barrier(threads)
    def take():
        meet.wait()
        taken = C.malloc(1000)
        meet.wait()
        C.free(taken)
    all_of_them = [threading.Thread(target=take) for _ in range(threads)]
    [each.start() for each in all_of_them]
    [each.join() for each in all_of_them]
"""

_SHARES = _HEAPS + "memory.share_heaps(); at_once(8); print(heaps())"
_AS_IT_IS = _HEAPS + "at_once(8); print(heaps())"
_GIVES_BACK = (
    _HEAPS
    + """
taken = [C.malloc(4000) for _ in range(20000)]
kept = C.malloc(4000)
C.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
[C.memset(each, 1, 4000) for each in taken]
[C.free(each) for each in taken]
before = resident()
memory.give_back()
print((before - resident()) >> 20)
"""
)


def told(code: str, folder: Path) -> int:
    """Return what a program says."""
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        skip("the C library is not glibc: nothing is shared or given back")
    command = [sys.executable, "-c", code, str(folder / "info")]
    return int(subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout)


def test_threads_share_two_heaps(tmp_path: Path) -> None:
    assert told(_AS_IT_IS, tmp_path) > 2
    assert told(_SHARES, tmp_path) <= 2


def test_what_is_free_in_the_middle_of_a_heap_is_given_back(tmp_path: Path) -> None:
    assert told(_GIVES_BACK, tmp_path) > 60


class Looks(Clock):
    """Counts the looks at the memory, which come at once."""

    times = 0

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        if seconds == memory.INTERVAL_S:
            Looks.times += 1
            seconds = 0.001
        await super().wait(event, seconds)


async def test_memory_is_given_back_after_runs_and_not_when_there_were_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr(memory, "give_back", lambda: given.append(Looks.times))
    monkeypatch.setattr(memory, "INTERVAL_S", 61.5)
    runner = Acting(takes_s=0)

    async def looks(more: int) -> None:
        enough = Looks.times + more
        await until(lambda: Looks.times >= enough)

    async with serving(tmp_path, lambda state: built(runner=runner), clock=Looks()) as service:
        await looks(5)
        before = list(given)
        service.scheduler.ask("a")
        await until(lambda: given)
        await looks(5)

    assert before == []
    assert len(given) == 1
