"""A check beside captures and prunes of the same VM: what they make, replace and remove meanwhile is no damage."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from ntxengine.check import DataOptions, check_repository
from ntxengine.images.choice import ImageOptions
from ntxengine.prune import PruneOptions, prune
from ntxengine.repository import Finding, Repository, Severity
from ntxengine.repository.store import PointStore
from tests.prune.building import History
from tests.repository.builders import VM, Clock

ROUNDS, CHECKS = 4, 3
"""At least: on a slow machine there are more rounds, until that many checks have ended among them."""


async def test_what_changes_while_it_is_looked_at_is_no_damage(tmp_path: Path) -> None:
    clock = Clock()
    store = PointStore.create(tmp_path / "repo of a VM", clock=clock)
    history = History(store, clock, random.Random(3), images=(ImageOptions(),))
    for _ in range(3):
        await asyncio.to_thread(history.capture)
    done = asyncio.Event()
    damage: list[Finding] = []
    checks = 0

    async def keep_checking() -> None:
        nonlocal checks
        while not done.is_set():
            report = await check_repository(store.path, data=DataOptions() if checks % 2 else None)
            damage.extend(report.of(Severity.DAMAGE))
            checks += 1

    async with asyncio.TaskGroup() as group:
        group.create_task(keep_checking())
        rounds = 0
        while rounds < ROUNDS or checks < CHECKS:
            rounds += 1
            await asyncio.to_thread(history.capture)
            listed = [point.id for point in store.points(VM)]
            history.forget(listed[:-3])
            report = await prune(Repository(store), [VM], options=PruneOptions(max_waste=0))
            assert report.vms[0].problems == []
        done.set()

    assert damage == []
    last = await check_repository(store.path, data=DataOptions())
    assert [each.kind for each in last.of(Severity.DAMAGE)] == []
