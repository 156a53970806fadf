"""How much all copies together may read in a second, and take of this machine: limits that they share.

The rate follows a timetable.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from ntxengine._core.limiter import Limiter
from ntxengine.dataplane import cpu
from ntxengine.dataplane.memory import MemoryBudget
from ntxengine.dataplane.timetable import Timetable, always, parse_timetable
from ntxengine.errors import OptionsError

_LOOK_INTERVAL_S = 1.0

Rate = int | str | Timetable
"""Bytes per second, 0 for no limit; or what `500M` or `08:00,50M 19:00,off` means."""


class Bandwidth:
    """One limit, which all copies that have it share.

    `cpu_limit`: the part of all processors of this machine, 0..1, that this process and those that it starts may take
    while they copy; 0: no limit.  It holds over a minute, and not within each second.
    `memory_limit`: bytes that buffers and tables of all these copies may take together; 0: no limit.  A MemoryBudget
    may be that of other limits too; `memory` is what they reserve from.
    Whoever copies calls `keep` now and then: so the rate follows the timetable while there is a copy, and nothing has
    to be ended after it.  `wall` tells the local time, `clock` seconds.
    Errors: OptionsError.
    """

    def __init__(
        self,
        rate: Rate,
        *,
        cpu_limit: float = 0.0,
        memory_limit: int | MemoryBudget = 0,
        wall: Callable[[], datetime] = datetime.now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timetable = _timetable_of(rate)
        self._wall = wall
        self._clock = clock
        self._looked_at = clock()
        self.rate = self.timetable.rate_at(wall())
        self.limiter = Limiter(self.rate)
        self.cpu_limit = 0.0
        self.limit_cpu(cpu_limit)
        self.memory = MemoryBudget(memory_limit) if isinstance(memory_limit, int) else memory_limit

    def change(self, rate: Rate) -> None:
        """Change the rate, also while there are copies.  Errors: OptionsError."""
        self.timetable = _timetable_of(rate)
        self._set_rate()

    def limit_cpu(self, part: float) -> None:
        """Change the limit of the processor time, also while there are copies.  Errors: OptionsError."""
        if not 0 <= part <= 1:
            raise OptionsError(f"CPU limit {part}: a part of this machine between 0 and 1")
        self.cpu_limit = part
        self._tell_children()
        self.limiter.set_cpu_share(cpu.share_ppm(part))

    def keep(self) -> None:
        """Set the rate of this time of the day, and look what our processes have taken."""
        now = self._clock()
        if now < self._looked_at + _LOOK_INTERVAL_S:
            return
        self._looked_at = now
        self._tell_children()
        self._set_rate()

    def _set_rate(self) -> None:
        rate = self.timetable.rate_at(self._wall())
        if rate != self.rate:
            self.rate = rate
            self.limiter.set_rate(rate)

    def _tell_children(self) -> None:
        if self.cpu_limit:
            self.limiter.tell_others_cpu(cpu.children_ns())

    def __repr__(self) -> str:
        cpu_limit = f", cpu_limit={self.cpu_limit:g}" if self.cpu_limit else ""
        memory_limit = f", memory_limit={self.memory.limit}" if self.memory.limit else ""
        return f"Bandwidth({self.timetable}{cpu_limit}{memory_limit})"


def _timetable_of(rate: Rate) -> Timetable:
    if isinstance(rate, str):
        return parse_timetable(rate)
    return always(rate) if isinstance(rate, int) else rate
