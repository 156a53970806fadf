"""How much of a repository is looked at for one VM, however many others it holds: counted, not timed."""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ntxengine.agent.repositories import Repositories
from ntxengine.prune import PruneOptions, prune
from ntxengine.repository import Point
from ntxengine.repository.store import PointStore
from ntxengine.retention import Policy, forget_by_policy
from ntxengine.units import BLOCK_SIZE
from tests.repository.builders import DISK, VM, ModelDisk, Write, begin, fill_disk, record_of

FEW, MANY = 2, 40


class Looks:
    """What is opened and listed below a folder, and the steps of SQLite, while it counts."""

    def __init__(self) -> None:
        self._below = ""
        self.found: Counter[str] = Counter()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        is_look = self._below and event in ("open", "os.listdir", "os.scandir")
        if is_look and str(arguments[0]).startswith(self._below):
            self.found[event] += 1

    def connect(self, *arguments: Any, **more: Any) -> sqlite3.Connection:
        connection = _connect(*arguments, **more)
        connection.set_progress_handler(self._step, 1)
        return connection

    def _step(self) -> int:
        self.found["step"] += 1
        return 0

    @contextmanager
    def below(self, folder: Path) -> Iterator[Counter[str]]:
        self.found = Counter()
        self._below = str(folder)
        try:
            yield self.found
        finally:
            self._below = ""


LOOKS = Looks()
_connect = sqlite3.connect


@pytest.fixture(scope="module", autouse=True)
def hooked() -> None:
    sys.addaudithook(LOOKS)  # for good: it does nothing but within Looks.below


class Known:
    """Nothing is known of repositories: this one is there."""

    def repository_id(self, path: str) -> str:
        return ""

    def is_being_made(self, path: str) -> bool:
        return False

    def know_repository(self, path: str, repository_id: str) -> None:
        pass


def add_point(store: PointStore, vm_id: str, parent: Point | None) -> Point:
    model = ModelDisk(BLOCK_SIZE)
    with begin(store, vm_id, parent) as unfinished:
        disk = fill_disk(unfinished, DISK, model, [Write(0, BLOCK_SIZE, 1)], "scsi.0", is_full=True)
        return unfinished.commit(record_of(unfinished, [disk]))


def filled(path: Path, others: int) -> None:
    """Make a repository with two points of VM, and one of so many others."""
    store = PointStore.create(path)
    for number in range(others):
        add_point(store, f"{VM[:-4]}{number:04d}", None)
    add_point(store, VM, add_point(store, VM, None))
    store.points()  # the catalog has all of them


async def looks_of_a_run(path: Path) -> Counter[str]:
    """Do with the repository what a run of the agent does, and count."""
    with LOOKS.below(path) as found:
        repository = await Repositories(Known()).open(path)
        async with repository.lock(VM):
            assert await repository.interrupted(VM) == []
            newest = await repository.newest(VM)
        assert newest is not None
        assert len((await repository.health(VM)).points) == 2
        assert len(await repository.points(VM)) == 2
        add_point(repository._store, VM, newest)
        decision = await forget_by_policy(repository, VM, Policy(last=1))
        report = await prune(repository, [VM], options=PruneOptions(max_waste=0))
        assert len(await repository.points(VM)) == 1
    assert len(decision.forgotten) == len(report.vms[0].removed) == 2
    return found


async def test_a_run_looks_at_no_more_where_there_are_more_vms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "connect", LOOKS.connect)
    filled(tmp_path / "few", FEW)
    filled(tmp_path / "many", MANY)

    few, many = [await looks_of_a_run(tmp_path / name) for name in ("few", "many")]

    assert set(few) >= {"open", "step", "os.scandir"}
    assert many == few
