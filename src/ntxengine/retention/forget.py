"""Forgetting points: those that a policy does not keep, or those that a person names.

What is decided is decided on what is said of the points while nobody else changes that (Repository.change_retention):
two that forget at once do not take, each for reasons of its own, all that there is.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ntxengine.errors import NotFoundError, RepositoryError
from ntxengine.repository import Health, Point, Repository, Retention
from ntxengine.retention.policy import Candidate, Policy, decide
from ntxengine.units import utc_now

log = logging.getLogger(__name__)

_FIRST_YEAR, _LAST_YEAR = 1970, 9998  # so that a point is somewhere in the calendar of every time zone
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class PointDecision:
    """A point that was not forgotten before, and why it stays; it is forgotten if there is no reason.

    `point` is None where point.json cannot be read.
    """

    point_id: str
    point: Point | None
    reasons: tuple[str, ...]

    @property
    def stays(self) -> bool:
        return bool(self.reasons)


@dataclass(frozen=True)
class VmDecision:
    """What is forgotten of a VM, in the order of its points; done, unless it was a dry run."""

    vm_id: str
    vm_name: str
    points: tuple[PointDecision, ...]

    @property
    def forgotten(self) -> list[PointDecision]:
        return [each for each in self.points if not each.stays]


@dataclass(frozen=True)
class Forgotten:
    """A point that was named, and is forgotten: since before if `was_forgotten`."""

    point_id: str
    vm_id: str
    was_forgotten: bool


async def forget_by_policy(
    repository: Repository,
    vm_id: str,
    policy: Policy,
    *,
    dry_run: bool = False,
    clock: Callable[[], datetime] = utc_now,
) -> VmDecision:
    """Forget the points of a VM that nothing keeps.  A point is whole here if names and headers say so (`Health`).

    Errors: NotFoundError (no such VM); RepositoryError (what is forgotten, held or distrusted cannot be read; nothing
            is forgotten then); LockedError, TargetError.
    """
    health = await repository.health(vm_id, from_catalog=False)
    for error in (*health.unknown_retention.values(), *health.unknown_distrust.values()):
        raise RepositoryError(f"{error}; nothing of VM {vm_id} is forgotten")
    for folder, error in health.unreadable.items():
        if folder.name == vm_id:
            raise RepositoryError(str(error))
    every = (*health.points, *health.forgotten)
    if not every and not health.unreadable and vm_id.lower() not in await repository.vm_ids():
        raise NotFoundError(f"{repository.path}: has no folder of VM {vm_id}")
    now = clock()
    decided: list[PointDecision] = []

    def change(said: Retention) -> Retention:
        decided[:] = _decide(health, said, policy, now)
        return said.forget([each.point_id for each in decided if not each.stays], now)

    if dry_run:
        change(await repository.retention(vm_id))
    else:
        await repository.change_retention(vm_id, change)
        for each in decided:
            if not each.stays:
                log.info("point %s: forgotten", each.point_id)
    name = max(every, key=lambda point: point.id).vm_name if every else vm_id
    return VmDecision(vm_id, name, tuple(decided))


def _decide(health: Health, said: Retention, policy: Policy, now: datetime) -> list[PointDecision]:
    """Return what goes and what stays of the points that are not forgotten by now, oldest first."""
    found: dict[str, Point | None] = {point.id: point for point in health.points}
    found.update({folder.name: None for folder in health.unreadable})
    candidates = [
        Candidate(
            point_id,
            _NEVER if point is None else point.created_at,
            said.of(point_id).tags,
            said.of(point_id).hold,
            "damaged" if point is None else _problem(health, point),
        )
        for point_id, point in sorted(found.items())
        if not said.is_forgotten(point_id)
    ]
    return [
        PointDecision(each.point_id, found[each.point_id], each.reasons) for each in decide(policy, candidates, now)
    ]


def _problem(health: Health, point: Point) -> str:
    """Return why no rule counts a point, "" if rules do."""
    if health.problem(point) or not _FIRST_YEAR <= point.created_at.year <= _LAST_YEAR:
        return "damaged"
    return "tracking distrusted" if health.distrusted.get(point.path) else ""


async def forget_points(
    repository: Repository,
    names: Sequence[str],
    *,
    dry_run: bool = False,
    clock: Callable[[], datetime] = utc_now,
) -> list[Forgotten]:
    """Forget points that are named by their ids, or the beginnings of those: also the last whole one, and damaged ones.

    Of each VM all of them or none, and nothing at all where one cannot be found, or is held before anything is changed.
    Errors: NotFoundError; RepositoryError (one is held; what is held cannot be read); LockedError, TargetError.
    """
    by_vm = await _by_vm(repository, names)
    now = clock()
    forgotten: list[Forgotten] = []
    for vm_id, point_ids in by_vm.items():
        said = await repository.retention(vm_id)
        said.forget(point_ids, now)
        forgotten += [Forgotten(each, vm_id, said.is_forgotten(each)) for each in point_ids]
    if not dry_run:
        for vm_id, point_ids in by_vm.items():
            await repository.change_retention(vm_id, lambda said, ids=point_ids: said.forget(ids, now))  # type: ignore[misc]
            log.info("points %s: forgotten", ", ".join(point_ids))
    return forgotten


async def bring_back(repository: Repository, names: Sequence[str], *, dry_run: bool = False) -> list[Forgotten]:
    """Forget points no more that are named by their whole ids, and were not pruned.

    Errors: NotFoundError; LockedError (a capture or a prune of the VM runs); RepositoryError, TargetError.
    """
    by_vm = await _by_vm(repository, names)
    found: list[Forgotten] = []
    for vm_id, point_ids in by_vm.items():
        if dry_run:
            said = await repository.retention(vm_id)
        else:
            said = await _bring_back(repository, vm_id, point_ids)
        found += [Forgotten(each, vm_id, said.is_forgotten(each)) for each in point_ids]
    return found


async def _bring_back(repository: Repository, vm_id: str, point_ids: Sequence[str]) -> Retention:
    """Return what was said before."""
    before: list[Retention] = []

    def change(said: Retention) -> Retention:
        before.append(said)
        return said.bring_back(point_ids)

    async with repository.lock(vm_id):
        for point_id in point_ids:
            await repository.find_folder(point_id)  # it may have been pruned before the lock was ours
        await repository.change_retention(vm_id, change)
    return before[0]


async def _by_vm(repository: Repository, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the ids of the points that are named, by VM, each once.  Errors: NotFoundError."""
    folders: list[Path] = [await repository.find_folder(name) for name in names]
    by_vm: defaultdict[str, list[str]] = defaultdict(list)
    for folder in dict.fromkeys(folders):
        by_vm[folder.parent.name].append(folder.name)
    return dict(by_vm)
