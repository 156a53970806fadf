"""The main job by hand: what the documents tell a newcomer to type."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from ntxengine.sim import Simulator
from tests.cli.ntx import COMMAND, Ran, assert_refused, environment, ntx
from tests.support.servers import require

BLOCK = 65536


class Hand:
    """Types commands against one cluster and one repository."""

    def __init__(self, cluster: Simulator, repository: Path) -> None:
        require("qemu-nbd", "qemu-img", "setpriv")
        self.env = {**cluster.env, "NTX_REPOSITORY": str(repository)}
        self.data = cluster.config.vms[0].disks[1].path
        self.repository = repository

    def ntx(self, *arguments: str | Path) -> Ran:
        return ntx(*arguments, env=self.env)

    def good(self, *arguments: str | Path) -> Ran:
        ran = self.ntx(*arguments)
        assert ran.code == 0, ran.err
        return ran

    def write(self, offset: int, data: bytes) -> None:
        with self.data.open("r+b") as disk:
            disk.seek(offset)
            disk.write(data)


@pytest.fixture
def hand(cluster: Simulator, tmp_path: Path) -> Hand:
    return Hand(cluster, tmp_path / "repository")


def test_capture_change_capture_verify_restore(hand: Hand, tmp_path: Path) -> None:
    first = hand.good("capture", "demo", "--json").json
    hand.write(10 * BLOCK, os.urandom(BLOCK))
    frozen = hand.data.read_bytes()
    second = hand.good("capture", "demo", "--json").json

    points = hand.good("points", "--json").json["points"]
    verified = hand.good("verify", "--all")
    restored = hand.good("restore", "demo", tmp_path / "out", "--verify", "--json").json

    assert [point["kind"] for point in points] == ["full", "incremental"]
    assert [point["point_id"] for point in points] == [first["point_id"], second["point_id"]]
    assert second["tracking"] == "v4-changed-regions"
    assert points[0]["created_at"] <= points[1]["created_at"]
    assert all(isinstance(disk["size"], int) for point in points for disk in point["disks"])
    assert "Traceback" not in verified.err
    assert restored["point_id"] == second["point_id"]
    assert (tmp_path / "out" / "scsi.1.raw").read_bytes() == frozen
    assert all(disk["verified"] for disk in restored["disks"])


def test_report_tells_what_was_sent_and_why(hand: Hand) -> None:
    hand.good("capture", "demo", "--consistency", "crash")

    report = hand.good("points", "--report").out

    assert "full of demo" in report
    assert "consistency: crash" in report
    assert "changes found by: allocated" in report
    assert max(map(len, report.splitlines())) <= 120


def test_dry_run_of_a_capture_makes_nothing(hand: Hand, cluster: Simulator) -> None:
    points = len(cluster.world.state.points)

    plan = hand.good("capture", "demo", "-n", "--json").json

    assert plan["dry_run"] is True
    assert plan["parent_id"] is None
    assert [disk["way"] for disk in plan["disks"]] == ["allocated", "allocated"]
    assert not hand.repository.exists()
    assert len(cluster.world.state.points) == points


def test_flipped_bit_is_found_and_named(hand: Hand) -> None:
    hand.write(0, os.urandom(2 * BLOCK))
    good = hand.good("capture", "demo", "--json").json
    hand.write(0, os.urandom(BLOCK))
    bad = hand.good("capture", "demo", "--json").json
    image = Path(next(disk["path"] for disk in bad["disks"] if disk["label"] == "scsi.1"))
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 512 512", str(image)], check=True, capture_output=True
    )

    alone = hand.ntx("verify", bad["point_id"])
    together = hand.ntx("verify", "--all")
    one_good = hand.ntx("verify", good["point_id"])

    assert alone.code == 1
    assert "scsi.1" in alone.err
    assert "offset 0" in alone.err
    assert together.code == 3
    assert bad["point_id"] in together.err
    assert one_good.code == 0


def test_a_point_that_cannot_be_read_fails_the_verification_of_all(hand: Hand) -> None:
    hand.good("capture", "demo")
    bad = hand.good("capture", "demo", "--json").json
    next(hand.repository.glob(f"*/{bad['point_id']}/point.json")).write_text("")

    together = hand.ntx("verify", "--all", "--json")

    assert together.code == 3
    assert [point["right"] for point in together.json["points"]] == [True]
    assert bad["point_id"] in together.json["damaged"][0]
    assert (together.json["error"]["class"], together.json["error"]["exit_code"]) == ("SomeFailed", 3)
    assert bad["point_id"] in together.err


def test_verifying_one_disk_of_all_points_looks_at_those_that_have_it(hand: Hand) -> None:
    hand.good("capture", "demo")

    one = hand.good("verify", "--all", "--disk", "scsi.1", "--disk", "scsi.9", "--json").json
    none = hand.ntx("verify", "--all", "--disk", "scsi.9")

    assert [disk["label"] for point in one["points"] for disk in point["disks"]] == ["scsi.1"]
    assert none.code == 10
    assert "scsi.9" in none.err


def test_strange_name_stays_a_name(hand: Hand, cluster: Simulator) -> None:
    strange = cluster.config.vms[1]

    captured = hand.good("capture", strange.id or "", "--json").json
    listed = hand.good("points").out

    assert captured["vm_name"] == strange.name
    assert Path(captured["path"]).is_relative_to(hand.repository)
    assert "\x1b" not in listed


def test_restore_does_not_replace_files_unless_told(hand: Hand, tmp_path: Path) -> None:
    hand.good("capture", "demo")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scsi.0.raw").write_text("mine")

    assert_refused(hand.ntx("restore", "demo", tmp_path / "out"), 2, "exists already")
    assert (tmp_path / "out" / "scsi.0.raw").read_text() == "mine"
    hand.good("restore", "demo", tmp_path / "out", "--overwrite", "--disk", "scsi.0")
    assert (tmp_path / "out" / "scsi.0.raw").stat().st_size == 256 * 1024**2
    assert not (tmp_path / "out" / "scsi.1.raw").exists()


def test_dry_run_of_a_restore_names_the_files(hand: Hand, tmp_path: Path) -> None:
    hand.good("capture", "demo")

    plan = hand.good("restore", "demo", tmp_path / "out", "-n", "--json").json

    assert [Path(disk["path"]).name for disk in plan["disks"]] == ["scsi.0.raw", "scsi.1.raw"]
    assert not (tmp_path / "out").exists()


def test_capture_whose_output_nobody_reads_is_whole(hand: Hand, tmp_path: Path) -> None:
    capture = f"{shlex.join(COMMAND)} capture demo --progress plain"
    command = f"{capture} <&- 2>&1 >/dev/null | head -c 1; exit ${{PIPESTATUS[0]}}"

    done = subprocess.run(["bash", "-c", command], env=environment(hand.env), capture_output=True, check=False)

    assert done.returncode == 0
    assert len(hand.good("verify", "--all", "--json").json["points"]) == 1
    assert not list(hand.repository.glob("*/.unfinished-*"))


def test_interrupted_capture_leaves_nothing_or_what_the_next_goes_on_with(hand: Hand, cluster: Simulator) -> None:
    hand.write(0, os.urandom(4 * 1024**2))
    points = len(cluster.world.state.points)
    arguments = ["capture", "demo", "--bandwidth", "256K", "--request-size", "64K", "--progress", "json"]
    process = subprocess.Popen(
        [*COMMAND, *arguments], env=environment(hand.env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if json.loads(line).get("name") == "copy":
            break

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert out == ""
    assert "interrupted by SIGINT" in err.splitlines()[-1]
    found = hand.good("points", "--json").json
    assert found["points"] == []
    assert len(found["interrupted"]) == err.count("is kept as point")
    hand.good("sweep", "--unfinished")
    assert len(cluster.world.state.points) == points
    assert not list(hand.repository.glob("*/.unfinished-*"))


def test_sweep_removes_what_a_kill_left(hand: Hand, cluster: Simulator) -> None:
    hand.write(0, os.urandom(4 * 1024**2))
    before = len(cluster.world.state.points)
    arguments = ["capture", "demo", "--bandwidth", "256K", "--request-size", "64K", "--progress", "json"]
    process = subprocess.Popen(
        [*COMMAND, *arguments], env=environment(hand.env), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if json.loads(line).get("name") == "copy":
            break
    process.kill()
    process.communicate()
    assert len(cluster.world.state.points) == before + 1

    kept = hand.good("sweep", "--json").json
    plan = hand.good("sweep", "-n", "--unfinished", "--json").json
    swept = hand.good("sweep", "--unfinished", "--json").json
    again = hand.good("sweep", "--json").json

    assert len(kept["resumable"]) == 1
    assert {each["kind"] for each in kept["removed"]} <= {"disk"}
    assert {each["kind"] for each in plan["removed"]} >= {"recovery-point", "unfinished-point"}
    assert plan["removed"] == swept["removed"]
    assert again["removed"] == []
    assert len(cluster.world.state.points) == before
    assert not list(hand.repository.glob("*/.unfinished-*"))


def test_simulator_serves_what_a_file_describes(tmp_path: Path) -> None:
    config = tmp_path / "cluster.yaml"
    config.write_text("vms:\n  - name: db01\n    disks:\n      - {path: a.raw, size: 1MiB}\n")
    process = subprocess.Popen(
        [*COMMAND, "sim", "--config", str(config), "--state", str(tmp_path / "state"), "--port", "0", "--json"],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    served = json.loads(process.stdout.readline())

    try:
        names = [vm["vm_name"] for vm in ntx("vms", "--json", env=served["environment"]).json["vms"]]
    finally:
        process.terminate()
        process.communicate(timeout=30)

    assert names == ["db01", "ntx-worker"]
    assert (tmp_path / "a.raw").stat().st_size == 1024**2
    assert process.returncode == 0
