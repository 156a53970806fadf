"""A real iSCSI target (tgtd) for tests, and a cluster that makes volume groups with it."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ntxengine.prism.models import ClusterFacts, DiskPoint, VolumeGroup
from tests.support.servers import START_S, SYSTEM_PATH, require

IQN = "iqn.2010-06.com.nutanix:"


class Tgtd:
    """A tgtd at `portal`; targets are made and removed by its own tgtadm."""

    def __init__(self, folder: Path, portal: str) -> None:
        self.portal = portal
        self._folder = folder
        self._tids: dict[str, str] = {}
        self._numbers = itertools.count(1)

    def add_target(self, target: str, *, user: str = "", secret: str = "", file: Path | None = None) -> None:
        """Offer a target to the initiator `user` alone, with the file as LUN 1."""
        tid = self._tids[target] = str(next(self._numbers))
        self.tell("new", "target", "--tid", tid, "-T", target)
        if file is not None:
            self.add_lun(target, file)
        if secret:
            self.tell("new", "account", "--user", user, "--password", secret)
            self.tell("bind", "account", "--tid", tid, "--user", user)
        if user:
            self.tell("bind", "target", "--tid", tid, "-Q", user)

    def redirect(self, target: str, portal: str) -> None:
        """Hand each login on to another portal, as a cluster's data services do."""
        host, port = portal.rsplit(":", 1)
        for name, value in (("RedirectAddress", host), ("RedirectPort", port), ("RedirectReason", "Temporary")):
            self.tell("update", "target", "--tid", self._tids[target], "--name", name, "--value", value)

    def add_lun(self, target: str, file: Path) -> None:
        tid = self._tids[target]
        self.tell("new", "logicalunit", "--tid", tid, "--lun", "1", "-b", str(file))
        self.tell("update", "logicalunit", "--tid", tid, "--lun", "1", "--params", "thin_provisioning=1")

    def remove_target(self, target: str) -> None:
        if target in self._tids:
            self.tell("delete", "target", "--tid", self._tids.pop(target), "--force")

    def sessions(self, target: str) -> str:
        """Return who is logged in, in the words of tgtadm."""
        return self.tell("show", "conn", "--tid", self._tids[target])

    def tell(self, verb: str, mode: str, *arguments: str) -> str:
        command = ["tgtadm", "-C", "0", "--lld", "iscsi", "--op", verb, "--mode", mode, *arguments]
        done = subprocess.run(command, env=_environment(self._folder), capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": SYSTEM_PATH, "TGT_IPC_SOCKET": str(folder / "tgtd")}


def own_address() -> str:
    """Return a loopback address of this process alone, for a server at a well-known port."""
    return f"127.77.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"


@contextlib.contextmanager
def tgtd(folder: Path, *, port: int = 3260) -> Iterator[Tgtd]:
    """Serve; whatever it serves is gone at the end."""
    require("setpriv", "tgtd")
    portal = f"{own_address()}:{port}"
    with open(folder / "tgtd.log", "wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "tgtd", "-f", "-C", "0", "-t", "1", "--iscsi", f"portal={portal}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(folder),
        )
    try:
        _wait_for(portal, process)
        yield Tgtd(folder, portal)
    finally:
        process.kill()  # one that has targets ignores anything else
        process.wait()


def _wait_for(portal: str, process: subprocess.Popen[bytes]) -> None:
    host, port = portal.rsplit(":", 1)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "tgtd has ended: run scripts/install-packages.sh test"
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return
        time.sleep(0.01)
    raise RuntimeError("tgtd does not answer")


@contextlib.contextmanager
def silent_server(host: str = "127.0.0.1", port: int = 0) -> Iterator[tuple[str, int]]:
    """Take connections and say nothing; yields the address."""
    with socket.create_server((host, port)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(server.accept()[0])

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield server.getsockname()[:2]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in taken:
            each.close()


@dataclass
class VolumeGroupsOf:
    """A Prism that has nothing but volume groups, made by a tgtd of the files of disk points."""

    server: Tgtd
    files: dict[str, Path]
    no_volume_groups: str = ""
    family: str = "v4"
    address: str | None = None
    groups: dict[str, VolumeGroup] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    initiators: list[str] = field(default_factory=list)
    offers_disk: bool = True
    change_secret: Callable[[str], str] = str
    change_initiator: Callable[[str], str] = str

    async def cluster(self, cluster_id: str) -> ClusterFacts:
        return ClusterFacts(cluster_id, name="prod")

    async def data_services(self, cluster_id: str) -> str:
        return self.server.portal.rpartition(":")[0] if self.address is None else self.address

    async def make_volume_group(self, disk: DiskPoint, *, name: str, cluster_id: str, secret: str) -> VolumeGroup:
        self.calls.append("make")
        group = VolumeGroup(f"id-{name}", name, cluster_id, IQN + name.lower(), 1)
        self.groups[group.id] = group
        self.secrets[group.id] = secret
        self.files[group.id] = self.files[disk.id]
        return group

    async def admit_initiator(self, group: VolumeGroup, initiator: str, secret: str) -> None:
        self.calls.append("admit")
        self.initiators.append(initiator)
        self.server.add_target(
            self.groups[group.id].target,
            user=self.change_initiator(initiator),
            secret=self.change_secret(secret),
            file=self.files[group.id] if self.offers_disk else None,
        )

    async def volume_groups(self, name_prefix: str) -> list[VolumeGroup]:
        return [group for group in self.groups.values() if group.name.startswith(name_prefix)]

    async def remove_volume_group(self, group: VolumeGroup) -> None:
        self.calls.append("remove")
        self.removed.append(group.name)
        if self.groups.pop(group.id, None) is not None:
            self.server.remove_target(group.target)
