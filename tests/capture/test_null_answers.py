"""Null, wherever a cluster may write it: a capture holds what the guest held, or there is no point and a reason."""

from __future__ import annotations

import pytest

from ntxengine.errors import NtxError
from ntxengine.repository import Point, Repository
from ntxengine.sim import Simulator
from ntxengine.sim.faults import AnswerFault
from tests.capture.lab import Lab, open_lab
from tests.support.servers import require

# A recovery point whose disks are not there yet is asked about again: null once, or the test would wait for minutes.
LATE = {"data.vmRecoveryPoints", "data.diskRecoveryPoints", "status.snapshot_file_list"}

VM, POINT, VM_POINT = r"/vms/[^/]+$", r"/config/recovery-points/[^/]+$", "/vm-recovery-points/[^/]+$"

V4 = [
    (VM, "data.disks"),
    (VM, "data.disks.*.backingInfo"),
    (VM, "data.disks.0.backingInfo.diskSizeBytes"),
    (VM, "data.powerState"),
    (POINT, "data.vmRecoveryPoints"),
    (POINT, "data.recoveryPointType"),
    (VM_POINT, "data.diskRecoveryPoints"),
    (VM_POINT, "data.diskRecoveryPoints.0.diskExtId"),
    ("compute-changed-regions", "data"),
    ("compute-changed-regions", "data.*.regionType"),
    ("compute-changed-regions", "metadata"),
    ("/tasks/", "data.completionDetails"),
]
V3 = [
    (VM, "status.resources.disk_list"),
    (VM, "vm_disk_info"),
    ("/vm_snapshots/", "status.snapshot_file_list"),
    ("/vm_snapshots/", "status.snapshot_file_list.0.file_path"),
    ("changed_regions", "region_list"),
    ("changed_regions", "file_size"),
    ("changed_regions", "region_list.*.type"),
]


@pytest.mark.parametrize(("path", "field"), V4)
async def test_null_of_v4_costs_no_byte(v4_lab: Lab, path: str, field: str) -> None:
    await _check(v4_lab, path, field)


@pytest.mark.parametrize(("path", "field"), V3)
async def test_null_of_v3_costs_no_byte(simulator: Simulator, repository: Repository, path: str, field: str) -> None:
    require("qemu-nbd", "qemu-img", "setpriv")
    lab = await open_lab(simulator, "v3", repository, attach="mount")
    await _check(lab, path, field)


async def _check(lab: Lab, path: str, field: str) -> None:
    lab.sim.faults.answers.append(AnswerFault(path, field=field, count=1 if field in LATE else -1))

    said = ""
    try:
        point: Point | None = await lab.capture(consistency="crash")
    except NtxError as exc:
        point, said = None, str(exc)

    lab.sim.faults.answers.clear()
    assert said.isprintable()
    assert point is None or lab.stored(point) == lab.guest()
    lab.assert_clean(points=0 if point is None else 1)
