"""What an attacher is: one way to make the bytes of a disk recovery point readable here.

A way is a class below `Attacher`, in a file of its own, with a row in `ATTACHERS` (attach/__init__.py).
"""

from __future__ import annotations

import logging
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ntxengine.concurrency.completion import call_with_timeout, run_to_completion
from ntxengine.dataplane.location import Location
from ntxengine.errors import AttachError, NtxError, OptionsError
from ntxengine.prism.cluster import Prism
from ntxengine.prism.findings import Findings
from ntxengine.prism.models import DiskPoint, Vm
from ntxengine.tunnel.options import SshGateway

log = logging.getLogger(__name__)

DEVICE_DIR = Path("/dev/disk/by-id")
FOLDER_TIMEOUT_S = 10.0
AUTO = "auto"


@dataclass(frozen=True)
class AttachOptions:
    """What a person may say of the ways to the bytes.  Each attacher takes what it needs.

    `worker_id` is this machine as a VM of the cluster, "" if it is none; `device_dir` is where disks that are added to
    it appear.  `containers` has each storage container mounted under its name, None if none is mounted.  `source` is
    the `Attacher.name` of the only way that may be used; AUTO takes the first that can serve.

    `gateway`: what is asked over the network is asked from that ssh server; only ways that can are used.
    `nfs_server` (`host`) and `data_services` (`host[:port]`) are asked by NFS and iSCSI, "": those that Prism tells.
    """

    worker_id: str = ""
    device_dir: Path = DEVICE_DIR
    containers: Path | None = None
    source: str = AUTO
    nfs_server: str = ""
    data_services: str = ""
    gateway: SshGateway | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether a way can be used: true, or false with the reason, which says what to do."""

    reason: str = ""

    def __bool__(self) -> bool:
        return not self.reason


YES = Verdict()


@dataclass(frozen=True)
class Locality:
    """Whether the bytes are read on the host that the VM runs on; `host` is where they are read, "" if unknown."""

    kind: Literal["local", "remote", "unknown"] = "unknown"
    host: str = ""

    @classmethod
    def between(cls, reader: str | None, owner: str | None) -> Locality:
        """Compare the host that reads with the host of the VM."""
        if not reader or not owner:
            return cls("unknown", reader or "")
        return cls("local" if reader == owner else "remote", reader)


@dataclass(frozen=True)
class Attached:
    """A disk that can be read here: a file, a block device or an NBD export."""

    location: Location
    locality: Locality = Locality()


@dataclass(frozen=True)
class Trace:
    """What is recorded of one capture: the VM that disks were added to, "" if none were, and the `DiskPoint.id`s.

    `name` is that of its recovery point, `source` the `Attacher.name` of its way; "" where an older ntx recorded none.
    """

    worker_id: str
    sources: tuple[str, ...]
    name: str = ""
    source: str = ""


@dataclass(frozen=True)
class Leftover:
    """Something that a killed capture left attached; `kind` and `id` as `ntx sweep` shows them.

    `protection` says why Prism does not delete it when it is told to (then PrismProtected is raised), "" if it does.
    """

    kind: str
    id: str
    name: str
    remove: Callable[[], Awaitable[None]]
    protection: str = ""


@dataclass(frozen=True)
class Leftovers:
    """What was found, and the places that could not be looked at, with the reason."""

    found: tuple[Leftover, ...] = ()
    unseen: tuple[tuple[str, NtxError], ...] = ()


@dataclass(frozen=True)
class History:
    """What is known of captures, to tell the disks of a VM from those that captures added to it.

    `recorded`: what such disks come from, with the name of its recovery point.  `own_disk_ids`: disks that the VM had
    in its previous point.  All recovery points of captures have names that begin with `name_prefix`.
    """

    recorded: Mapping[str, str]
    own_disk_ids: frozenset[str]
    name_prefix: str


class Attachers(Protocol):
    """Whoever says, for each VM, who attaches its disks: an attacher itself, or the first of several that can."""

    async def for_vm(self, vm: Vm, warn: Callable[[str], None]) -> Attacher:
        """Return who attaches the disks of this VM.  Errors: AttachError that says why nobody can, PrismError."""
        ...


class Attacher(ABC):
    """One way to the bytes.

    `name` is the word of `--source`, and what is recorded; `title` is what people call it; `worker_id` is the VM that
    it adds disks to, "" if none.  `makes_clones`: something is made on the cluster for each disk that is attached.
    `can_tunnel`: it knows what to do with `AttachOptions.gateway`.
    """

    name: str
    title: str
    worker_id: str = ""
    makes_clones: bool = False
    can_tunnel: bool = False

    def __init__(self, prism: Prism, options: AttachOptions) -> None:
        self.prism = prism
        self.options = options

    @abstractmethod
    async def can_serve(self, findings: Findings) -> Verdict:
        """Say whether this way can be used here, as far as that can be said before there is a recovery point.

        Errors: OptionsError (it could be used, and what it was told is wrong).
        """

    @abstractmethod
    def attach(self, disk_point: DiskPoint, size: int) -> AbstractAsyncContextManager[Attached]:
        """Give what holds exactly the disk as it was; take it away on exit.

        Units:  size in bytes, what the disk must have.
        Errors: AttachError (what was attached is not readable, or has another size), PrismError.
        """

    async def can_serve_vm(self, vm: Vm) -> Verdict:
        """Say, before anything is made, whether the disks of this VM can be attached.  Errors: PrismError."""
        return YES

    async def for_vm(self, vm: Vm, warn: Callable[[str], None]) -> Attacher:
        """As Attachers.for_vm: this one."""
        if verdict := await self.can_serve_vm(vm):
            return self
        raise AttachError(verdict.reason)

    def locality(self, vm: Vm) -> Locality:
        """Say where the bytes of this VM would be read, as far as `can_serve_vm` found out."""
        return Locality()

    async def leftovers(self, trace: Trace) -> Leftovers:
        """Return what a killed capture left attached.  Nothing but what is recorded is ever found.

        Asked where `trace.source` is this way, or was not recorded.
        """
        return Leftovers()

    async def added_disks(self, vm: Vm, history: History) -> dict[str, str]:
        """Return what to say of each disk of `vm` that a capture added to it, by disk id.  Errors: PrismError."""
        return {}


class NotOurs(AttachError):
    """What was attached may be somebody else's: it is not taken away."""


class WrongSize(AttachError):
    """What was attached has another size than the disk in the recovery point."""


def file_location(path: Path) -> Location:
    """Return the location of a file or block device."""
    return Location("file", str(path), path=str(path))


def is_plain_name(name: str) -> bool:
    """Return whether a name can be that of a folder or a file: none that leads elsewhere."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


async def called(prism: Prism, cluster_id: str) -> str:
    """Return what messages call a cluster: also by its name, where Prism tells that."""
    name = (await prism.cluster(cluster_id)).name
    return f"cluster {name!r} ({cluster_id})" if name else f"cluster {cluster_id}"


async def judge_containers(vm: Vm, problem_of: Callable[[str], Awaitable[str]]) -> Verdict:
    """Say whether the storage container of each disk of a VM, where Prism names it, can be read.

    `problem_of` returns why one cannot be, "" if it can.
    """
    for name in sorted({disk.container_name for disk in vm.disks if disk.container_name}):
        if problem := await problem_of(name):
            return Verdict(f"storage container {name!r}, which holds disks of VM {vm.name!r} ({vm.id}): {problem}")
    return YES


async def check_folder(path: Path, option: str) -> None:
    """Refuse what is no directory.  A dead mount shows when a disk is attached.  Errors: OptionsError."""
    with suppress(TimeoutError):
        if not await call_with_timeout(path.is_dir, FOLDER_TIMEOUT_S):
            raise OptionsError(f"{option}: {path}: there is no such directory")


def readable_size(path: Path) -> int:
    """Return the bytes of a regular file or block device that can be opened for reading.

    Errors: OSError; AttachError if it is neither.
    """
    # Not blocking: a FIFO in the place of a file must not hold us up.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return status.st_size
        if stat.S_ISBLK(status.st_mode):
            return os.lseek(descriptor, 0, os.SEEK_END)
        raise AttachError(f"cannot read {path}: it is neither a regular file nor a block device")
    finally:
        os.close(descriptor)


@asynccontextmanager
async def taken_away(
    remove: Callable[[], Coroutine[None, None, None]], complaint: Callable[[BaseException], str], *, timeout_s: float
) -> AsyncIterator[None]:
    """Take away what was attached when the block is left, however it is left, and also when cancelled.

    What stays because of a failure of that is warned of when the block failed too.  NotOurs leaves it where it is.
    Errors: AttachError with the complaint.
    """

    async def removed() -> None:
        try:
            await remove()
        except NtxError as error:  # here, as who is cancelled meanwhile is told of it too
            raise AttachError(complaint(error)) from error

    async def finished() -> None:
        try:
            await run_to_completion(removed(), timeout_s=timeout_s)
        except TimeoutError as error:
            raise AttachError(complaint(error)) from error

    try:
        yield
    except NotOurs:
        raise
    except BaseException:
        try:
            await finished()
        except AttachError as error:
            log.warning("%s", error)
        raise
    await finished()


def check_size(path: Path | str, found: int, expected: int) -> None:
    """Refuse a disk that has another size than the recovery point."""
    if found != expected:
        raise WrongSize(
            f"{path} has {found} bytes, but the disk in the recovery point has {expected}: this is not that disk, or "
            f"its size was changed while it was captured; nothing was copied from it, try again"
        )
