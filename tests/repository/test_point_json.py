"""point.json says all of a point, and is not believed when it is damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.errors import RepositoryError
from ntxengine.repository import Point
from ntxengine.repository.point import decode
from ntxengine.repository.report import CaptureReport, DiskReport, decode_report
from ntxengine.repository.store import PointStore
from tests.repository.builders import DISK, VM, ModelDisk, Write, capture

EXAMPLES = int(os.environ.get("NTX_FUZZ_EXAMPLES", "300"))
PARENT = "20261123T041500Z-8f3a2c"
CHILD = "20261124T041500Z-000000"


def document() -> dict[str, Any]:
    return {
        "format": "ntxengine-point",
        "version": 1,
        "id": CHILD,
        "vm_id": VM,
        "vm_name": "db01",
        "created_at": "2026-11-24T04:15:00Z",
        "parent_id": PARENT,
        "kind": "incremental",
        "consistency_requested": "auto",
        "consistency_obtained": "crash",
        "tracking": "v4-changed-regions",
        "tracking_reason": "",
        "recovery_point_id": "1f000000-0000-4000-8000-000000000001",
        "recovery_point_disks": {DISK: {"id": "a"}},
        "disks": [
            {
                "disk_id": DISK,
                "label": "scsi.0",
                "size": 65536,
                "file": f"disk-{DISK}.qcow2",
                "manifest": f"disk-{DISK}.manifest",
                "digest": "0" * 32,
                "backing": f"../{PARENT}/disk-{DISK}.qcow2",
            }
        ],
        "report": {},
    }


FOLDER = Path("/repo") / VM / CHILD


def read(data: bytes) -> Point:
    return decode(data, file=FOLDER / "point.json", folder=FOLDER)


def test_a_point_reads_back_as_it_was_committed(repository: PointStore) -> None:
    model = ModelDisk(100 * 512)
    root = capture(repository, model, [Write(0, 512, 1)])
    committed = capture(repository, model, [Write(512, 512, 2)])

    found = repository.point(committed.id)

    assert found == committed
    assert found.path == committed.path
    assert found.parent_id == root.id
    assert json.loads((found.path / "vm.json").read_bytes()) == {"name": "db01"}
    assert decode_report(json.loads((found.path / "report.json").read_bytes())) == found.report


def test_an_unknown_field_is_no_damage() -> None:
    assert read(json.dumps(document() | {"from_the_future": [1]}).encode()).id == CHILD


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("format",), "something else"),
        (("version",), 3),
        (("version",), "1"),
        (("id",), PARENT),
        (("id",), "../../etc"),
        (("vm_id",), "/etc"),
        (("parent_id",), "../x"),
        (("parent_id",), "20271123T041500Z-8f3a2c"),
        (("parent_id",), CHILD),
        (("parent_id",), None),
        (("kind",), "differential"),
        (("kind",), "full"),
        (("created_at",), "2026-11-24T04:15:00"),
        (("created_at",), "0001-01-01T00:00:00+23:59"),
        (("created_at",), 5),
        (("disks",), {}),
        (("disks",), [1]),
        (("disks", 0, "disk_id"), "../../etc/passwd"),
        (("disks", 0, "size"), -1),
        (("disks", 0, "size"), 1 << 63),
        (("disks", 0, "size"), 1.5),
        (("disks", 0, "size"), True),
        (("disks", 0, "file"), "/etc/passwd"),
        (("disks", 0, "file"), "../disk.qcow2"),
        (("disks", 0, "file"), f"disk-{DISK}.g0.qcow2"),
        (("disks", 0, "file"), f"disk-{DISK}.g1.qcow2.map"),
        (("disks", 0, "manifest"), "point.json"),
        (("disks", 0, "digest"), ""),
        (("disks", 0, "digest"), "0" * 31 + "\n"),
        (("disks", 0, "backing"), "/dev/sda"),
        (("disks", 0, "backing"), f"../{PARENT}/../../x/disk-{DISK}.qcow2"),
        (("disks", 0, "backing"), "nbd://attacker/"),
        (("disks", 0, "backing"), f"../{CHILD}/disk-{DISK}.g1.qcow2"),
        (("disks", 0, "backing"), f"../{PARENT}/.."),
        (("recovery_point_disks",), {DISK: 1}),
        (("report",), None),
    ],
)
def test_what_cannot_be_true_is_refused_naming_the_file(where: tuple[str | int, ...], value: object) -> None:
    changed = document()
    place: Any = changed
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value

    with pytest.raises(RepositoryError) as caught:
        read(json.dumps(changed).encode())

    assert str(FOLDER / "point.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ({}, CaptureReport()),
        ({"disks": [], "seconds": "long", "warnings": 5, "excluded": [1]}, CaptureReport()),
        ({"disks": {DISK: 5}, "stages_s": {"copy": None}}, CaptureReport({DISK: DiskReport()})),
        (
            {"disks": {DISK: {"bytes_sent": "1", "size": True, "retries": 2}}},
            CaptureReport({DISK: DiskReport(retries=2)}),
        ),
        ({"disks": {DISK: {"tracking": "rumours"}}, "from_the_future": 1}, CaptureReport({DISK: DiskReport()})),
        ({"seconds": 3, "warnings": ["slow"]}, CaptureReport(warnings=("slow",), seconds=3.0)),
    ],
)
def test_a_report_counts_as_far_as_it_is_one(report: dict[str, Any], expected: CaptureReport) -> None:
    assert read(json.dumps(document() | {"report": report}).encode()).report == expected


def test_a_disk_that_is_there_twice_is_refused() -> None:
    changed = document()
    changed["disks"] *= 2

    with pytest.raises(RepositoryError, match="twice"):
        read(json.dumps(changed).encode())


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"\0" * 4096]
)
def test_what_is_no_point_is_refused(data: bytes) -> None:
    with pytest.raises(RepositoryError, match=r"point\.json"):
        read(data)


@settings(max_examples=EXAMPLES)
@given(st.data())
def test_random_damage_is_a_repository_error_or_harmless(data: st.DataObject) -> None:
    good = bytearray(json.dumps(document()).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))

    for damaged in (bytes(good), bytes(good[:cut])):
        try:
            point = read(damaged)
        except RepositoryError:
            continue
        assert point.id == CHILD
        assert {disk.file for disk in point.disks} == {f"disk-{DISK}.qcow2"}


def test_a_damaged_point_is_not_listed_and_says_so_when_asked_for(
    repository: PointStore, caplog: pytest.LogCaptureFixture
) -> None:
    model = ModelDisk(512)
    good, bad = capture(repository, model), capture(repository, model)
    (bad.path / "point.json").write_bytes(b"{}")

    listed = repository.points()

    assert [point.id for point in listed] == [good.id]
    assert str(bad.path / "point.json") in caplog.text
    with pytest.raises(RepositoryError, match=r"point\.json"):
        repository.point(bad.id)


@pytest.mark.parametrize("kind", ["missing", "link", "fifo", "folder", "huge"])
def test_a_point_file_that_is_no_plain_file_is_damage(repository: PointStore, kind: str) -> None:
    point = capture(repository, ModelDisk(512))
    file = point.path / "point.json"
    kept = file.rename(point.path.parent / "kept.json")
    match kind:
        case "link":
            file.symlink_to(kept)
        case "fifo":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "huge":
            file.touch()
            os.truncate(file, 1 << 40)

    assert repository.points() == []
    with pytest.raises(RepositoryError, match=r"point\.json"):
        repository.point(point.id)


def test_the_next_point_of_a_vm_sorts_behind_a_damaged_one(repository: PointStore) -> None:
    bad = capture(repository, ModelDisk(512))
    (bad.path / "point.json").write_bytes(b"{}")

    assert capture(repository, ModelDisk(512)).id > bad.id
