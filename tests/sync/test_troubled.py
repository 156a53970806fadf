"""A sync is killed, or fails, at any change of a file there or here: what is there is right, and the next one ends it.

Some of the changes in `make test`; `make soak` sets NTX_EVERY_FAULT=1 for each of them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.errors import NtxError
from ntxengine.images.choice import ImageOptions
from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from ntxengine.sync import SyncReport, sync
from tests.prune.building import History, check_everything
from tests.prune.test_killed import KILLS, PARTS, chosen
from tests.repository.builders import VM, Clock
from tests.support import faulty
from tests.support.faulty import FaultyDisk, Plan
from tests.support.forked import fork_server

pytestmark = pytest.mark.slow

POINTS = 3


class Trial:
    """Two repositories on one such file system: the other has the first of three points, and gets the others."""

    def __init__(self, disk: FaultyDisk, history: History, there: History) -> None:
        self.disk, self.history, self.there = disk, history, there
        history.capture()
        assert synced(history.store.path, there.store.path).vms[0].problems == []
        history.images = (ImageOptions(), ImageOptions(zstd_level=1))
        for _ in range(POINTS - 1):
            history.capture()
        self.before = {name: store.path for name, store in (("here", history.store), ("there", there.store))}

    def path(self, name: str) -> Path:
        return self.disk.path / name

    def begin(self) -> None:
        self.disk.plan.rest()
        for name, path in self.before.items():
            shutil.rmtree(self.disk.folder / name, ignore_errors=True)
            shutil.copytree(path, self.disk.folder / name)
        self.disk.settle()

    def sync(self) -> SyncReport:
        return synced(self.path("here"), self.path("there"))

    def check(self, *, is_over: bool) -> None:
        """Check what is there; here nothing changes."""
        self.disk.plan.rest()
        self.disk.settle()
        folder = self.disk.folder
        there = dataclasses.replace(self.there, store=PointStore.open(folder / "there"), held=self.history.held)
        check_everything(there, folder.parent, points=POINTS if is_over else None, by_us=not is_over)
        assert there.store.points(VM)[0].id == self.history.points[0].id
        if is_over:
            ids = [point.id for point in self.history.points]
            assert sorted(each.name for each in (folder / "there" / VM).iterdir()) == [".lock", *ids]
            here = dataclasses.replace(self.history, store=PointStore.open(folder / "here"))
            check_everything(here, folder.parent, points=POINTS, by_us=True)


def synced(here: Path, there: Path) -> SyncReport:
    first, second = Repository(PointStore.open(here)), Repository(PointStore.open(there))
    return asyncio.run(sync(first, second, [VM]))


def die(here: Path, there: Path, plan: Path, bad: int, what: int) -> None:
    """Sync in this process, which is killed at a change."""
    Plan(plan).begin(bad, what, pid=os.getpid())
    synced(here, there)


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    clock = Clock()
    history = History(PointStore.create(tmp_path / "a repository", clock=clock), clock, random.Random(11))
    there = dataclasses.replace(history, store=PointStore.create(tmp_path / "another", clock=clock), held=history.held)
    with FaultyDisk(tmp_path) as disk:
        yield Trial(disk, history, there)


def changes_of(trial: Trial) -> int:
    """Return how many changes a sync makes, when all goes well."""
    trial.begin()
    trial.disk.plan.begin(1 << 40, faulty.FAILS)
    assert trial.sync().vms[0].problems == []
    changes = trial.disk.plan.seen
    trial.check(is_over=True)
    return changes


@pytest.mark.parametrize("part", PARTS)
def test_a_sync_that_is_killed_anywhere_leaves_what_is_right_and_the_next_one_ends_it(trial: Trial, part: int) -> None:
    for index, number in enumerate(chosen(changes_of(trial), part)):
        trial.begin()
        what = KILLS[(number + index) % len(KILLS)]
        arguments = (trial.path("here"), trial.path("there"), trial.disk.plan_path, number, what)
        process = fork_server().Process(target=die, args=arguments)

        process.start()
        process.join()

        assert (process.exitcode != 0) == trial.disk.plan.has_happened
        trial.check(is_over=False)
        assert trial.sync().vms[0].problems == []
        trial.check(is_over=True)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("what", [faulty.FAILS, faulty.IS_SHORT], ids=["fails", "is short"])
def test_a_sync_that_fails_anywhere_leaves_what_is_right_and_the_next_one_ends_it(
    trial: Trial, code: int, what: int, part: int
) -> None:
    for number in chosen(changes_of(trial), part):
        trial.begin()
        trial.disk.plan.begin(number, what, code)

        try:
            problems = trial.sync().vms[0].problems
        except NtxError as error:
            problems = [str(error)]

        assert all("\n" not in problem for problem in problems)
        trial.check(is_over=False)
        assert trial.sync().vms[0].problems == []
        trial.check(is_over=True)
