"""The repository never holds up the event loop, and a cancellation leaves neither a lock nor an unfinished point."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ntxengine.errors import LockedError, RepositoryError
from ntxengine.files import durable
from ntxengine.repository import Repository, VmLock
from ntxengine.repository.store import PointStore
from ntxengine.sweep import sweep
from tests.repository.builders import VM, record_of

OLD = ".unfinished-20260101T000000Z-aaaaaa"
TIMEOUT_S = 60.0

T = TypeVar("T")


class Gate:
    """A blocking function that does not go on before it may.  The thread that calls it waits, and nobody else."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self._entered = threading.Event()
        self._may_go_on = threading.Event()

    def __call__(self, *arguments: object, **options: object) -> object:
        self._entered.set()
        assert self._may_go_on.wait(TIMEOUT_S), "the event loop stands still"
        return self._function(*arguments, **options)

    async def entered(self) -> None:
        """Wait until somebody is held up, while the event loop runs."""
        async with asyncio.timeout(TIMEOUT_S):
            while not self._entered.is_set():
                await asyncio.sleep(0)

    def open(self) -> None:
        self._may_go_on.set()


@pytest.fixture
def removal(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Removing a folder takes long: it holds an image of a terabyte."""
    gate = Gate(durable.remove_tree)
    monkeypatch.setattr(durable, "remove_tree", gate)
    return gate


@pytest.fixture
def face(repository: PointStore) -> Repository:
    return Repository(repository)


def leave_unfinished(repository: Repository) -> None:
    folder = repository.path / VM / OLD
    folder.mkdir(parents=True)
    (folder / "disk").write_bytes(b"x")


def unfinished(repository: Repository) -> list[Path]:
    return list(repository.path.glob("*/.unfinished-*"))


async def check_ticking(gate: Gate, work: Coroutine[Any, Any, T]) -> T:
    """Let `work` run into the gate, and open it from the event loop, which can do so only if it is free."""
    task = asyncio.create_task(work)
    await gate.entered()
    assert not task.done()
    gate.open()
    return await task


async def test_beginning_a_point_while_a_large_image_is_removed_holds_up_nobody(
    face: Repository, removal: Gate
) -> None:
    leave_unfinished(face)

    async with face.lock(VM) as lock:
        begun = await check_ticking(removal, face.begin(lock, None))

        assert [path.name for path in unfinished(face)] == [f".unfinished-{begun.id}"]


async def test_sweeping_while_a_large_image_is_removed_holds_up_nobody(face: Repository, removal: Gate) -> None:
    leave_unfinished(face)

    await check_ticking(removal, sweep(None, face))

    assert unfinished(face) == []


async def test_aborting_a_point_with_a_large_image_holds_up_nobody(face: Repository, removal: Gate) -> None:
    async with face.lock(VM) as lock:
        begun = await face.begin(lock, None)

        await check_ticking(removal, begun.abort())

        assert unfinished(face) == []


QUESTIONS: dict[str, Callable[[Repository], Coroutine[Any, Any, object]]] = {
    "points": lambda face: face.points(),
    "newest": lambda face: face.newest(VM),
    "last id": lambda face: face.last_id(VM),
    "health": lambda face: face.health(VM),
    "vms": lambda face: face.vms(),
}


@pytest.mark.parametrize("name", QUESTIONS)
async def test_a_slow_directory_holds_up_nobody(name: str, face: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(PointStore._scan)
    monkeypatch.setattr(PointStore, "_scan", lambda self, *arguments: gate(self, *arguments))

    await check_ticking(gate, QUESTIONS[name](face))


async def test_waiting_for_a_slow_lock_holds_up_nobody(face: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(VmLock.acquire)
    monkeypatch.setattr(VmLock, "acquire", lambda self: gate(self))

    async def take() -> str:
        async with face.lock(VM) as lock:
            return lock.vm_id

    assert await check_ticking(gate, take()) == VM


async def cancel_inside(gate: Gate, work: Coroutine[Any, Any, object]) -> None:
    task = asyncio.create_task(work)
    await gate.entered()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_while_a_point_is_begun_leaves_none(face: Repository, removal: Gate) -> None:
    leave_unfinished(face)

    async with face.lock(VM) as lock:
        await cancel_inside(removal, face.begin(lock, None))

        assert unfinished(face) == []


async def test_a_cancellation_while_a_vm_is_locked_gives_the_lock_back(
    face: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(VmLock.acquire)

    async def take() -> None:
        async with face.lock(VM):
            raise AssertionError("it was cancelled before")

    with monkeypatch.context() as patch:
        patch.setattr(VmLock, "acquire", lambda self: gate(self))
        await cancel_inside(gate, take())

    async with face.lock(VM):
        pass


async def test_a_point_whose_commit_is_cancelled_says_that_it_is_one(
    face: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(durable.rename)

    async with face.lock(VM) as lock:
        begun = await face.begin(lock, None)
        monkeypatch.setattr(durable, "rename", gate)
        await cancel_inside(gate, begun.commit(record_of(begun, [])))

        assert begun.is_committed
        await begun.abort()
    assert [point.id for point in await face.points()] == [begun.id]


async def test_two_captures_of_one_vm_in_one_process_do_not_share_a_point(face: Repository) -> None:
    async with face.lock(VM):
        with pytest.raises(LockedError):
            async with face.lock(VM):
                pass


async def test_a_lock_that_was_given_back_opens_nothing(face: Repository) -> None:
    async with face.lock(VM) as lock:
        pass

    with pytest.raises(RepositoryError, match="was given back"):
        await face.begin(lock, None)
