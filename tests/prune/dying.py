"""A prune in a process of its own, which a faulty file system kills."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from multiprocessing.context import ForkServerContext
from pathlib import Path

from ntxengine.prune import PruneOptions, PruneReport, prune
from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from tests.repository.builders import VM
from tests.support.faulty import Plan


def prune_at(path: Path) -> PruneReport:
    """Prune the VM of a repository, whatever it frees."""
    repository = Repository(PointStore.open(path))
    return asyncio.run(prune(repository, [VM], options=PruneOptions(max_waste=0)))


def processes() -> ForkServerContext:
    """Return what makes processes that have all of this loaded already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def die(path: Path, plan: Path, bad: int, what: int) -> None:
    """Prune in this process, which is killed at a change."""
    Plan(plan).begin(bad, what, pid=os.getpid())
    prune_at(path)
