"""Each file of a repository, cut to nothing, cut to half, or with one byte that flipped.

What is damaged is said in one line that names it, or made anew where it is a copy of something else.  Nothing that it
says is believed unchecked, and every other point stays what it was.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ntxengine.dataplane import journal
from ntxengine.dataplane.journal import Journal
from ntxengine.dataplane.manifest import HEADER_SIZE
from ntxengine.errors import NtxError, RepositoryError
from ntxengine.repository import ClusterRecord, Distrust, Point, Repository, cluster_record, distrust, layout
from ntxengine.repository.store import PointStore
from ntxengine.restore import restore
from ntxengine.verify import PointVerdict, verify_point
from tests.repository.builders import DISK, OTHER_VM, VM, ModelDisk, Write, capture

SIZE = 3 * 65536 + 512


def flip(at: Callable[[int], int]) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        place = at(len(data))
        return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]

    return change


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "first byte": flip(lambda size: 0),
    "middle byte": flip(lambda size: size // 2),
    "last byte": flip(lambda size: size - 1),
}

damaged = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of two VMs, the first with two full points, the newer of which will be damaged."""
    store = PointStore.create(tmp_path_factory.mktemp("made") / "repo")
    capture(store, ModelDisk(SIZE), [Write(0, 512, 1)])
    capture(store, ModelDisk(SIZE), [Write(0, SIZE, 2)], on_top=False)
    capture(store, ModelDisk(SIZE), [Write(512, 512, 3)], vm_id=OTHER_VM, vm_name="web")
    return store.path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> PointStore:
    return PointStore.open(shutil.copytree(made, tmp_path / "repo"))


@pytest.fixture
def bad(store: PointStore) -> Point:
    return store.points(VM)[1]


async def verdict_of(store: PointStore, point: Point) -> PointVerdict:
    return await verify_point(Repository(store), point)


async def read_back(store: PointStore, point: Point, out: Path) -> bytes:
    await restore(Repository(store), point, out)
    return (out / "scsi.0.raw").read_bytes()


async def check_others(store: PointStore, tmp_path: Path) -> None:
    """The older point of the VM and that of the other one are listed, right, and restored."""
    older, other = store.points(VM)[0], store.points(OTHER_VM)[0]
    assert (await verdict_of(store, older)).is_right
    assert (await verdict_of(store, other)).is_right
    assert await read_back(store, older, tmp_path / "older") == b"\1" * 512 + bytes(SIZE - 512)
    assert await read_back(store, other, tmp_path / "other") == bytes(512) + b"\3" * 512 + bytes(SIZE - 1024)


def check_line(problem: object, path: Path) -> None:
    """A problem is one line that names the file, without what was in it that is not for a terminal."""
    assert str(path) in str(problem)
    assert str(problem).isprintable()


def problems_of(verdict: PointVerdict) -> list[str]:
    return [*verdict.problems, *(disk.problem for disk in verdict.disks if disk.problem)]


@damaged
@pytest.mark.parametrize("name", ["point.json", "report.json", "vm.json", "SHA256SUMS"])
async def test_a_small_file_of_a_point(
    store: PointStore, bad: Point, tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    path = bad.path / name
    path.write_bytes(damage(path.read_bytes()))

    verdict = await verdict_of(store, bad)

    assert not verdict.is_right
    check_line(problems_of(verdict)[0], path)
    if name in ("point.json", "SHA256SUMS"):
        with pytest.raises(RepositoryError) as refused:
            await restore(Repository(store), bad, tmp_path / "out")
        check_line(refused.value, path)
        assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
    else:
        assert await read_back(store, bad, tmp_path / "out") == b"\2" * SIZE
        assert (tmp_path / "out" / "vm.json").exists() == (name != "vm.json")
    await check_others(store, tmp_path)


MANIFEST_DAMAGES = {
    **{name: DAMAGES[name] for name in ("empty", "half", "first byte", "last byte")},
    "size": flip(lambda size: 20),
    "disk digest": flip(lambda size: 40),
    "block digest": flip(lambda size: HEADER_SIZE + 17),
}
"""Between its header and its digests lie bytes that nobody reads."""


@pytest.mark.parametrize("damage", MANIFEST_DAMAGES.values(), ids=MANIFEST_DAMAGES.keys())
async def test_a_manifest(store: PointStore, bad: Point, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = bad.manifest_path(bad.disks[0])
    path.write_bytes(damage(path.read_bytes()))

    verdict = await verdict_of(store, bad)
    with pytest.raises(NtxError) as refused:
        await restore(Repository(store), bad, tmp_path / "out")

    assert not verdict.is_right
    check_line(problems_of(verdict)[0], path)
    check_line(refused.value, path)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
    await check_others(store, tmp_path)


@damaged
async def test_an_image(store: PointStore, bad: Point, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = bad.image_path(bad.disks[0])
    path.write_bytes(damage(path.read_bytes()))

    verdict = await verdict_of(store, bad)

    # A byte of an image may be one that nothing refers to: then what is read is right.
    if verdict.is_right:
        assert await read_back(store, bad, tmp_path / "out") == b"\2" * SIZE
    else:
        with pytest.raises(NtxError) as refused:
            await restore(Repository(store), bad, tmp_path / "out")
        assert str(refused.value).isprintable()
        assert list((tmp_path / "out").glob("scsi*")) == []
    await check_others(store, tmp_path)


@damaged
async def test_the_catalog(
    store: PointStore, bad: Point, tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    path = store.path / layout.CATALOG_FILE
    path.write_bytes(damage(path.read_bytes()))

    with caplog.at_level(logging.WARNING):
        listed = PointStore.open(store.path).points()

    assert [point.id for point in listed] == sorted(point.id for point in store.points())
    assert all("\n" not in record.getMessage() for record in caplog.records)
    assert (await verdict_of(store, bad)).is_right
    assert await read_back(store, next(each for each in listed if each.id == bad.id), tmp_path / "out") == b"\2" * SIZE
    await check_others(store, tmp_path)


@damaged
async def test_the_lock(store: PointStore, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = store.path / VM / layout.LOCK_FILE
    path.write_bytes(damage(path.read_bytes()))

    assert not store.is_locked(VM)
    with store.lock(VM):
        assert store.is_locked(VM)
        path.write_bytes(damage(path.read_bytes()))  # also while somebody has it
        with pytest.raises(NtxError, match=r"is locked by .*process") as refused:
            store.acquire(VM)
    assert str(refused.value).isprintable()
    capture(store, ModelDisk(SIZE), [Write(0, 512, 4)], on_top=False)
    assert len(store.points(VM)) == 3
    await check_others(store, tmp_path)


@damaged
@pytest.mark.parametrize("name", [layout.MARKER_FILE, "ntx-site.json"])
async def test_what_a_repository_says_of_itself(
    store: PointStore, tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    await Repository(store).settle_site()
    path = store.path / name
    path.write_bytes(damage(path.read_bytes()))

    problem = ""
    try:
        problem = await Repository(PointStore.open(store.path)).find_mismatch()
    except RepositoryError as exc:
        problem = str(exc)

    # A letter of the id, or of the place, may have become another: both are names, and hints.
    if problem:
        check_line(problem, path)
        assert (f"ntx repository adopt {store.path}" in problem) == (name == layout.MARKER_FILE)
    await check_others(store, tmp_path)


@damaged
async def test_which_points_are_distrusted(
    store: PointStore, bad: Point, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    mark = Distrust(bad.id, DISK, "scsi.0", bad.id, datetime(2026, 11, 24, tzinfo=UTC), (0,))
    distrust.add(store.path / VM, [mark])
    path = store.path / VM / layout.DISTRUST_FILE
    path.write_bytes(damage(path.read_bytes()))

    verdict = await verdict_of(store, bad)

    assert verdict.marks.is_distrusted is None  # nobody knows: not that it is trusted
    check_line(verdict.marks.problem, path)
    assert await read_back(store, bad, tmp_path / "out") == b"\2" * SIZE
    await check_others(store, tmp_path)


@damaged
async def test_what_is_recorded_of_the_cluster(
    store: PointStore, bad: Point, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    record = ClusterRecord(bad.id, f"ntx-01234567-{bad.id}", "", "1f000000-0000-4000-8000-000000000001")
    cluster_record.write(store.path / VM, record)
    path = store.path / VM / f".cluster-{bad.id}.json"
    path.write_bytes(damage(path.read_bytes()))

    found = await Repository(store).cluster_records(VM)

    assert (found.own, found.foreign) == ((), ())  # so that a sweep removes nothing
    check_line(found.problems[0], path)
    await check_others(store, tmp_path)


@damaged
async def test_the_journal_of_a_copy(store: PointStore, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = store.path / VM / ".unfinished.journal"
    journal.write(path, Journal({"disk": DISK}, SIZE, 65536, "0" * 32))
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(RepositoryError) as refused:
        journal.read(path)

    check_line(refused.value, path)
    await check_others(store, tmp_path)
