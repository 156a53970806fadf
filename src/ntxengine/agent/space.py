"""The space that our recovery points hold on the cluster, by storage container, against the share that it may be.

Prism tells it of a recovery point where it tells `totalExclusiveUsageBytes` (v4; recordings have it as null).  Where it
does not, it is estimated: a recovery point holds what its VM has overwritten since, which is its age times how fast the
VM changed between its last two points.  What neither tells is counted, with its age, and nothing is made up.

A recovery point is counted in the containers of its VM, in equal parts.  LIMIT: containers of one name on several
clusters are counted as one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ntxengine.agent.connection import Connection
from ntxengine.agent.jobs import JobVm
from ntxengine.agent.levels import Finding, Level
from ntxengine.errors import NtxError
from ntxengine.prism.models import Container, RecoveryPoint
from ntxengine.repository import NAME_PREFIX
from ntxengine.units import format_size, format_span

log = logging.getLogger(__name__)

INTERVAL_S = 3600.0
"""Between two looks: a call for each 100 recovery points, and one for containers, where they are not known."""

DEFAULT_LIMIT = 0.10


@dataclass(frozen=True)
class HeldSpace:
    """What recovery points hold in a storage container, "" for those whose container nobody knows.

    Units: bytes; `capacity` is None where Prism does not tell it.  `bytes_estimated` of `bytes_held` is an estimate;
    of `unknown` points nothing is known.
    """

    container: str
    points: int
    bytes_held: int
    bytes_estimated: int
    unknown: int
    oldest: timedelta
    capacity: int | None

    @property
    def share(self) -> float | None:
        """Of the container, 0..1; None if that cannot be said."""
        return self.bytes_held / self.capacity if self.capacity else None

    def __str__(self) -> str:
        kind = "about " if self.bytes_estimated else ""
        share = "" if self.share is None else f" ({100 * self.share:.1f} % of it)"
        more = f"; {self.unknown} of them tell nothing" if self.unknown else ""
        return (
            f"{self.points} recovery points of ntx hold {kind}{format_size(self.bytes_held)}{share}, the oldest for"
            f" {format_span(self.oldest)}{more}"
        )


def held_space(
    points: Iterable[RecoveryPoint],
    containers: Iterable[Container],
    vms: Mapping[str, JobVm],
    changes_per_s: Mapping[str, float],
    now: datetime,
) -> list[HeldSpace]:
    """Return what recovery points hold, by container: `vms` and how fast they change, in bytes, by VM id."""
    capacities: dict[str, int] = {}
    for each in containers:
        if each.capacity:
            capacities[each.name] = capacities.get(each.name, 0) + each.capacity
    found: dict[str, HeldSpace] = {}
    for point in points:
        age = max(timedelta(0), now - point.created_at) if point.created_at is not None else timedelta(0)
        names = dict.fromkeys(
            name for vm_id in sorted(point.held_vm_ids) if vm_id in vms for name in vms[vm_id].needs.containers
        )
        told, estimated = point.exclusive_bytes, None
        if told is None:
            rates = [changes_per_s[vm_id] for vm_id in point.held_vm_ids if vm_id in changes_per_s]
            estimated = int(sum(rates) * age.total_seconds()) if rates else None
        held = told if told is not None else estimated
        for name in names or ("",):
            part = 0 if held is None else held // max(1, len(names))
            before = found.get(name, HeldSpace(name, 0, 0, 0, 0, timedelta(0), capacities.get(name)))
            found[name] = HeldSpace(
                name,
                before.points + 1,
                before.bytes_held + part,
                before.bytes_estimated + (part if told is None else 0),
                before.unknown + (held is None),
                max(before.oldest, age),
                before.capacity,
            )
    return sorted(found.values(), key=lambda each: each.container)


Asked = Callable[[], Awaitable[tuple[Sequence[RecoveryPoint], Sequence[Container]]]]
"""Asks Prism for our recovery points and its containers.  Errors: NtxError."""


def asking(connection: Callable[[], Connection]) -> Asked:
    """Return what asks over the connection that there is then."""

    async def ask() -> tuple[Sequence[RecoveryPoint], Sequence[Container]]:
        async with connection().use() as cluster:
            points = await cluster.prism.recovery_points(name_prefix=NAME_PREFIX)
            return points, await cluster.prism.containers()

    return ask


class Space:
    """Keeps what was seen last, and says once what is too much."""

    def __init__(self) -> None:
        self.limit = DEFAULT_LIMIT
        self.held: Sequence[HeldSpace] = ()
        self._over: set[str] = set()

    async def look(
        self, ask: Asked, vms: Mapping[str, JobVm], changes_per_s: Mapping[str, float], now: datetime
    ) -> None:
        """Ask, and say what has changed.  Never raises NtxError: what was seen last holds."""
        try:
            points, containers = await ask()
        except NtxError as error:
            log.info("what recovery points hold cannot be asked for, again in %s s: %s", f"{INTERVAL_S:.0f}", error)
            return
        self.held = held_space(points, containers, vms, changes_per_s, now)
        over = {each.container for each in self._too_much()}
        for each in self.held:
            if each.container in over - self._over:
                log.warning("storage container %r: %s; more than %s", each.container, each, self._limit)
            elif each.container in self._over - over:
                log.warning("storage container %r: %s; %s is kept again", each.container, each, self._limit)
        self._over = over

    def findings(self) -> list[Finding]:
        """Return what is too much, as of the last look."""
        return [
            Finding(
                Level.CRITICAL if (each.share or 0.0) > 2 * self.limit else Level.WARNING,
                f"storage container {each.container}",
                f"{each}; more than {self._limit} (agent.recovery_point_limit)",
            )
            for each in self._too_much()
        ]

    def _too_much(self) -> list[HeldSpace]:
        return [each for each in self.held if each.share is not None and each.share > self.limit]

    @property
    def _limit(self) -> str:
        return f"{100 * self.limit:g} %"
