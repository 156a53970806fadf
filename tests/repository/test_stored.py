"""What is stored has the names and the form that it always had: the exact files of a known point and its repository."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import xxhash

from ntxengine.repository import (
    CaptureReport,
    DiskReport,
    Distrust,
    PointDisk,
    PointRecord,
    StoredAudit,
    StoredDiskPoint,
    cluster_record,
    distrust,
    marker,
    site,
)
from ntxengine.repository.cluster_record import ClusterRecord
from ntxengine.repository.point import decode, encode
from ntxengine.repository.site import Site
from ntxengine.repository.stored import StoredMember
from tests.repository.builders import DISK, VM

PARENT = "20261123T041500Z-8f3a2c"
POINT = "20261124T041500Z-000000"

RECORD = PointRecord(
    id=POINT,
    vm_id=VM,
    vm_name="db01",
    created_at=datetime(2026, 11, 24, 4, 15, tzinfo=UTC),
    parent_id=PARENT,
    kind="incremental",
    consistency_requested="auto",
    consistency_obtained="crash",
    tracking="v3-changed-regions",
    tracking_reason="no v4",
    recovery_point_id="1f000000-0000-4000-8000-000000000001",
    recovery_point_disks={DISK: StoredDiskPoint("a", "b", "c", "d", "/container/e")},
    disks=(
        PointDisk(
            DISK,
            "scsi.0",
            512,
            f"disk-{DISK}.qcow2",
            f"disk-{DISK}.manifest",
            "0" * 32,
            f"../{PARENT}/disk-{DISK}.qcow2",
        ),
    ),
    report=CaptureReport(
        disks={
            DISK: DiskReport(
                label="scsi.0",
                size=512,
                bytes_allocated=4096,
                bytes_changed=512,
                bytes_read=512,
                bytes_sent=512,
                bytes_zeroed=0,
                bytes_skipped=0,
                bytes_unchanged=0,
                trusted_point_id=None,
                bytes_verified=512,
                reduction_percent=0.0,
                bytes_per_s=1024,
                seconds=0.5,
                cpu_seconds=0.25,
                retries=0,
                reconnects=2,
                bytes_repeated=512,
                connections=1,
                in_flight=2,
                request_size=1024,
                pace="pinned",
                bottleneck="source",
                bottleneck_share=0.75,
                tracking="v3-changed-regions",
                tracking_reason="no v4",
                incremental=True,
                audit=StoredAudit(
                    seed=7,
                    position=3,
                    blocks=1,
                    blocks_sampled=1,
                    bytes_read=512,
                    blocks_wrong=1,
                    offsets=(0,),
                    problem="",
                ),
                stages_s={"copy": 0.5},
            )
        },
        excluded=("a CD-ROM",),
        consistency_reason="",
        warnings=("slow",),
        stages_s={"freeze": 1.5},
        seconds=2.5,
    ),
    sums="SHA256SUMS",
    together=(StoredMember(VM, "db01", POINT),),
)

DOCUMENT = f"""{{
  "format": "ntxengine-point",
  "version": 1,
  "id": "{POINT}",
  "vm_id": "{VM}",
  "vm_name": "db01",
  "created_at": "2026-11-24T04:15:00Z",
  "parent_id": "{PARENT}",
  "kind": "incremental",
  "consistency_requested": "auto",
  "consistency_obtained": "crash",
  "tracking": "v3-changed-regions",
  "tracking_reason": "no v4",
  "recovery_point_id": "1f000000-0000-4000-8000-000000000001",
  "recovery_point_disks": {{
    "{DISK}": {{
      "id": "a",
      "disk_id": "b",
      "recovery_point_id": "c",
      "vm_point_id": "d",
      "path": "/container/e",
      "group_point_id": ""
    }}
  }},
  "disks": [
    {{
      "disk_id": "{DISK}",
      "label": "scsi.0",
      "size": 512,
      "file": "disk-{DISK}.qcow2",
      "manifest": "disk-{DISK}.manifest",
      "digest": "{"0" * 32}",
      "backing": "../{PARENT}/disk-{DISK}.qcow2"
    }}
  ],
  "report": {{
    "disks": {{
      "{DISK}": {{
        "label": "scsi.0",
        "size": 512,
        "bytes_allocated": 4096,
        "bytes_changed": 512,
        "bytes_read": 512,
        "bytes_sent": 512,
        "bytes_zeroed": 0,
        "bytes_skipped": 0,
        "bytes_unchanged": 0,
        "trusted_point_id": null,
        "bytes_verified": 512,
        "reduction_percent": 0.0,
        "bytes_per_s": 1024,
        "seconds": 0.5,
        "cpu_seconds": 0.25,
        "retries": 0,
        "reconnects": 2,
        "bytes_repeated": 512,
        "connections": 1,
        "in_flight": 2,
        "request_size": 1024,
        "pace": "pinned",
        "bottleneck": "source",
        "bottleneck_share": 0.75,
        "tracking": "v3-changed-regions",
        "tracking_reason": "no v4",
        "incremental": true,
        "audit": {{
          "seed": 7,
          "position": 3,
          "blocks": 1,
          "blocks_sampled": 1,
          "bytes_read": 512,
          "blocks_wrong": 1,
          "offsets": [
            0
          ],
          "problem": ""
        }},
        "stages_s": {{
          "copy": 0.5
        }}
      }}
    }},
    "excluded": [
      "a CD-ROM"
    ],
    "consistency_reason": "",
    "warnings": [
      "slow"
    ],
    "stages_s": {{
      "freeze": 1.5
    }},
    "seconds": 2.5
  }},
  "sums": "SHA256SUMS",
  "together": [
    {{
      "vm_id": "{VM}",
      "vm_name": "db01",
      "point_id": "{POINT}"
    }}
  ]
}}
"""


def test_a_point_is_stored_under_these_names() -> None:
    assert encode(RECORD).decode() == DOCUMENT


def test_a_point_that_is_stored_under_these_names_is_read() -> None:
    folder = Path("/repo") / VM / POINT

    found = decode(DOCUMENT.encode(), file=folder / "point.json", folder=folder)

    assert {name: value for name, value in vars(found).items() if name != "path"} == vars(RECORD)


def test_a_repository_is_marked_under_these_names() -> None:
    document = json.loads(marker.new())

    assert {**document, "id": "?"} == {"format": "ntxengine-repository", "version": 1, "id": "?"}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Site:
    where = Site("machine", "/backups", "uuid", "fsid")
    monkeypatch.setattr(site, "here", lambda folder: where)
    return where


SITE: dict[str, Any] = {
    "machine_id": "machine",
    "path": "/backups",
    "file_system_uuid": "uuid",
    "file_system_id": "fsid",
}


def test_where_a_repository_is_stands_under_these_names(here: Site, tmp_path: Path) -> None:
    site.record(tmp_path)

    stored = json.loads((tmp_path / "ntx-site.json").read_bytes())
    assert stored == {"format": "ntxengine-site", "version": 1, "site": SITE}
    assert list(stored["site"]) == list(SITE)
    assert site.find_mismatch(tmp_path) == ""


def test_what_a_capture_made_on_a_cluster_stands_under_these_names(here: Site, tmp_path: Path) -> None:
    record = ClusterRecord(POINT, f"ntx-01234567-{POINT}", "worker", "recovery point", ("disk point",), "hotadd")
    folder = tmp_path / VM
    folder.mkdir()

    cluster_record.write(folder, record)

    stored = json.loads((folder / f".cluster-{POINT}.json").read_bytes())
    assert stored.pop("check") == check_of(stored)
    assert stored == {
        "format": "ntxengine-cluster-record",
        "version": 2,
        "record": {
            "point_id": POINT,
            "name": f"ntx-01234567-{POINT}",
            "worker_id": "worker",
            "recovery_point_id": "recovery point",
            "sources": ["disk point"],
            "source": "hotadd",
            "together": [],
            "is_released": False,
            "attached_at": None,
            "reference": [],
        },
        "made_in": {"site": {**SITE, "path": ""}, "inodes": [tmp_path.stat().st_ino, folder.stat().st_ino]},
    }
    assert cluster_record.read(folder).own == (record,)


OTHER = "11111111-0000-4000-8000-000000000000"


def test_a_record_of_several_vms_is_read_again(here: Site, tmp_path: Path) -> None:
    name = cluster_record.shared_name("01234567", POINT)
    record = ClusterRecord(POINT, name, "worker", together=(VM, OTHER), is_released=True)
    folder = tmp_path / VM
    folder.mkdir()

    cluster_record.write(folder, record)

    assert cluster_record.read(folder).own == (record,)


@pytest.mark.parametrize(
    ("name", "together"),
    [
        (f"ntx-01234567-{POINT}", (VM, OTHER)),
        (f"ntx-01234567-{POINT}-together", ()),
        ("ntx-01234567-elsewhere-together", (VM, OTHER)),
        (f"ntx-01234567-{POINT}-together", (VM, "../other")),
    ],
)
def test_a_record_of_several_vms_that_names_something_else_is_damaged(
    name: str, together: tuple[str, ...], here: Site, tmp_path: Path
) -> None:
    """So an older ntx takes no recovery point of several VMs for one of its own."""
    folder = tmp_path / VM
    folder.mkdir()

    cluster_record.write(folder, ClusterRecord(POINT, name, "worker", together=together))

    records = cluster_record.read(folder)
    assert (records.own, len(records.problems)) == ((), 1)
    assert "is damaged" in records.problems[0]


def test_a_record_of_a_version_that_is_not_known_is_left_alone(here: Site, tmp_path: Path) -> None:
    folder = tmp_path / VM
    folder.mkdir()
    cluster_record.write(folder, ClusterRecord(POINT, f"ntx-01234567-{POINT}", ""))
    path = folder / f".cluster-{POINT}.json"
    path.write_text(path.read_text().replace('"version": 2', '"version": 4'))

    records = cluster_record.read(folder)

    assert (records.own, records.foreign) == ((), ())
    assert records.problems == (f"{path}: is 'ntxengine-cluster-record' version 4: use the ntx that wrote it",)


def test_what_is_distrusted_is_stored_like_this(tmp_path: Path) -> None:
    folder = tmp_path / VM
    folder.mkdir()
    mark = Distrust(PARENT, DISK, "scsi.0", POINT, datetime(2026, 11, 24, 4, 15, tzinfo=UTC), (65536,))

    distrust.add(folder, [mark])

    assert (
        (folder / "distrusted.json").read_text()
        == f"""{{
  "format": "ntxengine-distrust",
  "version": 1,
  "disks": [
    {{
      "point_id": "{PARENT}",
      "disk_id": "{DISK}",
      "label": "scsi.0",
      "found_by": "{POINT}",
      "found_at": "2026-11-24T04:15:00Z",
      "offsets": [
        65536
      ]
    }}
  ],
  "check": "{check_of(json.loads((folder / "distrusted.json").read_bytes()))}"
}}
"""
    )
    assert distrust.read(folder) == (mark,)


def check_of(document: dict[str, Any]) -> str:
    """What docs/repository.md says of it."""
    document = {key: value for key, value in document.items() if key != "check"}
    plain = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return xxhash.xxh3_128_hexdigest(plain.encode())


def test_files_of_an_older_version_have_no_checksum(tmp_path: Path) -> None:
    folder = tmp_path / VM
    folder.mkdir()
    mark = Distrust(PARENT, DISK, "scsi.0", POINT, datetime(2026, 11, 24, 4, 15, tzinfo=UTC), (65536,))
    distrust.add(folder, [mark])
    path = folder / "distrusted.json"
    document = json.loads(path.read_bytes())
    del document["check"]
    path.write_text(json.dumps(document))

    assert distrust.read(folder) == (mark,)
