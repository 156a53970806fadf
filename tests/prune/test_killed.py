"""A prune is killed, or fails, at any change of a file: what stays reads as it was captured, and the next one ends it.

Some of the changes in `make test`; `make soak` sets NTX_EVERY_FAULT=1 for each of them.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.repository import layout, removal
from ntxengine.repository.store import PointStore
from tests.prune import dying
from tests.prune.building import History, check_everything
from tests.repository.builders import VM
from tests.support import faulty
from tests.support.faulty import FaultyDisk
from tests.support.forked import fork_server

pytestmark = pytest.mark.slow

IS_LONG = bool(os.environ.get("NTX_EVERY_FAULT"))
FEW = 4
"""Changes at which it is killed in the short form."""

PARTS = range(16 if IS_LONG else 1)
"""All changes take more than an hour: in parts, a run that is ended has passed some, and several run side by side."""

KILLS = [faulty.KILLS_BEFORE, faulty.KILLS_WITHIN, faulty.KILLS_BEHIND]


class Trial:
    """A VM of which some points are forgotten, to be pruned again and again from the same state."""

    def __init__(self, disk: FaultyDisk, history: History) -> None:
        self.disk = disk
        self.history = history
        points = [history.capture() for _ in range(6)]
        self.stays = [points[index].id for index in (2, 4, 5)]
        history.forget([points[index].id for index in (0, 1, 3)])
        self.before = disk.folder.parent / "before"
        shutil.copytree(history.store.path, self.before)
        self.path = disk.path / "repo"
        self.folder = disk.folder / "repo"

    def begin(self) -> None:
        self.disk.plan.rest()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.before, self.folder)
        self.disk.settle()

    def check(self, *, is_over: bool) -> None:
        self.disk.plan.rest()
        self.disk.settle()
        self.history.store = PointStore.open(self.folder)
        there = [point.id for point in self.history.store.points(VM, with_forgotten=True)]
        assert set(self.stays) <= set(there)
        assert there == self.stays or not is_over
        check_everything(self.history, self.disk.folder.parent, with_forgotten=True, is_over=is_over)
        if is_over:
            assert [path for point in self.history.store.points(VM) for path in removal.unused_images(point)] == []
            # The lock of tags stays after the death of its holder, until the next who takes it.
            names = {each.name for each in (self.folder / VM).iterdir()} - {layout.RETENTION_LOCK_FILE}
            assert names == {layout.LOCK_FILE, *there}

    def kill_at(self, number: int, what: int) -> bool:
        """Prune in a process that is killed at a change; return whether it came that far."""
        process = fork_server().Process(target=dying.die, args=(self.path, self.disk.plan_path, number, what))
        process.start()
        process.join()
        is_killed = self.disk.plan.has_happened
        assert (process.exitcode != 0) == is_killed
        return is_killed


@pytest.fixture
def trial(tmp_path: Path, history: History) -> Iterator[Trial]:
    with FaultyDisk(tmp_path) as disk:
        yield Trial(disk, history)


def changes_of(trial: Trial) -> int:
    """Return how many changes a prune makes, when all goes well."""
    trial.begin()
    trial.disk.plan.begin(1 << 40, faulty.FAILS)
    dying.prune_at(trial.path)
    changes = trial.disk.plan.seen
    trial.check(is_over=True)
    return changes


def chosen(changes: int, part: int) -> range | list[int]:
    if IS_LONG:
        return range(part, changes, len(PARTS))
    return sorted(random.Random(3).sample(range(changes), FEW))


@pytest.mark.parametrize("part", PARTS)
def test_a_prune_that_is_killed_anywhere_loses_nothing_and_the_next_one_ends_it(trial: Trial, part: int) -> None:
    for index, number in enumerate(chosen(changes_of(trial), part)):
        trial.begin()

        trial.kill_at(number, KILLS[(number + index) % len(KILLS)])

        trial.check(is_over=False)
        dying.prune_at(trial.path)
        trial.check(is_over=True)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
def test_a_prune_that_fails_anywhere_loses_nothing_and_the_next_one_ends_it(trial: Trial, code: int, part: int) -> None:
    for number in chosen(changes_of(trial), part):
        trial.begin()
        trial.disk.plan.begin(number, faulty.FAILS, code)

        report = dying.prune_at(trial.path)

        assert all("\n" not in problem for problem in report.vms[0].problems)
        trial.check(is_over=False)
        dying.prune_at(trial.path)
        trial.check(is_over=True)
