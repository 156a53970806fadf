"""`ntx capture` of several VMs: what happens to one of them never stops the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from ntxengine.repository.store import PointStore
from ntxengine.sim import Simulator
from tests.cli.ntx import COMMAND, Ran, assert_refused, environment, ntx
from tests.cli.test_json import problems
from tests.support.servers import require

STRANGE, TWIN, OTHER_TWIN = (f"00000000-0000-4000-8000-00000000000{number}" for number in range(3))


class Backup:
    """Captures VMs of one cluster into one repository."""

    def __init__(self, cluster: Simulator, repository: Path) -> None:
        require("qemu-nbd", "qemu-img", "setpriv")
        self.env = {**cluster.env, "NTX_REPOSITORY": str(repository)}
        self.repository = repository
        self.demo = cluster.vm_id("demo")

    def capture(self, *arguments: str) -> Ran:
        return ntx("capture", *arguments, env=self.env)

    def captured(self) -> list[str]:
        """Return of which VM each point is."""
        return sorted(point.vm_id for point in PointStore.open(self.repository).points())


@pytest.fixture
def backup(cluster: Simulator, tmp_path: Path) -> Backup:
    return Backup(cluster, tmp_path / "repository")


def test_several_vms_are_captured_and_each_only_once(backup: Backup) -> None:
    ran = backup.capture("demo", TWIN, backup.demo.upper(), "demo", "--json")

    assert ran.code == 0, ran.err
    assert [point["vm_id"] for point in ran.json["points"]] == [backup.demo, TWIN]
    assert ran.json["failed"] == []
    assert problems(ran.json, "capture.json") == []
    assert backup.captured() == [TWIN, backup.demo]


def test_all_are_those_with_disks_but_the_worker(backup: Backup) -> None:
    ran = backup.capture("--all", "--vms", "3")

    assert ran.code == 0, ran.err
    assert backup.captured() == sorted([STRANGE, TWIN, OTHER_TWIN, backup.demo])
    assert "left out: ntx-worker (the worker VM" in ran.err
    assert ran.out.count("captured") == 4
    assert "copy demo scsi.0" in ran.err
    assert "twin (00000000)" in ran.err
    assert {"plan: demo", "freeze: demo (application-consistent)"} <= set(ran.err.splitlines())


def test_one_that_fails_does_not_stop_the_others(backup: Backup) -> None:
    ran = backup.capture("no-such-vm", "twin", TWIN, "--json")

    assert ran.code == 3
    assert backup.captured() == [TWIN]
    failed = {each["vm_name"]: each["error"] for each in ran.json["failed"]}
    assert failed["no-such-vm"]["exit_code"] == 10
    assert OTHER_TWIN in failed["twin"]["message"]
    assert problems(ran.json, "capture.json") == []
    assert "VM 'no-such-vm' was not captured" in ran.err
    assert ran.err.splitlines()[-1] == "ntx: 2 of 3 VMs not captured: no-such-vm, twin"


def test_one_that_is_being_captured_fails_alone(backup: Backup) -> None:
    with PointStore.create(backup.repository).lock(TWIN):
        together = backup.capture(TWIN, OTHER_TWIN, "--json", "-q")
        alone = backup.capture(TWIN)

    assert together.code == 3
    assert backup.captured() == [OTHER_TWIN]
    assert [each["error"]["exit_code"] for each in together.json["failed"]] == [11]
    assert TWIN in together.err
    assert_refused(alone, 11, TWIN)


def test_if_all_fail_the_exit_code_is_that_of_the_first(backup: Backup) -> None:
    ran = backup.capture("no-such-vm", "twin")

    assert ran.code == 10
    assert backup.captured() == []


def test_the_summary_names_what_failed(backup: Backup) -> None:
    ran = backup.capture(TWIN, "no-such-vm", "-q")

    assert ran.code == 3
    rows = [line for line in ran.out.splitlines() if "twin" in line or "no-such-vm" in line]
    assert rows[0].startswith("twin")
    assert "no VM is named" in ran.out


def test_dry_run_of_several_makes_nothing(backup: Backup) -> None:
    table = backup.capture("--all", "-n")
    plan = backup.capture("demo", "no-such-vm", "-n", "--json")

    assert table.code == 0
    assert table.out.count("would make a full point of") == 4
    assert plan.code == 3
    assert [each["vm_name"] for each in plan.json["plans"]] == ["demo"]
    assert problems(plan.json, "capture.json") == []
    assert not backup.repository.exists()


@pytest.mark.parametrize(("arguments", "words"), [((), "--all"), (("--all", "demo"), "contradict")])
def test_what_to_capture_must_be_said(arguments: tuple[str, ...], words: str, backup: Backup) -> None:
    assert_refused(backup.capture(*arguments), 2, words)


def test_an_interrupt_stops_all_and_leaves_no_more_than_it_says(backup: Backup, cluster: Simulator) -> None:
    for vm in cluster.config.vms[:3]:
        with vm.disks[-1].path.open("r+b") as disk:
            disk.write(os.urandom(1024**2))
    points = len(cluster.world.state.points)
    slow = ("--bandwidth", "128K", "--request-size", "64K", "--progress", "json")
    process = subprocess.Popen(
        [*COMMAND, "capture", "demo", STRANGE, TWIN, "--vms", "2", *slow],
        env=environment(backup.env),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    copying = set()
    for line in process.stderr:
        event = json.loads(line)
        if event.get("name") == "copy":
            copying.add(event["detail"].split()[0])
        if len(copying) == 2:
            break

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert backup.captured() == []
    kept = err.count("is kept as point")  # of those that had come to a checkpoint
    assert len(list(backup.repository.glob("*/.unfinished-*"))) == kept
    assert len(cluster.world.state.points) == points + kept
    assert not cluster.world.state.clones
