"""A dry run finds out what can be found out without changing anything, and fails where the real one would."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from ntxengine.cli import space
from ntxengine.errors import TargetError
from ntxengine.repository.store import PointStore
from ntxengine.sim import Simulator
from tests.cli.ntx import Ran, assert_refused, ntx
from tests.cli.test_json import problems
from tests.repository.builders import ModelDisk, Write, capture
from tests.support.servers import require


class Hand:
    """Types commands against one cluster and one repository."""

    def __init__(self, cluster: Simulator, repository: Path) -> None:
        require("qemu-nbd", "qemu-img", "setpriv")
        self.env = {**cluster.env, "NTX_REPOSITORY": str(repository)}
        self.repository = repository

    def ntx(self, *arguments: str | Path) -> Ran:
        return ntx(*arguments, env=self.env)


@pytest.fixture
def hand(cluster: Simulator, tmp_path: Path) -> Hand:
    return Hand(cluster, tmp_path / "repository")


def test_a_dry_run_of_a_capture_tells_depth_damage_and_room(hand: Hand) -> None:
    first = hand.ntx("capture", "demo", "-n", "--json")
    assert not hand.repository.exists()
    point = hand.ntx("capture", "demo", "--no-verify", "--json").json

    again = hand.ntx("capture", "demo", "-n", "--json")
    full = hand.ntx("capture", "demo", "-n", "--json", "--full", "--reason", "why not")
    deep = hand.ntx("capture", "demo", "-n", "--max-chain", "1")
    shutil.move(point["disks"][0]["path"], hand.repository / "elsewhere")
    damaged = hand.ntx("capture", "demo", "-n", "--json")
    refused = hand.ntx("capture", "demo", "-n", "--on-lost-tracking", "fail")

    assert (first.code, first.json["full_reason"]) == (0, "")
    assert first.json["bytes_estimated"] == sum(int(0.9 * disk["size"]) for disk in first.json["disks"])
    assert first.json["bytes_free"] > 0
    assert "(an estimate) of the" in first.err
    assert "are free; how much is needed cannot be told" in again.err
    assert (again.json["parent_id"], again.json["full_reason"]) == (point["point_id"], "")
    assert full.json["full_reason"] == "a full point was asked for: why not"
    allocated = sum(disk["bytes_allocated"] for disk in point["report"]["disks"])
    assert full.json["bytes_estimated"] == allocated > 0
    assert deep.code == 0
    assert "full although there are points: the chain of point" in deep.out
    assert (damaged.code, damaged.json["parent_id"]) == (0, None)
    assert "is missing" in damaged.json["full_reason"]
    assert_refused(refused, 1, "is missing", "--full")
    assert len(PointStore.open(hand.repository).points()) == 1


@pytest.mark.parametrize("arguments", [["demo"], ["demo", "twin"]], ids=["one", "several"])
def test_a_dry_run_of_a_capture_looks_for_the_worker_and_the_directories(
    hand: Hand, tmp_path: Path, arguments: list[str]
) -> None:
    missing = tmp_path / "missing"

    no_worker = hand.ntx("capture", *arguments, "-n", "--worker", "nobody")
    no_devices = hand.ntx("capture", *arguments, "-n", "--device-dir", missing)
    hand.env["NTX_WORKER"] = "typo"
    typo_in_variable = hand.ntx("capture", *arguments, "-n")
    for name in ("NTX_WORKER", "NTX_CONTAINERS"):
        hand.env.pop(name, None)
    no_hot_add = hand.ntx("capture", *arguments, "-n", "--source", "hotadd")
    no_mounts = hand.ntx("capture", *arguments, "-n", "--source", "path")
    no_containers = hand.ntx("capture", *arguments, "-n", "--source", "path", "--containers", missing)

    assert_refused(no_worker, 10, "nobody")
    assert_refused(typo_in_variable, 10, "'typo'", "(NTX_WORKER=typo)")
    assert_refused(no_devices, 2, "--device-dir", str(missing))
    assert_refused(no_hot_add, 2, "--source hotadd", "--worker")
    assert_refused(no_mounts, 2, "--source path", "--containers")
    assert_refused(no_containers, 2, "--containers", str(missing))


def test_a_dry_run_of_a_restore_fails_where_the_restore_would(tmp_path: Path) -> None:
    repository = PointStore.create(tmp_path / "repo")
    point = capture(repository, ModelDisk(1 << 20), [Write(0, 512, 1), Write(1 << 19, 512, 2)])
    command = ("restore", point.id, tmp_path / "out", "--from", repository.path, "-n", "--json")

    free = ntx(*command)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scsi.0.raw").write_text("x")
    taken = ntx(*command)
    allowed = ntx(*command, "--overwrite")
    point.manifest_path(point.disks[0]).unlink()
    damaged = ntx(*command, "--overwrite")
    salvage = ntx(*command, "--overwrite", "--no-check")

    assert (free.code, free.json["bytes_estimated"]) == (0, 2 * 65536)
    assert taken.code == 2
    assert "exists already" in taken.err
    assert "--overwrite" in taken.err
    assert allowed.code == 0
    assert_refused(damaged, 1, "manifest", "--no-check")
    assert (salvage.code, salvage.json["bytes_estimated"]) == (0, None)


def test_no_room_for_empty_disks_is_an_error_and_an_estimate_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = SimpleNamespace(warning=print, note=lambda text: None)
    monkeypatch.setattr(space, "free_bytes", lambda path: 2 << 20)

    space.say_space(space.space_for([3 << 20] * 2, tmp_path), screen)  # type: ignore[arg-type]

    assert "about 6.0 MiB (an estimate) of the 2.0 MiB that are free: it may not fit" in capsys.readouterr().out
    monkeypatch.setattr(space, "free_bytes", lambda path: 300 << 10)
    with pytest.raises(TargetError, match=r"300\.0 KiB free, too little for 2 disks"):
        space.space_for([3 << 20] * 2, tmp_path)


def test_the_way_to_the_bytes_is_said_before_and_after_and_nothing_is_made_where_it_cannot_be_used(hand: Hand) -> None:
    plan = hand.ntx("capture", "demo", "-n", "--source", "hotadd", "--json")
    said = hand.ntx("capture", "demo", "-n")
    hand.env["NTX_SOURCE"] = "path"
    refused = hand.ntx("capture", "demo", "-n")
    nothing = hand.ntx("capture", "demo")
    hand.env["NTX_SOURCE"] = "auto"
    point = hand.ntx("capture", "demo", "--json")
    shown = hand.ntx("points", "demo", "--report")

    assert (plan.code, plan.json["source"], plan.json["locality"]) == (0, "hotadd", "local")
    assert f"read through: hot-add (local: on the host of the VM {plan.json['read_host']})" in said.out
    for ran in (refused, nothing):
        assert_refused(ran, 2, "--source path: ", "tells no paths")
    assert len(PointStore.open(hand.repository).points()) == 1
    report = point.json["report"]
    assert report["source"] == "hotadd"
    assert {(disk["locality"], disk["read_host"]) for disk in report["disks"]} == {("local", plan.json["read_host"])}
    assert "read through: hot-add (local: on the host of the VM" in shown.out


def test_what_the_cluster_keeps_until_somebody_approves_is_said_and_nothing_failed(
    hand: Hand, cluster: Simulator
) -> None:
    cluster.faults.secure_points = True
    point = hand.ntx("capture", "demo", "--json").json
    shutil.rmtree(point["path"])

    told = hand.ntx("sweep", "-n")
    told_as_json = hand.ntx("sweep", "-n", "--json")

    cluster.faults.secure_points = False
    assert (told.code, told_as_json.code) == (0, 0)
    (line,) = [line for line in told.err.splitlines() if "is kept by the cluster" in line]
    assert point["recovery_point_id"] in line
    assert "somebody has to approve its deletion in Prism" in line
    (kept,) = told_as_json.json["protected"]
    assert (kept["kind"], kept["recovery_point_id"]) == ("recovery-point", point["recovery_point_id"])
    assert not problems(told_as_json.json, "sweep.json")
    assert hand.ntx("sweep").code == 0
