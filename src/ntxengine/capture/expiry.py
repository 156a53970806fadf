"""Letting the cluster keep a recovery point while it is worked with, however long that takes.

expires |----------------------------|          half of what is left has passed: it is kept for a whole
                      extended ^                lifetime again, and whoever would go on is told until when
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from ntxengine.errors import NotFoundError, NtxError, PrismError
from ntxengine.prism.cluster import RecoveryPoints
from ntxengine.prism.models import RecoveryPoint
from ntxengine.units import format_time, utc_now

log = logging.getLogger(__name__)

SHORTEST_WAIT = timedelta(minutes=1)
"""Between two attempts, also where little or nothing is left."""


@dataclass(frozen=True)
class Clock:
    """`now` tells the time of day, `sleep` waits seconds."""

    now: Callable[[], datetime] = utc_now
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@asynccontextmanager
async def kept_by_cluster(
    prism: RecoveryPoints,
    point: RecoveryPoint,
    *,
    until: datetime,
    lifetime: timedelta,
    extended: Callable[[datetime], Awaitable[None]],
    warn: Callable[[str], None],
    clock: Clock | None = None,
) -> AsyncIterator[None]:
    """Extend the expiry of a recovery point, which is at `until` now, again and again.

    `extended` is told of each new one.  That it cannot be extended is a warning, once, and tried again.
    Errors: what `extended` and `warn` raise, but for NtxError.
    """
    extending = asyncio.create_task(_extend(prism, point, until, lifetime, extended, warn, clock or Clock()))
    try:
        yield
    finally:
        extending.cancel()
        await asyncio.wait([extending])
        failure = None if extending.cancelled() else extending.exception()
    if failure is not None:
        raise failure


async def _extend(
    prism: RecoveryPoints,
    point: RecoveryPoint,
    until: datetime,
    lifetime: timedelta,
    extended: Callable[[datetime], Awaitable[None]],
    warn: Callable[[str], None],
    clock: Clock,
) -> None:
    has_warned = False
    while True:
        wait = max(SHORTEST_WAIT, (until - clock.now()) / 2)
        await clock.sleep(wait.total_seconds())
        wanted = clock.now() + lifetime
        try:
            await prism.extend_recovery_point(point, wanted)
        except (PrismError, NotFoundError) as error:
            if not has_warned:
                warn(
                    f"recovery point {point.id} is kept until {format_time(until)} only, and that cannot be changed "
                    f"now: {error}; it is tried again, and what is not copied by then is lost"
                )
            has_warned = True
            continue
        until, has_warned = wanted, False
        log.info("recovery point %s is kept until %s now", point.id, format_time(until))
        try:
            await extended(until)
        except NtxError as error:
            log.warning("that recovery point %s is kept longer was not written down: %s", point.id, error)
