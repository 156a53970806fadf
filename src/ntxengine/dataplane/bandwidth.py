"""How much may be read in a second by all copies together: one limit, whose rate follows a timetable."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from ntxengine._core.limiter import Limiter
from ntxengine.dataplane.timetable import Timetable, always, parse_timetable

_LOOK_INTERVAL_S = 1.0

Rate = int | str | Timetable
"""Bytes per second, 0 for no limit; or what `500M` or `08:00,50M 19:00,off` means."""


class Bandwidth:
    """One limit, which all copies that have it share.

    Whoever copies calls `keep` now and then: so the rate follows the timetable while there is a copy, and nothing has
    to be ended after it.  `wall` tells the local time, `clock` seconds.
    Errors: OptionsError.
    """

    def __init__(
        self,
        rate: Rate,
        *,
        wall: Callable[[], datetime] = datetime.now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if isinstance(rate, str):
            rate = parse_timetable(rate)
        self.timetable = always(rate) if isinstance(rate, int) else rate
        self._wall = wall
        self._clock = clock
        self._looked_at = clock()
        self.rate = self.timetable.rate_at(wall())
        self.limiter = Limiter(self.rate)

    def keep(self) -> None:
        """Set the rate of this time of the day."""
        now = self._clock()
        if len(self.timetable.periods) == 1 or now < self._looked_at + _LOOK_INTERVAL_S:
            return
        self._looked_at = now
        rate = self.timetable.rate_at(self._wall())
        if rate != self.rate:
            self.rate = rate
            self.limiter.set_rate(rate)

    def __repr__(self) -> str:
        return f"Bandwidth({self.timetable})"
