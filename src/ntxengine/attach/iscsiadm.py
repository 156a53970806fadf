"""The initiator of the kernel, by iscsiadm: the disk is a block device.

    iface and node record --> login --> /dev/disk/by-path/ip-<portal>-iscsi-<target>-lun-<n> --> logout, records deleted

iscsiadm takes a value in its arguments alone, which anybody can read, so the CHAP secret goes into the node's record
without it: that is a file of root's alone, in /etc/iscsi/nodes or /var/lib/iscsi/nodes, and is deleted at the end.

LIMIT: after a SIGKILL of ours the session, and its record with the secret, stay; the session ends for good when
`ntx sweep` has removed the volume group, and `iscsiadm -m node -T TARGET -u` ends it here.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from ntxengine.attach.base import file_location, taken_away
from ntxengine.attach.device import wait_for_device
from ntxengine.attach.export import Export
from ntxengine.attach.initiator import Initiator, Waiting
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import AttachError, ToolError
from ntxengine.images import process
from ntxengine.images.served import IscsiLun

BY_PATH = Path("/dev/disk/by-path")
RECORDS = (Path("/etc/iscsi/nodes"), Path("/var/lib/iscsi/nodes"))
MODULES = Path("/sys/module")

_COMMAND_TIMEOUT_S = 60.0
_LOGOUT_TIMEOUT_S = 120.0
_END = "# END RECORD"
_NOTHING_THERE = re.compile(r"No (?:matching sessions|records|active sessions)|not found", re.IGNORECASE)


class Kernel(Initiator):
    """iscsiadm, iscsid and the kernel's modules."""

    def __init__(
        self,
        waiting: Waiting,
        *,
        by_path: Path = BY_PATH,
        records: tuple[Path, ...] = RECORDS,
        modules: Path = MODULES,
    ) -> None:
        super().__init__(waiting)
        self._by_path = by_path
        self._records = records
        self._modules = modules

    async def missing(self) -> str:
        """Return what is not there."""
        if lacking := process.missing("iscsiadm"):
            return lacking
        if not (self._modules / "iscsi_tcp").is_dir():
            return "the kernel has no iSCSI initiator: modprobe iscsi_tcp"
        return "" if os.geteuid() == 0 else "the kernel's iSCSI initiator is for root alone"

    @asynccontextmanager
    async def open(self, lun: IscsiLun) -> AsyncIterator[Export]:
        """As Initiator.open."""
        interface = f"ntx-{hashlib.sha256(lun.initiator.encode()).hexdigest()[:8]}"
        node = ("-m", "node", "-T", lun.target, "-p", lun.portal, "-I", interface)
        async with taken_away(
            partial(self._forget, node, interface), partial(_not_forgotten, lun), timeout_s=_LOGOUT_TIMEOUT_S
        ):
            for arguments in (
                (*_interface(interface), "-o", "new"),
                (*_interface(interface), "-o", "update", "-n", "iface.initiatorname", "-v", lun.initiator),
                (*node, "-o", "new"),
            ):
                await _iscsiadm("preparing the login", lun.label, *arguments)
            await to_thread_joined(self._write_secret, lun, interface)
            await _iscsiadm("logging in", lun.label, *node, "--login")
            yield await self._device(lun)

    async def _forget(self, node: tuple[str, ...], interface: str) -> None:
        """Log out and delete the records; what is not there is no reason to leave the rest."""
        failures: list[ToolError] = []
        for arguments in ((*node, "--logout"), (*node, "-o", "delete"), (*_interface(interface), "-o", "delete")):
            try:
                await _iscsiadm("logging out", node[3], *arguments)
            except ToolError as error:
                if not _NOTHING_THERE.search(str(error)):
                    failures.append(error)
        if failures:
            raise failures[0]

    def _write_secret(self, lun: IscsiLun, interface: str) -> None:
        """Put into the record of the node how we prove ourselves.  Errors: AttachError."""
        ours = f"iface.iscsi_ifacename = {interface}\n"
        lines = (
            "node.session.auth.authmethod = CHAP",
            f"node.session.auth.username = {lun.initiator}",
            f"node.session.auth.password = {lun.secret}",
        )
        try:
            for path in (path for folder in self._records for path in (folder / lun.target).rglob("*")):
                if path.is_file() and ours in (text := path.read_text()):
                    path.chmod(0o600)
                    path.write_text(text.replace(_END, "\n".join((*lines, _END))))
                    return
        except OSError as error:
            raise AttachError(f"{lun.label}: the record of the login cannot be written: {error}") from error
        folders = " or ".join(map(str, self._records))
        raise AttachError(f"{lun.label}: iscsiadm made no record of the login in {folders}")

    async def _device(self, lun: IscsiLun) -> Export:
        """Wait until the disk can be read here.  Errors: AttachError."""
        suffix = f"-iscsi-{lun.target}-lun-{lun.lun}"
        appear_s = self.waiting.appear_s
        found = await wait_for_device(self._by_path, suffix.lower(), timeout_s=appear_s, poll_s=self.waiting.poll_s)
        if found is None:
            raise AttachError(
                f"{lun.label}: logged in, and no device named ...{suffix} of a size above 0 appeared in "
                f"{self._by_path} within {appear_s:g} s"
            )
        device, size = found
        return Export(file_location(device), size)


def _not_forgotten(lun: IscsiLun, error: BaseException) -> str:
    return f"{lun.label}: the kernel is still logged in: {error}; `iscsiadm -m node -T {lun.target} -u` ends it"


def _interface(name: str) -> tuple[str, ...]:
    return ("-m", "iface", "-I", name)


async def _iscsiadm(action: str, subject: str, *arguments: str) -> None:
    """Errors: ToolError with what it says."""
    await process.run("iscsiadm", *arguments, action=action, path=subject, timeout_s=_COMMAND_TIMEOUT_S)
