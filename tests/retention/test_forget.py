"""Forgetting among others that forget, kills and power cuts: all of a change is made or nothing of it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ntxengine.errors import NotFoundError, RepositoryError
from ntxengine.files import durable
from ntxengine.repository import Hold, Point, Repository, Retention, retention_file
from ntxengine.repository.store import PointStore
from ntxengine.retention import Policy, bring_back, forget_by_policy, forget_points
from tests.repository.builders import DISK, OTHER_VM, VM, Clock, ModelDisk, Write, begin, fill_disk, record_of
from tests.repository.killed_capture import Fuse
from tests.support.power import PoweredDisk

SIZE = 65536
NOW = datetime(2026, 12, 24, tzinfo=UTC)
ROUNDS = int(os.environ.get("NTX_CUT_ROUNDS", "5"))
SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))
ROOT = Path(__file__).resolve().parents[2]
STRIDE = 5
STEPS = 210
"""About what the changes of `change_all` have."""
OPERATIONS = ("open", "write", "fsync", "rename", "replace", "unlink", "close", "lstat", "fstat")


def make_points(store: PointStore, clock: Clock, count: int, *, vm_id: str = VM) -> list[Point]:
    """One a day, on top of each other."""
    made = []
    for number in range(count):
        with begin(store, vm_id, store.newest(vm_id)) as unfinished:
            disk = fill_disk(unfinished, DISK, ModelDisk(SIZE), [Write(0, 512, number + 1)], "scsi.0")
            made.append(unfinished.commit(replace(record_of(unfinished, [disk]), created_at=clock.now)))
        clock.advance(86400)
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> PointStore:
    return PointStore.create(tmp_path / "a repository", clock=clock)


async def test_two_that_forget_at_once_do_not_take_all_together(store: PointStore, clock: Clock) -> None:
    for round_number in range(5):
        points = make_points(store, clock, 3)
        await forget_points(Repository(store), [each.id for each in store.points(VM) if each not in points])
        middle = points[1].id
        retention_file.change(store.path / VM, lambda said, middle=middle: said.tag(middle, ["x"]))  # type: ignore[misc]
        opened = [await Repository.open(store.path) for _ in range(2)]

        last, tagged = await asyncio.gather(
            forget_by_policy(opened[0], VM, Policy(last=1)), forget_by_policy(opened[1], VM, Policy(tags=("x",)))
        )

        listed = [point.id for point in store.points(VM)]
        assert points[2].id in listed, round_number
        gone = [each.point_id for decided in (last, tagged) for each in decided.forgotten]
        assert len(gone) == len(set(gone))  # none is forgotten by both
        assert set(listed) | set(gone) == {point.id for point in points}


async def test_a_hold_that_comes_first_wins_and_one_that_comes_too_late_is_told(
    store: PointStore, clock: Clock
) -> None:
    first, second = make_points(store, clock, 2)
    repository = Repository(store)
    change = repository.change_retention

    async def held_meanwhile(vm_id: str, decide: Callable[[Retention], Retention]) -> Retention:
        """Do what another process does after this one has looked."""
        await change(vm_id, lambda said: said.hold(first.id, Hold()))
        return await change(vm_id, decide)

    repository.change_retention = held_meanwhile  # type: ignore[method-assign]
    decided = await forget_by_policy(repository, VM, Policy(last=1))

    assert decided.forgotten == []
    assert decided.points[0].reasons == ("held until it is released",)
    with pytest.raises(RepositoryError, match="is held until it is released"):
        await forget_points(repository, [first.id])
    await forget_points(Repository(store), [second.id])
    with pytest.raises(RepositoryError, match="is forgotten"):
        await change(VM, lambda said: said.hold(second.id, Hold()))


async def test_a_vm_that_is_not_there_is_not_found_and_one_without_points_has_none(store: PointStore) -> None:
    repository = Repository(store)
    (store.path / OTHER_VM).mkdir()

    for dry_run in (True, False):
        with pytest.raises(NotFoundError, match="no folder of VM"):
            await forget_by_policy(repository, VM, Policy(last=1), dry_run=dry_run)
        assert (await forget_by_policy(repository, OTHER_VM, Policy(last=1), dry_run=dry_run)).points == ()
    with pytest.raises(NotFoundError, match="is not there"):
        await repository.change_retention(VM, lambda said: said)


async def test_a_point_that_was_removed_is_not_brought_back(store: PointStore, clock: Clock) -> None:
    first, _ = make_points(store, clock, 2)
    repository = Repository(store)
    await forget_points(repository, [first.id])
    first.path.rename(store.path / "elsewhere")

    with pytest.raises(Exception, match="no point"):
        await bring_back(repository, [first.id])

    assert retention_file.drop_gone(store.path / VM) == [first.id]


async def test_a_clock_says_when_a_hold_is_over(store: PointStore, clock: Clock) -> None:
    first, _ = make_points(store, clock, 2)
    repository = Repository(store)
    await repository.change_retention(VM, lambda said: said.hold(first.id, Hold(NOW)))

    held = await forget_by_policy(repository, VM, Policy(last=1), clock=lambda: NOW - timedelta(seconds=1))
    over = await forget_by_policy(repository, VM, Policy(last=1), clock=lambda: NOW)

    assert held.forgotten == []
    assert [each.point_id for each in over.forgotten] == [first.id]
    assert (await repository.retention(VM)).of(first.id).forgotten_at == NOW


# -------------------------------------------------------------------------------------------------- kills, power cuts


async def change_all(path: Path) -> None:
    """Forget by rules in two VMs, and tag, hold, forget by id and bring back in the first."""
    repository = await Repository.open(path)
    for vm_id in (VM, OTHER_VM):
        await forget_by_policy(repository, vm_id, Policy(last=2), clock=lambda: NOW)
    first, second, third, fourth = (point.id for point in await repository.points(VM, with_forgotten=True))
    await repository.change_retention(VM, lambda said: said.tag(third, ["x"]).hold(third, Hold()))
    await forget_points(repository, [fourth], clock=lambda: NOW)
    await bring_back(repository, [first])
    assert (await repository.retention(VM)).forgotten == {second, fourth}


class Lit(Fuse):
    """Burns only while something is changed: nothing that only reads can break anything."""

    is_lit = False

    def burn(self) -> None:
        if self.is_lit:
            super().burn()

    def lit(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def burning(*args: Any) -> Any:
            self.is_lit = True
            try:
                return function(*args)
            finally:
                self.is_lit = False

        return burning


def change_and_die(path: Path, steps: int) -> None:
    """Run in a process of its own."""
    fuse = Lit(steps)
    for name in OPERATIONS:
        setattr(os, name, fuse.around(getattr(os, name)))
    for name in ("write_file", "replace_file", "remove_file", "sync_folder"):
        setattr(durable, name, fuse.around(getattr(durable, name)))
    retention_file.change = fuse.lit(retention_file.change)
    asyncio.run(change_all(path))


def said_of(path: Path) -> list[tuple[list[str], list[str], bool]]:
    """Return of each VM what is forgotten, and the tags and the hold of its third point."""
    found = []
    for vm_id in (VM, OTHER_VM):
        said = retention_file.read(path / vm_id)
        third = sorted(each.name for each in (path / vm_id).glob("2*"))[2]
        found.append((sorted(said.forgotten), list(said.of(third).tags), said.is_held(third, NOW)))
    return found


def make_two_vms(store: PointStore, clock: Clock) -> None:
    for vm_id in (VM, OTHER_VM):
        make_points(store, clock, 4, vm_id=vm_id)


def test_what_is_killed_at_any_step_is_said_of_a_vm_or_is_not_and_the_next_run_ends_it(
    store: PointStore, clock: Clock
) -> None:
    make_two_vms(store, clock)
    context, seen = multiprocessing.get_context("fork"), []
    before = [store.path / vm_id / "retention.json" for vm_id in (VM, OTHER_VM)]

    for steps in range(0, 4000, STRIDE):
        child = context.Process(target=change_and_die, args=(store.path, steps))
        child.start()
        child.join()

        assert child.exitcode in (0, -signal.SIGKILL)
        found = said_of(store.path)
        if found not in seen:
            seen.append(found)
        assert len(store.points(with_forgotten=True)) == 8
        asyncio.run(change_all(store.path))  # the next run is in nobody's way
        assert not [name for vm_id in (VM, OTHER_VM) for name in os.listdir(store.path / vm_id) if ".retention" in name]
        final = said_of(store.path)
        for path in before:
            path.unlink(missing_ok=True)
        if child.exitcode == 0:
            break

    assert child.exitcode == 0
    assert seen[0] == [([], [], False)] * 2
    assert seen[-1] == final
    assert 4 <= len(seen) <= 6  # of the five changes each is seen, or nearly


def change_until(disk: PoweredDisk, steps: int) -> int:
    script = (
        "import sys; from pathlib import Path; from tests.retention.test_forget import change_and_die; "
        "change_and_die(Path(sys.argv[1]), int(sys.argv[2]))"
    )
    return subprocess.run(
        [sys.executable, "-c", script, disk.path / "repo", str(steps)],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    ).returncode


def test_what_was_said_is_said_after_the_power_was_cut_at_any_step(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    for number, steps in enumerate([10**6, *(chance.randrange(STEPS) for _ in range(ROUNDS - 1))]):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk = PoweredDisk(folder)
        try:
            path = disk.path / "repo"
            make_two_vms(PointStore.create(path, clock=Clock()), Clock())
            disk.sync()
            status = change_until(disk, steps)
            assert status in (0, -signal.SIGKILL)

            disk.cut()

            found = said_of(path)
            if status == 0:
                assert [len(forgotten) for forgotten, _, _ in found] == [2, 2]
                assert found[0][1:] == (["x"], True)
            assert len(PointStore.open(path).points(with_forgotten=True)) == 8
            assert change_until(disk, 10**6) == 0
        finally:
            disk.close()
