"""The unit under a systemd that has really booted: the agent works with the rights that it gives, and no others."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.deploy.needs import Needs
from ntxengine.deploy.unit import ATTACHED_DISKS, UNIT, Filled, drop_ins, unit_text
from tests.deploy.service import AS_NTX, CONFIG, NTX, REPOSITORY, UNITS, Served, with_agent
from tests.support.booted import python_there
from tests.support.servers import require

MAX_EXPOSURE = {"the unit": 1.4, "with attached disks": 1.7}
"""As `systemd-analyze security` counts: 10 is a service without any limits."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with with_agent(tmp_path_factory.mktemp("systemd")) as machine:
        yield machine


def write_units(folder: Path, needs: Needs) -> Path:
    unit = folder / UNIT
    unit.write_text(unit_text(Filled(Path("/bin/true"), CONFIG)))
    (folder / f"{UNIT}.d").mkdir()
    for name, text in drop_ins(needs).items():
        (folder / f"{UNIT}.d" / name).write_text(text)
    return unit


@pytest.mark.parametrize("has_disks", [False, True])
def test_systemd_finds_no_mistake_in_it_and_little_exposure(tmp_path: Path, has_disks: bool) -> None:
    require("systemd-analyze")
    unit = write_units(tmp_path, Needs((Path("/backups"), Path("/a path/50% $x")), has_attached_disks=has_disks))

    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", unit], capture_output=True, text=True, check=True
    )

    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", said.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= MAX_EXPOSURE["with attached disks" if has_disks else "the unit"]


def test_a_service_may_do_what_the_agent_needs_and_nothing_else(machine: Served) -> None:
    rights = machine.root / "opt/rights.py"
    rights.write_text((Path(__file__).parent / "rights.py").read_text())
    (machine.root / "var/tmp/of-another").touch()
    text = unit_text(Filled(NTX, CONFIG)).replace("Type=notify", "Type=oneshot")
    text = re.sub(r"ExecStart=.*", f"ExecStart={python_there()} /opt/rights.py {REPOSITORY}/rights", text)
    text = re.sub(r"(Restart|WatchdogSec|RestartPreventExitStatus)=.*\n", "", text)
    (machine.root / UNITS / "rights.service").write_text(text + f"[Service]\nReadWritePaths={REPOSITORY}\n")
    machine.shell(f"install -d -o ntx {REPOSITORY}/rights; systemctl daemon-reload")

    machine.run("systemctl", "start", "rights", check=False)

    assert "as wanted" in machine.journal("rights"), machine.journal("rights")
    machine.shell(f"rm -r {REPOSITORY}/rights /var/lib/ntx")


@pytest.mark.parametrize("has_disks", [False, True])
def test_hot_added_disks_are_read_by_the_service_of_a_worker_vm_alone(machine: Served, has_disks: bool) -> None:
    name = f"disks-{has_disks}"
    # The disk of the repository, by a name that udev would give it.
    number = machine.repository.stat().st_dev
    major, minor = os.major(number), os.minor(number)
    machine.shell(f"test -b /dev/sdz || mknod -m 660 /dev/sdz b {major} {minor}; chgrp disk /dev/sdz")
    text = unit_text(Filled(NTX, CONFIG)).replace("Type=notify", "Type=oneshot")
    text = re.sub(r"ExecStart=.*", "ExecStart=/usr/bin/dd if=/dev/sdz of=/dev/null bs=4096 count=1", text)
    text = re.sub(r"(Restart|WatchdogSec|RestartPreventExitStatus)=.*\n", "", text)
    folder = machine.root / UNITS
    (folder / f"{name}.service").write_text(text)
    if has_disks:
        (folder / f"{name}.service.d").mkdir()
        (folder / f"{name}.service.d/disks.conf").write_text(drop_ins(Needs(has_attached_disks=True))[ATTACHED_DISKS])
    machine.run("systemctl", "daemon-reload")

    started = machine.run("systemctl", "start", name, check=False)

    assert (started.returncode == 0) is has_disks, machine.journal(name)


@pytest.mark.timeout(900)  # systemd waits, on a busy machine for long
@pytest.mark.slow
def test_the_agent_captures_drains_goes_on_after_a_hang_and_takes_a_new_file(machine: Served) -> None:
    def log() -> str:
        return machine.journal("ntx-agent")

    def capture() -> None:
        # By its socket, as soon as it knows which VMs there are.
        machine.until(lambda: machine.run(NTX, "agent", "run", "demo", check=False).returncode == 0, log)

    drop_in = machine.root / UNITS / f"{UNIT}.d/test.conf"
    drop_in.write_text("[Service]\nWatchdogSec=15s\nRestartSec=1s\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "ntx-agent")
    status = machine.run("cat", f"/proc/{machine.show('ntx-agent', 'MainPID')}/status").stdout
    capture()
    # A run is under way when the service is stopped: it has the time to end, and so have its programs.
    machine.until(lambda: list(machine.repository.glob("*/.unfinished-*")), log)
    machine.run("systemctl", "stop", "ntx-agent")
    stopped, at_first = log(), machine.points()

    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
    assert "1 runs have 120 s to end" in stopped
    assert len(at_first) == 1, stopped
    assert machine.show("ntx-agent", "Result") == "success"

    # What changed is captured; a new file is taken by a reload.
    machine.run("systemctl", "start", "ntx-agent")
    config = machine.root / CONFIG.relative_to("/")
    config.write_text(config.read_text().replace("keep_last: 3", "keep_last: 4"))
    machine.run("systemctl", "reload", "ntx-agent")
    machine.until(lambda: "was read anew: 1 jobs" in log(), log)
    machine.shell("dd if=/dev/urandom of=/srv/lab/disks/demo-data.raw bs=64k count=4 seek=9 conv=notrunc status=none")
    capture()
    machine.until(lambda: len(machine.points()) == 2, log)

    # It hangs: systemd ends it, and starts it anew.
    before = machine.show("ntx-agent", "MainPID")
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=SIGSTOP", "ntx-agent")
    machine.until(lambda: machine.show("ntx-agent", "NRestarts") == "1", log)
    machine.until(lambda: machine.show("ntx-agent", "ActiveState") == "active", log)
    machine.run("systemctl", "stop", "ntx-agent")

    assert machine.show("ntx-agent", "MainPID") != before
    assert "Watchdog timeout" in log()
    machine.run(*AS_NTX.split(), NTX, "verify", "--all", "--repository", REPOSITORY)
