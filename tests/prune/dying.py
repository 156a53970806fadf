"""A prune, or a sync, in a process of its own, which is killed or loses its file system."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from ntxengine.prune import PruneOptions, PruneReport, prune
from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from ntxengine.sync import SyncReport, sync
from tests.repository.builders import VM
from tests.support.faulty import Plan


def prune_at(path: Path) -> PruneReport:
    """Prune the VM of a repository, whatever it frees."""
    repository = Repository(PointStore.open(path))
    return asyncio.run(prune(repository, [VM], options=PruneOptions(max_waste=0)))


def sync_to(path: Path, other: Path) -> SyncReport:
    """Write the points of one repository into another."""
    here, there = Repository(PointStore.open(path)), Repository(PointStore.open(other))
    report = asyncio.run(sync(here, there, [VM]))
    assert report.vms[0].problems == [], report.vms[0].problems
    return report


def die(path: Path, plan: Path, bad: int, what: int) -> None:
    """Prune in this process, which is killed at a change."""
    Plan(plan).begin(bad, what, pid=os.getpid())
    prune_at(path)
