"""Exports of the VM of a lab, and the copies that a control plane makes of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ntxengine.capture import CaptureOptions
from ntxengine.export.options import ExportOptions, NotifyOptions, PortOptions, ServerTls, Way
from ntxengine.export.workflow import Exported, export
from tests.capture.lab import Lab, Witness
from tests.export.receiver import Client, Notification, Receiver
from tests.support.pki import Pki
from tests.support.processes import processes
from tests.support.ssh import free_port


class Exporting:
    """The state folder is the repository of the lab, which has no points."""

    def __init__(self, lab: Lab, pki: Pki, receiver: Receiver, folder: Path) -> None:
        self.lab = lab
        self.pki = pki
        self.receiver = receiver
        self.client = Client(pki)
        self.witness = Witness()
        self.copies = folder / "copies"
        self.copies.mkdir()
        receiver.then = self.take_whole

    def tls(self) -> ServerTls:
        folder = self.pki.folder
        return ServerTls(folder / "ca-cert.pem", folder / "server-cert.pem", folder / "server-key.pem")

    def ports(self, first: int = 0, last: int = 0) -> PortOptions:
        first = first or free_port()
        return PortOptions("127.0.0.1", (first, last or min(first + 40, 65535)), self.tls(), "127.0.0.1")

    def take_whole(self, notification: Notification) -> None:
        """Pull everything, and say so."""
        self.client.pull(notification, self.copies)
        answer = self.client.done(notification)
        assert answer.status_code == 200, answer.text

    async def run(
        self,
        *,
        since: str = "",
        way: Way | None = None,
        notify: dict[str, Any] | None = None,
        time_limit_s: float = 60,
        **capture: Any,
    ) -> Exported:
        self.witness = self.lab.make_witness()
        return await export(
            self.lab.prism,
            self.lab.repository,
            await self.lab.prism.vm(self.lab.vm_id),
            options=ExportOptions(
                way or self.ports(),
                NotifyOptions(self.receiver.url, ca=self.pki.ca_file, **(notify or {})),
                since=since,
                time_limit_s=time_limit_s,
                capture=CaptureOptions(**{"on_lost_tracking": "full", **capture}),
            ),
            attacher=self.lab.attacher,
            on_event=self.witness,
        )

    def copied(self) -> list[bytes]:
        """Return the copies of the control plane, in the order of the guest's disks."""
        return [path.read_bytes() for path in sorted(self.copies.iterdir(), key=lambda path: path.name)]

    def assert_clean(self, *, kept: list[str]) -> None:
        """Check that the cluster holds these recovery points of ours alone, and nothing is served or attached."""
        held = {point.id for point in self.lab.sim.world.state.points.values()}
        assert held == set(kept)
        assert self.lab.hot_added() == []
        assert self.lab.volume_groups() == []
        assert servers() == []


def servers() -> list[int]:
    """Return the process ids of the qemu-nbd that this process has started."""
    return [each.pid for each in processes() if each.parent == os.getpid() and "qemu-nbd" in each.words[0]]
