"""A booted machine with a simulated cluster, and the agent as its service: put there by hand, for tests of the unit."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ntxengine.deploy.needs import Needs
from ntxengine.deploy.unit import DROP_INS, UNIT, Filled, drop_ins, unit_text
from tests.support.booted import ENGINE, Booted, booted, engine_there, python_there

NTX = Path("/opt/lab/bin/ntx")
"""For tests of the unit alone, and for the simulator: this source tree."""
CONFIG = Path("/etc/ntx/agent.yaml")
REPOSITORY = Path("/backups")
UNITS = Path("etc/systemd/system")

FILE = """
nutanix: {{prism_central: {central}, username: {username}, ca_file: /etc/ntx/ca.pem}}
backup: {{repository: /backups, worker: {worker}, device_dir: {devices}, compress: zstd}}
performance: {{bandwidth: 1M}}
jobs: [{{name: all, vms: ["*"], every: 1d, retention: {{keep_last: 3}}}}]
"""


class Served(Booted):
    """A booted machine with the agent as a service; `repository` is its repository, seen from here."""

    repository: Path

    def points(self) -> list[Path]:
        """Return the folders of the points that are whole."""
        found = self.repository.glob("*/*/point.json")
        return [path.parent for path in found if not path.parent.name.startswith(".")]


AS_NTX = "setpriv --reuid=ntx --regid=ntx --clear-groups"

PREPARE = f"""
useradd --system --user-group --home-dir /var/lib/ntx --shell /usr/sbin/nologin ntx
chown ntx:ntx {REPOSITORY}
chmod 700 {REPOSITORY}
install -d /etc/ntx
install -d -o ntx /srv
install -d -m 700 /etc/credstore
cd /srv
NTX_SIM_PORT=0 {AS_NTX} {NTX} sim --state lab --detach
install -m 644 lab/tls/ca.pem /etc/ntx/ca.pem
install -m 600 lab/password /etc/credstore/ntx-password
"""


@contextlib.contextmanager
def xfs(folder: Path) -> Iterator[Path]:
    """A file system that shares blocks and reads past the page cache, mounted."""
    image, at = folder / "xfs.img", folder / "xfs"
    with open(image, "wb") as file:
        file.truncate(400 << 20)
    at.mkdir()
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


def put_ntx(machine: Booted) -> None:
    """Put `ntx` where the unit starts it: this source tree, with the libraries of these tests."""
    program = machine.root / NTX.relative_to("/")
    program.parent.mkdir(parents=True)
    path = f"{ENGINE}/src:{ENGINE}/site"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {python_there()} -m ntxengine "$@"\n')
    program.chmod(0o755)


def put_unit(machine: Booted, needs: Needs) -> None:
    folder = machine.root / UNITS
    (folder / UNIT).write_text(unit_text(Filled(NTX, CONFIG)))
    (folder / DROP_INS).mkdir()
    for name, text in drop_ins(needs).items():
        (folder / DROP_INS / name).write_text(text)


def lab(machine: Booted) -> dict[str, str]:
    """Return the variables of the simulated cluster."""
    lines = (machine.root / "srv/lab/connect.env").read_text().splitlines()
    return {
        name: value.strip("'\"") for name, _, value in (line.removeprefix("export ").partition("=") for line in lines)
    }


@contextlib.contextmanager
def prepared(folder: Path) -> Iterator[Served]:
    """A machine with a simulated cluster, and a configuration for the agent; no agent is there."""
    with xfs(folder) as disk, booted(folder / "machine", engine_there(), {REPOSITORY: disk}) as machine:
        served = Served(machine.root, machine.leader)
        served.repository = disk
        put_ntx(served)
        served.shell(PREPARE)
        found = lab(served)
        text = FILE.format(
            central=found["NTX_PRISM"].removeprefix("https://"),
            username=found["NTX_USERNAME"],
            worker=found["NTX_WORKER"],
            devices=found["NTX_DEVICE_DIR"],
        )
        (served.root / CONFIG.relative_to("/")).write_text(text)
        yield served


@contextlib.contextmanager
def with_agent(folder: Path) -> Iterator[Served]:
    """That, and the unit; the agent is not started yet."""
    with prepared(folder) as machine:
        put_unit(machine, Needs((REPOSITORY,)))
        machine.run("systemctl", "daemon-reload")
        yield machine
