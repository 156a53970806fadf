"""point.json, vm.json and report.json are what was written, or it is said which is not; the catalog hides nothing."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.errors import RepositoryError
from ntxengine.repository import Point, Repository
from ntxengine.repository.store import PointStore
from ntxengine.restore import restore
from ntxengine.verify import verify_point
from tests.repository.builders import VM, ModelDisk, Write, capture, write_sums_anew

NAMES = ["point.json", "report.json", "vm.json"]


@pytest.fixture
def chain(repository: PointStore) -> tuple[Point, Point]:
    model = ModelDisk(65536 + 512)
    full = capture(repository, model, [Write(0, 512, 1)])
    return full, capture(repository, model, [Write(512, 512, 2)])


def rot(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change what a file holds and nothing that tells of it: neither its time nor, by itself, its size."""
    status = path.stat()
    path.write_bytes(change(path.read_bytes()))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def zero_40_bytes(data: bytes) -> bytes:
    return data[:100] + bytes(40) + data[140:]


def other_label(data: bytes) -> bytes:
    """Rot that JSON does not show."""
    return data.replace(b"scsi.0", b"scsi.1")


def in_place_of(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def test_sha256sum_itself_checks_a_point(chain: tuple[Point, Point]) -> None:
    for point in chain:
        ran = subprocess.run(
            ["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=point.path, capture_output=True, text=True
        )

        assert ran.returncode == 0, ran.stderr
        assert sorted(line.partition(":")[0] for line in ran.stdout.splitlines()) == NAMES


@pytest.mark.parametrize("change", [zero_40_bytes, other_label])
async def test_the_catalog_does_not_hide_that_point_json_rots(
    repository: PointStore, chain: tuple[Point, Point], tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    rot(chain[1].path / "point.json", change)

    listed = repository.points(VM)[-1]
    verdict = await verify_point(Repository(repository), listed)

    assert not verdict.is_right
    assert str(chain[1].path / "point.json") in verdict.problems[0]
    with pytest.raises(RepositoryError, match=r"point\.json: is damaged"):
        await restore(Repository(repository), listed, tmp_path / "out")
    with pytest.raises(RepositoryError, match=r"point\.json: is damaged"):
        repository.newest(VM)
    assert list(repository.health(VM, from_catalog=False).unreadable) == [chain[1].path]


async def test_rot_of_a_point_below_is_found_in_the_point_above(
    repository: PointStore, chain: tuple[Point, Point]
) -> None:
    rot(chain[0].path / "point.json", other_label)

    verdict = await verify_point(Repository(repository), chain[1])

    assert str(chain[0].path / "point.json") in verdict.disks[0].problem


DAMAGES: dict[str, Callable[[Path], object]] = {
    "changed": lambda path: rot(path, lambda data: data[:-3] + b"\t\n\n"),
    "cut": lambda path: rot(path, lambda data: data[:-2]),
    "gone": Path.unlink,
    "a FIFO": lambda path: in_place_of(path, os.mkfifo),
    "a link": lambda path: (path.rename(path.with_name("other")), path.symlink_to("other")),
    "a folder": lambda path: in_place_of(path, Path.mkdir),
}


@pytest.mark.parametrize("name", ["report.json", "vm.json"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
async def test_damage_beside_the_disks_is_named_and_the_disks_are_restored(
    repository: PointStore,
    chain: tuple[Point, Point],
    tmp_path: Path,
    name: str,
    damage: Callable[[Path], object],
) -> None:
    path = chain[1].path / name
    damage(path)

    verdict = await verify_point(Repository(repository), chain[1])
    report = await restore(Repository(repository), chain[1], tmp_path / "out")

    assert [disk.is_right for disk in verdict.disks] == [True]
    assert [problem.startswith(f"{path}: ") for problem in verdict.problems] == [True]
    assert not verdict.is_right
    assert (tmp_path / "out" / "scsi.0.raw").stat().st_size == chain[1].disks[0].size
    assert (tmp_path / "out" / "vm.json").exists() == (name == "report.json")
    assert report.config_problem.startswith(f"{path}: ") == (name == "vm.json")


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
async def test_digests_that_are_damaged_or_gone_are_noticed(
    repository: PointStore, chain: tuple[Point, Point], damage: Callable[[Path], object]
) -> None:
    damage(chain[1].path / "SHA256SUMS")

    verdict = await verify_point(Repository(repository), chain[1])

    assert "SHA256SUMS" in verdict.problems[0]


EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + f"{EMPTY}  ../../../etc/passwd\n".encode(),
        lambda data: data + f"{EMPTY}  other.json\n".encode(),
        lambda data: data + data,
        lambda data: b"".join(line for line in data.splitlines(keepends=True) if b"point.json" not in line),
        lambda data: b"".join(line for line in data.splitlines(keepends=True) if b"vm.json" not in line),
        lambda data: data + bytes(10_000),
        lambda data: "\N{ARABIC-INDIC DIGIT ONE}".encode() * 64 + data[64:],
        lambda data: b"",
    ],
    ids=["leads out", "stranger", "twice", "not point.json", "not vm.json", "large", "other digits", "empty"],
)
async def test_digests_other_than_of_the_three_files_are_damage(
    repository: PointStore, chain: tuple[Point, Point], change: Callable[[bytes], bytes]
) -> None:
    rot(chain[1].path / "SHA256SUMS", change)

    verdict = await verify_point(Repository(repository), chain[1])

    assert "SHA256SUMS: " in verdict.problems[0]


async def test_digests_that_another_tool_wrote_anew_are_taken(
    repository: PointStore, chain: tuple[Point, Point]
) -> None:
    rot(chain[1].path / "SHA256SUMS", lambda data: data.replace(b"  ", b" *"))
    rot(
        chain[0].path / "SHA256SUMS",
        lambda data: b"".join(line[:64].upper() + line[64:] for line in data.splitlines(keepends=True)[::-1]),
    )

    for point in chain:
        assert (await verify_point(Repository(repository), point)).is_right


async def test_digests_written_anew_make_a_point_readable_again(
    repository: PointStore, chain: tuple[Point, Point], tmp_path: Path
) -> None:
    (chain[0].path / "SHA256SUMS").unlink()
    rot(chain[1].path / "point.json", other_label)

    for point in chain:
        write_sums_anew(point)

    assert [(await verify_point(Repository(repository), point)).is_right for point in chain] == [True, True]
    assert (await restore(Repository(repository), chain[1], tmp_path / "out")).disks[0].is_checked


async def test_points_made_before_there_were_digests_stay_readable(
    repository: PointStore, chain: tuple[Point, Point], tmp_path: Path
) -> None:
    for point in chain:
        (point.path / "SHA256SUMS").unlink()
        rot(point.path / "point.json", lambda data: data.replace(b',\n  "sums": "SHA256SUMS"', b""))

    old = repository.newest(VM)

    assert old is not None
    assert old.sums == ""
    assert (await verify_point(Repository(repository), old)).is_right
    assert (await restore(Repository(repository), old, tmp_path / "out")).config_problem == ""
    capture(repository, ModelDisk(old.size))
