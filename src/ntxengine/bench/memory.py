"""Free memory that the machine really has.

The host of a virtual machine may have taken back what was free for some seconds (free page reporting, a balloon).  The
next to touch it waits until it is there again, many times longer than clearing a page takes (bench/notes/qemu-nbd.md).
"""

from __future__ import annotations

import signal
import sys

from ntxengine.bench import tools

# In a process of its own: its peak is not ours, and all of it is free again when it ends.  In huge pages, because what
# is freed as a large piece is what the kernel hands out next.  Where less is permitted than is free, it is the first
# to go.
_TOUCH = """
import mmap, os, sys
from contextlib import suppress
from pathlib import Path

with suppress(OSError):
    Path("/proc/self/oom_score_adj").write_text("1000")
free = os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE
size = min(int(sys.argv[1]), free * 9 // 10)
with suppress(OSError, ValueError):
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    for at in range(0, size, mmap.PAGESIZE):
        memory[at] = 1
"""


def touch_free(size: int) -> None:
    """Touch `size` bytes of free memory, or as much as may be had, so that the next to take them need not wait.

    The page cache is left alone.  LIMIT: not that of a container which may have less memory than the machine has free.
    """
    tools.run_tool(sys.executable, "-c", _TOUCH, str(size), good=(0, -signal.SIGKILL))
