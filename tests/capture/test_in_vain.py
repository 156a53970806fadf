"""No VM is frozen in vain: what can be known is looked at before a recovery point is asked for, in a plan too."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.attach import AttachOptions, ContainerMount, tried
from ntxengine.capture import CaptureOptions, plan_capture
from ntxengine.errors import AttachError, NtxError, PrismAnswerError, PrismBusy, PrismConnectionError
from ntxengine.prism.http.trust import Trust
from ntxengine.repository import Repository
from ntxengine.sim import SimConfig, Simulator, run_in_thread
from ntxengine.sim.faults import AnswerFault
from tests.capture.lab import MIB, Lab, make_config, open_lab

VM_V4, VM_V3, VM_V2 = r"ahv/config/vms/[^/]+$", r"v3/vms/[^/]+$", r"v2\.0/vms/[^/]+$"


async def assert_refused(lab: Lab, kind: type[NtxError], text: str) -> None:
    """Check that neither a plan nor a capture asks for a recovery point, and both say why on one line."""
    with pytest.raises(kind, match=text) as planned:
        await plan_capture(lab.prism, lab.repository, lab.vm_id, CaptureOptions(), attacher=lab.attacher)
    with pytest.raises(kind, match=text) as captured:
        await lab.capture()
    for refused in (planned, captured):
        assert "\n" not in str(refused.value)
    assert posts(lab) == []
    assert lab.unfinished() == []
    assert lab.points() == []


def posts(lab: Lab) -> list[str]:
    """Return the requests that make recovery points."""
    return [
        request.path
        for request in lab.sim.requests
        if request.method == "POST" and request.path.endswith(("/recovery-points", "/vm_snapshots"))
    ]


def say(lab: Lab, path: str, field: str, value: object = None) -> None:
    lab.sim.faults.answers.append(AnswerFault(path=path, method="GET", count=-1, field=field, value=value))


@pytest.fixture
def old_config(tmp_path: Path) -> SimConfig:
    config = make_config(tmp_path / "disks")
    config.revisions = {"vmm": "v4.0"}
    return config


async def test_with_vmm_4_0_nothing_can_be_hot_added(
    old_config: SimConfig, tmp_path: Path, repository: Repository
) -> None:
    with run_in_thread(old_config, tmp_path / "old") as sim:
        lab = await open_lab(sim, "v4", repository, attach="hot-add")

        await assert_refused(lab, AttachError, r"too old to hot-add.*needs v4\.1.*update it")

        await lab.prism.aclose()


@pytest.mark.parametrize("power", ["OFF", "PAUSED"])
async def test_a_worker_vm_that_is_not_on_is_not_this_machine(v4_lab: Lab, power: str) -> None:
    say(v4_lab, f"{v4_lab.sim.worker_id}$", "data.powerState", power)

    await assert_refused(v4_lab, AttachError, rf"worker VM .* is {power.lower()}, so it is not this machine.*--worker")


async def test_a_worker_vm_whose_power_state_is_not_told_is_used(v4_lab: Lab) -> None:
    say(v4_lab, f"{v4_lab.sim.worker_id}$", "data.powerState")

    assert (await v4_lab.capture()).kind == "full"


async def test_a_worker_vm_of_another_cluster_cannot_read(v4_lab: Lab) -> None:
    other = "11111111-2222-4333-8444-555555555555"
    say(v4_lab, f"{v4_lab.sim.worker_id}$", "data.cluster", {"extId": other})

    await assert_refused(v4_lab, AttachError, rf"on\s+cluster {other}.*use a worker VM of the first")


async def test_a_cluster_that_is_not_told_is_not_another_one(v4_lab: Lab) -> None:
    say(v4_lab, f"{v4_lab.sim.worker_id}$", "data.cluster")

    assert (await v4_lab.capture()).kind == "full"


async def test_a_disk_on_external_storage_is_refused(v4_lab: Lab) -> None:
    say(v4_lab, VM_V4, "data.disks.0.backingInfo.externalStorageInfo", {"volumeName": "flex-01"})

    await assert_refused(v4_lab, NtxError, r"scsi\.0 \(flex-01\) on external storage.*move it to a storage container")


async def test_a_vm_on_its_way_to_another_cluster_is_captured_later(v4_lab: Lab) -> None:
    say(v4_lab, VM_V4, "data.isCrossClusterMigrationInProgress", True)

    await assert_refused(v4_lab, PrismBusy, "is being moved to another cluster: capture it when it is there")


@pytest.mark.parametrize("attach", ["mount", "hot-add"])
async def test_a_disk_that_v2_knows_by_its_address_alone_is_found(
    simulator: Simulator, repository: Repository, attach: str
) -> None:
    lab = await open_lab(simulator, "v3", repository, attach=attach)
    say(lab, VM_V2, "vm_disk_info.*.disk_address.device_uuid")

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vm_disk_info.*.disk_address", None),
        ("vm_disk_info.*.disk_address.vmdisk_uuid", None),
        ("vm_disk_info", None),
        ("vm_disk_info.0.size", MIB),
    ],
)
async def test_a_disk_whose_file_v2_does_not_name_is_refused_before_the_snapshot(
    v3_hot_add_lab: Lab, field: str, value: object
) -> None:
    say(v3_hot_add_lab, VM_V2, "vm_disk_info.*.disk_address.device_uuid")
    say(v3_hot_add_lab, VM_V2, field, value)

    await assert_refused(v3_hot_add_lab, NtxError, r"names no storage file of scsi\.0 .*Prism Central that has v4")


async def test_a_hypervisor_that_is_not_ours_is_refused_and_one_that_is_not_told_is_taken(v3_hot_add_lab: Lab) -> None:
    lab = v3_hot_add_lab
    say(lab, VM_V3, "status.resources.hypervisor_type", "ESX")
    await assert_refused(lab, NtxError, "runs on ESX: only VMs on AHV")
    lab.sim.faults.answers.clear()
    say(lab, VM_V3, "status.resources.hypervisor_type")

    assert (await lab.capture()).kind == "full"


@pytest.fixture
async def mounted(simulator: Simulator, repository: Repository, tmp_path: Path) -> Lab:
    """A lab that reads below a folder of its own, where nothing is mounted yet."""
    lab = await open_lab(simulator, "v3", repository, attach="mount")
    (tmp_path / "mnt").mkdir()
    lab.attacher = ContainerMount(lab.prism, AttachOptions(containers=tmp_path / "mnt"))
    return lab


async def test_containers_that_are_not_mounted_are_refused(
    mounted: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tried, "KEPT_S", 0.0)  # what was wrong a moment ago is looked at again
    default, fast = tmp_path / "mnt" / "default", tmp_path / "mnt" / "fast"

    await assert_refused(
        mounted, AttachError, r"storage container 'default'.*cannot read .*mnt/default.*mount it there"
    )
    default.mkdir()
    await assert_refused(mounted, AttachError, r"mnt/default is empty or something else: mount the container there")
    (default / ".acropolis").mkdir()
    await assert_refused(mounted, AttachError, r"storage container 'fast'.*allow-list")
    fast.symlink_to(mounted.sim.world.layout.containers / "fast")
    await assert_refused(mounted, AttachError, r"mnt/fast leads to .*, outside of .*mnt: not followed")


async def test_a_container_whose_name_is_not_told_is_not_looked_at(lab: Lab) -> None:
    say(lab, VM_V3, "status.resources.disk_list.*.storage_config.storage_container_reference.name")

    assert (await lab.capture()).kind == "full"


# -- the Prism Element that computes changed regions (v4)


@pytest.fixture(params=["first", "incremental"])
async def untrusting(request: pytest.FixtureRequest, simulator: Simulator, repository: Repository) -> Lab:
    """A lab that trusts the Prism Central alone, for a first capture and for one that has a reference."""
    count = 0
    if request.param == "incremental":
        trusting = await open_lab(simulator, "v4", repository, attach="hot-add")
        await trusting.capture()
        count = 1
    lab = await open_lab(simulator, "v4", repository, attach="hot-add", elements=Trust(fingerprints=("ab" * 32,)))
    assert len(lab.points()) == count
    lab.sim.requests.clear()
    return lab


async def test_an_element_that_is_not_trusted_is_refused_before_the_freeze(untrusting: Lab) -> None:
    lab = untrusting
    before = len(lab.points())

    for attempt in (lambda: plan_capture(lab.prism, lab.repository, lab.vm_id, CaptureOptions()), lab.capture):
        with pytest.raises(PrismConnectionError, match=r"^Prism 127\.0\.0\.2:.*not trusted.*--element-fingerprint"):
            await attempt()

    assert posts(lab) == []
    lab.assert_clean(points=before)


@pytest.mark.parametrize("untrusting", ["incremental"], indirect=True)
async def test_a_scan_needs_no_element(untrusting: Lab) -> None:
    assert (await untrusting.capture(scan=True)).kind == "incremental"


@pytest.mark.parametrize("kind", ["nothing", "empty_body"])
async def test_a_discovery_that_says_nothing_names_the_vm_and_the_scan(v4_lab: Lab, kind: str) -> None:
    lab = v4_lab
    await lab.capture()
    lab.sim.requests.clear()
    lab.sim.faults.answers.append(AnswerFault(path=r"discover-cluster$", method="POST", count=-1, kind=kind))

    for attempt in (
        lambda: plan_capture(lab.prism, lab.repository, lab.vm_id, CaptureOptions()),
        lab.capture,
    ):
        with pytest.raises(PrismAnswerError, match=rf"^VM 'db01' \({lab.vm_id}\): .*; --scan reads the disks instead$"):
            await attempt()

    assert posts(lab) == []
    assert (await lab.capture(scan=True)).kind == "incremental"


async def test_nobody_where_discovery_leads_ends_the_plan(v4_lab: Lab) -> None:
    await v4_lab.capture()
    lab = await open_lab(v4_lab.sim, "v4", v4_lab.repository, attach="hot-add")
    lab.sim.requests.clear()
    lab.sim.faults.answers.append(
        AnswerFault(path=r"discover-cluster$", count=-1, field="data.clusterIp.ipv4.value", value="127.0.0.9")
    )

    for attempt in (lambda: plan_capture(lab.prism, lab.repository, lab.vm_id, CaptureOptions()), lab.capture):
        with pytest.raises(PrismConnectionError, match=r"127\.0\.0\.9.*no connection"):
            await attempt()

    assert posts(lab) == []
    lab.assert_clean(points=1)


@pytest.mark.parametrize("address", ["127.0.0.9", "no address", None])
async def test_nobody_at_the_address_of_the_cluster_is_a_warning_at_most(
    v4_lab: Lab, caplog: pytest.LogCaptureFixture, address: str | None
) -> None:
    say(v4_lab, r"/config/clusters/[^/]+$", "data.network.externalAddress.ipv4.value", address)

    point = await v4_lab.capture()

    assert v4_lab.stored(point) == v4_lab.guest()
    told = [record.getMessage() for record in caplog.records if "changed regions will be asked" in record.getMessage()]
    assert len(told) == (address == "127.0.0.9")


async def test_an_element_is_reached_once(v4_lab: Lab) -> None:
    await v4_lab.capture()
    await v4_lab.capture()

    assert [request.path for request in v4_lab.sim.requests].count("/") == 1
