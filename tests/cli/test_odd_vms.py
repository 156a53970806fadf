"""VMs that cannot be read, on the command line: the others are listed and captured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.config import DiskConfig, VmConfig
from ntxengine.sim.simulator import run_in_thread
from ntxengine.units import MIB
from tests.cli.ntx import ntx
from tests.cli.test_json import problems
from tests.support.servers import require


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    folder = tmp_path_factory.mktemp("odd")
    vms = [
        VmConfig("fine", disks=[DiskConfig(folder / "fine.raw", size=MIB)]),
        VmConfig("odd", disks=[DiskConfig(folder / "odd.raw", size=MIB)], odd=["no_address"]),
        VmConfig("lost", odd=["no_id"]),
    ]
    with run_in_thread(SimConfig(vms=vms), folder / "sim") as sim:
        yield sim


def test_the_others_are_listed_and_the_odd_ones_named_once(cluster: Simulator) -> None:
    ran = ntx("vms", env=cluster.env)

    assert ran.code == 0, ran.err
    assert "fine" in ran.out
    assert cluster.vm_id("odd") not in ran.out
    (warning,) = [line for line in ran.err.splitlines() if "cannot be read" in line]
    assert warning.startswith("warning: 2 VMs cannot be read and left out: 'lost' (no id): ")
    assert f"'odd' ({cluster.vm_id('odd')}): " in warning
    assert "diskAddress has no busType or no index" in warning


def test_json_has_them_with_the_reason(cluster: Simulator) -> None:
    ran = ntx("vms", "--json", env=cluster.env)

    assert problems(ran.json, "vms.json") == []
    assert [vm["vm_name"] for vm in ran.json["vms"]] == ["fine", "ntx-worker"]
    assert [(vm["vm_name"], vm["vm_id"]) for vm in ran.json["odd"]] == [("lost", None), ("odd", cluster.vm_id("odd"))]
    assert all("POST" in vm["reason"] or "GET" in vm["reason"] for vm in ran.json["odd"])


def test_a_capture_of_all_says_which_failed(cluster: Simulator, tmp_path: Path) -> None:
    require("qemu-nbd", "qemu-img")

    ran = ntx("capture", "--all", "--to", str(tmp_path / "repository"), "--json", env=cluster.env)

    assert ran.code == 3, ran.err
    assert problems(ran.json, "capture.json") == []
    assert [point["vm_name"] for point in ran.json["points"]] == ["fine"]
    assert [(vm["vm_name"], vm["vm_id"]) for vm in ran.json["failed"]] == [
        ("lost", None),
        ("odd", cluster.vm_id("odd")),
    ]
    assert "VM 'odd' was not captured: " in ran.err


@pytest.mark.parametrize("by", ["name", "id"])
def test_an_odd_vm_fails_when_it_is_asked_for(cluster: Simulator, tmp_path: Path, by: str) -> None:
    named = "odd" if by == "name" else cluster.vm_id("odd")

    ran = ntx("capture", named, "--to", str(tmp_path / "repository"), env=cluster.env)

    assert ran.code == 1
    assert "diskAddress has no busType or no index" in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "repository").exists()


def test_a_capture_by_name_does_not_list_the_world(cluster: Simulator, tmp_path: Path) -> None:
    before = len(cluster.requests)

    ran = ntx("capture", "fine", "--to", str(tmp_path / "repository"), "--dry-run", env=cluster.env)

    assert ran.code == 0, ran.err
    asked = [one.path.rpartition("/")[2] for one in list(cluster.requests)[before:] if "/ahv/config/vms" in one.path]
    # The probe lists one VM, the look-up one more; the rest are single VMs.
    assert asked.count("vms") <= 3
