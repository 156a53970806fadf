"""`ntx capture --together`: several VMs at one moment, or a refusal that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.sim import SimConfig, Simulator, run_in_thread
from ntxengine.sim.config import DiskConfig, GroupConfig, GuestToolsConfig, VmConfig
from tests.cli.ntx import assert_refused, ntx
from tests.cli.test_json import problems
from tests.cli.test_several import TWIN, Backup
from tests.support.rates import without_rates


@pytest.fixture
def backup(cluster: Simulator, tmp_path: Path) -> Backup:
    return Backup(cluster, tmp_path / "repository")


def test_several_vms_are_frozen_by_one_recovery_point(backup: Backup) -> None:
    planned = backup.capture("demo", TWIN, "--together", "-n")
    ran = backup.capture("demo", TWIN, "--together", "--vms", "2", "--json")

    assert (planned.code, ran.code) == (0, 0), planned.err + ran.err
    assert "all 2 of them at one moment" in planned.err
    assert problems(ran.json, "capture.json") == []
    first, second = ran.json["points"]
    assert first["recovery_point_id"] == second["recovery_point_id"]
    assert first["together"] == second["together"]
    assert [member["vm_id"] for member in first["together"]] == [backup.demo, TWIN]
    assert backup.captured() == [TWIN, backup.demo]


def test_one_that_is_not_there_stops_all(backup: Backup) -> None:
    ran = backup.capture("demo", "nobody", "--together")

    assert ran.code == 10
    assert "nobody" in ran.err
    assert not backup.repository.exists()


def test_one_vm_is_not_several(backup: Backup) -> None:
    assert_refused(backup.capture("demo", "--together"), 2, "--together is for two VMs or more")


@pytest.fixture
def unlike(tmp_path: Path) -> Iterator[Simulator]:
    """A cluster with a VM that can be quiesced, one that cannot, and one that has only a volume group."""
    disks = [DiskConfig(tmp_path / f"disk{number}.raw", size=1024**2) for number in range(3)]
    vms = [
        VmConfig("db", disks=disks[:1], guest_tools=GuestToolsConfig(), categories=["Role=db"]),
        VmConfig("web", disks=disks[1:2]),
        VmConfig("files"),
    ]
    groups = [GroupConfig("shares", disks=disks[2:], vms=["files"])]
    config = without_rates(SimConfig(vms=vms, volume_groups=groups))
    with run_in_thread(config, tmp_path / "state") as sim:
        yield sim


def test_a_dry_run_refuses_what_the_capture_refuses(unlike: Simulator, tmp_path: Path) -> None:
    words = ("capture", "--category", "Role=db", "--together", "--to", str(tmp_path / "repository"))

    for ran in (ntx(*words, env=unlike.env), ntx(*words, "-n", env=unlike.env)):
        assert ran.code == 2
        assert "1 VM to be frozen together" in ran.err


def test_a_dry_run_says_the_consistency_that_all_will_have(unlike: Simulator, tmp_path: Path) -> None:
    words = ("capture", "db", "web", "--together", "-n", "--json", "--to", str(tmp_path / "repository"))

    planned = ntx(*words, env=unlike.env)

    assert planned.code == 0, planned.err
    assert [plan["consistency"] for plan in planned.json["plans"]] == ["crash", "crash"]
    assert "VM 'web', which is frozen at the same moment" in planned.json["plans"][0]["consistency_reason"]


def test_vms_of_volume_groups_alone_are_left_out_where_those_are(unlike: Simulator, tmp_path: Path) -> None:
    words = ("capture", "--all", "--no-volume-groups", "--json", "--to", str(tmp_path / "repository"))

    ran = ntx(*words, env=unlike.env)

    assert ran.code == 0, ran.err
    assert sorted(point["vm_name"] for point in ran.json["points"]) == ["db", "web"]
    reasons = {left_out["vm_name"]: left_out["reason"] for left_out in ran.json["left_out"]}
    assert reasons["files"] == "only volume groups, which are not wanted"


def test_v3_cannot_and_says_what_can(backup: Backup, cluster: Simulator) -> None:
    env = {**backup.env, "NTX_PRISM": cluster.element_url}

    ran = ntx("capture", "demo", TWIN, "--together", "--api", "v3", env=env)

    assert ran.code == 2
    assert "a snapshot of v3 holds one VM" in ran.err
