"""NFS: the file of the disk is read from a controller VM, by qemu itself; nothing is mounted on this machine.

    the CVM of the VM's host, or who was named  <--NFS 3, read-only--  qemu-nbd  -->  NBD, on a socket of our own

The folder that holds the file is mounted by qemu, below the export of its storage container, so rpcbind (TCP 111) and
mountd (TCP 20048 to 20050) have to be open too.  The path comes from outside: it is plain names, and no part of it is
parsed.
"""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from ntxengine.attach.base import (
    YES,
    Attached,
    Attacher,
    AttachOptions,
    Locality,
    Verdict,
    called,
    check_size,
    is_plain_name,
    judge_containers,
)
from ntxengine.attach.container import checked_path
from ntxengine.attach.export import START_TIMEOUT_S, Export, export_of
from ntxengine.attach.tried import Tried
from ntxengine.concurrency.names import addresses_of
from ntxengine.errors import AttachError, MissingProgram, OptionsError, ToolError
from ntxengine.images import process, qemu_img
from ntxengine.images.qemu_nbd import StartTimeout
from ntxengine.images.served import NfsFile
from ntxengine.prism.cluster import Prism, cvm_of, nfs_server_of
from ntxengine.prism.findings import Findings
from ntxengine.prism.models import DiskPoint, Vm

LOOK_TIMEOUT_S = 15.0
"""A server whose allow-list lacks this machine often just does not answer."""

PORT, PORTMAPPER_PORT, MOUNT_PORT = 2049, 111, 20048
PORTS = f"TCP {PORTMAPPER_PORT}, {PORT} and {MOUNT_PORT} to 20050"

_RESOLVE_TIMEOUT_S = 2.0
"""For an address in a message of an error, which has waited its time before."""
_ABSENT_FILE = ".ntx-no-such-file"
_V6 = "[0-9A-Fa-f]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*"
_HOST = re.compile(rf"[^\s/@\[\],?#:]+|{_V6}|\[{_V6}\]")
_ABSENT = re.compile("NFS3ERR_NOENT")
_REFUSED = re.compile("MNT3ERR_ACCES|MNT3ERR_PERM|NFS3ERR_ACCES|NFS3ERR_PERM|Permission denied")
_NO_EXPORT = re.compile("MNT3ERR_NOENT|MNT3ERR_NOTDIR")


class NfsExport(Attacher):
    """The exports of the cluster's storage containers."""

    name = "nfs"
    title = "NFS"

    def __init__(
        self,
        prism: Prism,
        options: AttachOptions,
        *,
        look_timeout_s: float = LOOK_TIMEOUT_S,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        super().__init__(prism, options)
        self._look_timeout_s = look_timeout_s
        self._start_timeout_s = start_timeout_s
        self._tried: Tried[str] = Tried()
        self._servers: dict[str, tuple[str, Locality]] = {}

    async def can_serve(self, findings: Findings) -> Verdict:
        """Say whether there are paths to follow, and qemu can follow them."""
        if not findings.tells_paths:
            return Verdict("this Prism tells no paths on the cluster's storage (v4 does not)")
        server_named(self.options)
        return Verdict(await qemu_img.no_driver("nfs"))

    async def can_serve_vm(self, vm: Vm) -> Verdict:
        """Say whether the export of each container, where Prism names it, can be read from here."""
        server = server_named(self.options) or await nfs_server_of(self.prism, vm)
        if not server:
            return Verdict(
                f"Prism tells no address of a controller VM of {await called(self.prism, vm.cluster_id)}: give one "
                f"(--nfs-server HOST)"
            )
        look = partial(export_problem, server, timeout_s=self._look_timeout_s)
        verdict = await judge_containers(vm, lambda name: self._tried.get((server, name), partial(look, name)))
        if not verdict:
            return verdict
        is_cvm = any(host.cvm_address == server for host in await self.prism.hosts(vm.cluster_id))
        locality = Locality.between(server, await cvm_of(self.prism, vm)) if is_cvm else Locality(host=server)
        self._servers |= {disk.id: (server, locality) for disk in vm.disks}
        return YES

    def locality(self, vm: Vm) -> Locality:
        """Compare the server with the CVM of the host that the VM was on."""
        known = (self._servers[disk.id][1] for disk in vm.disks if disk.id in self._servers)
        return next(known, Locality())

    @asynccontextmanager
    async def attach(self, disk_point: DiskPoint, size: int) -> AsyncIterator[Attached]:
        """Give an export of the disk's file; the server of it here is ended on exit."""
        server, locality = self._servers.get(disk_point.disk_id, (server_named(self.options), Locality()))
        if not server:
            raise AttachError(f"disk {disk_point.disk_id} was not there when its VM was looked at; try again")
        file = NfsFile(server, f"/{checked_path(disk_point)}")
        async with AsyncExitStack() as stack:
            export = await self._open(stack, file)
            check_size(file.label, export.size, size)
            yield Attached(export.location, locality)

    async def _open(self, stack: AsyncExitStack, file: NfsFile) -> Export:
        """Errors: AttachError that says what to do."""
        try:
            return await stack.enter_async_context(export_of(file, timeout_s=self._start_timeout_s))
        except StartTimeout as error:
            silent = await _silent(file.server, self._start_timeout_s)
            raise AttachError(f"cannot read {file.label}: {silent}") from error
        except ToolError as error:
            words = str(error)
            if _ABSENT.search(words) or _NO_EXPORT.search(words):
                problem = "there is no such file: was the snapshot deleted meanwhile?"
            elif _REFUSED.search(words):
                problem = await self._refusal(file)
            else:
                raise AttachError(f"cannot read {words}") from error
            raise AttachError(f"cannot read {file.label}: {problem}") from error

    async def _refusal(self, file: NfsFile) -> str:
        """Tell a container that refuses us from a folder that is not there: some servers say the same of both."""
        container = file.path.split("/")[1]
        return await export_problem(file.server, container, timeout_s=self._look_timeout_s) or (
            f"storage container {container!r} can be read, and this file cannot: was the snapshot deleted meanwhile?"
        )


def server_named(options: AttachOptions) -> str:
    """Return the server that a person named, "" if none; an IPv6 address loses its brackets.  Errors: OptionsError."""
    named = options.nfs_server
    if named and not _HOST.fullmatch(named):
        raise OptionsError(f"--nfs-server: {named[:80]!r} is not the name or address of a host")
    return named.strip("[]")


async def export_problem(server: str, container: str, *, timeout_s: float = LOOK_TIMEOUT_S) -> str:
    """Return why a storage container cannot be read from here over NFS, "" if it can.

    Asks for a file that nobody has: that it is not there can only be said by who lets us in.
    Errors: MissingProgram, NoDriver.
    """
    if not is_plain_name(container):
        return "its name cannot be that of an export"
    file = NfsFile(server, f"/{container}/{_ABSENT_FILE}")
    try:
        await process.run("qemu-img", "info", "--", file.node(), action="looking", path=file.label, timeout_s=timeout_s)
    except (MissingProgram, process.NoDriver):
        raise
    except ToolError as error:
        words = str(error)
        if _ABSENT.search(words):
            return ""
        if isinstance(error.__cause__, TimeoutError):
            return await _silent(server, timeout_s)
        if _REFUSED.search(words):
            return (
                f"its export on {server} refuses this machine: add {as_listed(await own_address(server))} to the "
                f"allow-list of the container (Prism: Storage, container, Update, Filesystem Whitelists), which the "
                f"cluster's list then no longer applies to"
            )
        if _NO_EXPORT.search(words):
            return f"{server} does not export it"
        return f"no NFS from {server}: is it a controller VM, and are {PORTS} open? ({_last(words)})"
    return ""


async def _silent(server: str, timeout_s: float) -> str:
    return (
        f"no answer from {server} in {timeout_s:g} s: let {PORTS} through, and this machine "
        f"({await own_address(server)}) be in the allow-list of the container"
    )


async def own_address(server: str, *, timeout_s: float = _RESOLVE_TIMEOUT_S) -> str:
    """Return the address of this machine that a server would see, or words for it.  Nothing is sent to it."""
    try:
        address = (await addresses_of(server, timeout_s))[0]
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as ours:
            ours.connect((address, PORT))
            return str(ours.getsockname()[0])
    except OSError:  # a time-out is one
        return "the address of this machine"


def as_listed(address: str) -> str:
    """Return an address as an allow-list has it.  LIMIT: Prism documents the form of IPv4 alone."""
    return f"{address}/255.255.255.255" if address.count(".") == 3 else address


def _last(words: str) -> str:
    """Return the end of what a program says: the cause."""
    return words.rsplit(": ", 1)[-1].strip()
